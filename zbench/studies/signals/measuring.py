"""Instruments of the study, and what they say about pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zbench.metrics.collapse import CollapseThresholds, SetSignals, Verdict, set_signals, signals, verdict
from zbench.statistics import Rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from zbench.detectors.base import Detector
    from zbench.metrics.clip import Clip
    from zbench.stages.samples import Sample, SamplesView


class Instruments:
    """Thresholds, detector and features of the study.

    Args:
        thresholds: Calibrated on the original's pictures.
        detector: Tells unrelated objects apart.
        clip: Features of the set signals.
    """

    def __init__(self, thresholds: CollapseThresholds, detector: Detector, clip: Clip) -> None:
        self.thresholds, self.detector, self.clip = thresholds, detector, clip

    def flagged(self, pictures: Tensor) -> NDArray[np.bool_]:
        """Which pictures any rule flags, bool [N]."""
        return self.thresholds.collapsed(signals(pictures))

    def rules(self, pictures: Tensor) -> dict[str, int]:
        """How many pictures each rule flags, those that flag any."""
        found = self.thresholds.flags(signals(pictures))
        return {rule: int(hits.sum()) for rule, hits in found.items() if hits.any()}

    def objects(self, view: SamplesView) -> Rate:
        """Pictures whose object has the highest score of its family."""
        found = self.object_hits(view)
        return Rate.of([hit for _, hit in found], [prompt for prompt, _ in found])

    def object_hits(self, view: SamplesView) -> list[tuple[str, bool]]:
        """Prompt id and outcome of every picture whose object the detector knows, see `objects`."""
        record, scores = self.detector.record(""), self.detector.scores(view.pictures)
        rows = [row for row, sample in enumerate(view.samples) if record.rivals(sample.object or "")]
        hits = [bool(record.top(scores[[row]], view.samples[row].object or "")[0]) for row in rows]
        return [(view.samples[row].prompt_id, hit) for row, hit in zip(rows, hits, strict=True)]

    def chance(self, samples: Sequence[Sample]) -> float:
        """What guessing within the family reaches."""
        record = self.detector.record("")
        families = [len(record.rivals(sample.object or "")) for sample in samples]
        known = [1 / size for size in families if size]
        return sum(known) / len(known) if known else 0.0

    def judged(self, view: SamplesView, original: SamplesView) -> tuple[dict[str, Any], Verdict]:
        """All signals of a set beside the original's of the same prompts and seeds, and the verdict."""
        prompts = [sample.prompt_id for sample in view.samples]
        flags = Rate.of(self.flagged(view.pictures).tolist(), prompts)
        accuracy, chance = self.objects(view), self.chance(view.samples)
        beside = set_signals(self.clip.extract(view.pictures), self.clip.extract(original.pictures), prompts)
        found = verdict(flags, accuracy, chance, beside)
        return {
            "flagged": rate_row(flags),
            "objects": rate_row(accuracy),
            "chance": chance,
            "sets": sets_row(beside),
            **found.describe(),
        }, found


def rate_row(rate: Rate) -> dict[str, Any]:
    """N of N with the 95 % interval, plain."""
    bounds = rate.interval()
    return {
        "n": rate.successes,
        "N": rate.total,
        "low": None if bounds is None else bounds.low,
        "high": None if bounds is None else bounds.high,
    }


def sets_row(found: SetSignals) -> dict[str, Any]:
    """Set signals, plain; rates with their intervals."""
    ratios = found.describe()
    return ratios | {
        "precision": rate_row(found.precision),
        "precision_original": rate_row(found.precision_original),
    }
