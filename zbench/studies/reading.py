"""Reads erased models on tuning prompts: success, unrelated objects, CLIP score, collapse.

For studies that compare many erasures of one model and keep figures rather than pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError, StoreError
from zbench.metrics.collapse import CollapseThresholds, signals
from zbench.statistics import Rate
from zbench.store import atomic_write_json, canonical_json, identity, read_json
from zbench.studies.signals.drawing import samples_of
from zbench.studies.signals.measuring import Instruments, rate_row

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.detectors.base import Detector
    from zbench.edits import Edit
    from zbench.metrics.clip import Clip
    from zbench.protocols import DomainProtocol
    from zbench.stages.inputs import ModelHandle
    from zbench.stages.samples import Sample, SamplesView

VERSION = 2
"""Raised when the same pictures would be read otherwise."""

TUNING = "-tuning"


@dataclass(frozen=True)
class Reading:
    """What an erased model does.

    Attributes:
        record: Plain values: ``found`` by concept (n of N with interval and hits), ``flagged``, ``flags``
            (one for each unrelated picture), ``objects``, ``object_hits`` (one for each picture whose object
            the detector knows), ``chance``, ``sets``, ``clip``, the verdict and its reasons.
        unrelated: Pictures of the unrelated prompts, uint8 [N, 3, H, W].
    """

    record: dict[str, Any]
    unrelated: Tensor


class Notebook:
    """Small records, one file each, found again by the configuration that they belong to.

    Args:
        folder: Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def name(self, kind: str, config: Mapping[str, Any]) -> str:
        """Name of the file without its ending; files that belong to the record may begin with it."""
        return identity(kind, config)

    def find(self, kind: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was kept; None where there is nothing, nothing readable, or something of other settings."""
        path = self.folder / f"{self.name(kind, config)}.json"
        if not path.is_file():
            return None
        try:
            found = read_json(path)
        except StoreError:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("figures"), dict):
            return None
        same = canonical_json(found.get("config")) == canonical_json(dict(config))
        figures: dict[str, Any] = found["figures"]
        return figures if same else None

    def keep(self, kind: str, config: Mapping[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
        """Writes a record; whatever belongs to it must be written before: it is the mark of completion."""
        path = self.folder / f"{self.name(kind, config)}.json"
        atomic_write_json(path, {"config": dict(config), "figures": figures})
        return figures


class Reader:
    """Draws the same prompts with every edit and reads the pictures.

    Args:
        model: The unerased model.
        table: The protocol's table; its detectors, thresholds and CLIP are used, not its prompt sets.
        asked: Concept -> prompts that ask for it.
        unrelated: Prompts for everything else.
        calibration: Prompts whose pictures by the original calibrate the collapse flags.
        batch_size: Pictures drawn at once.
    """

    def __init__(
        self,
        model: ModelHandle,
        table: DomainProtocol,
        asked: Mapping[str, Sequence[Sample]],
        unrelated: Sequence[Sample],
        calibration: Sequence[Sample],
        *,
        batch_size: int = 16,
    ) -> None:
        self.model, self.table, self.batch_size = model, table, batch_size
        self.asked = {name: list(samples) for name, samples in asked.items()}
        self.unrelated, self.calibration = list(unrelated), list(calibration)

    def read(self, edit: Edit | None) -> Reading:
        """Draws with an edit, or with the original for None, and reads."""
        with self._edited(edit):
            asked = {name: self.draw(samples) for name, samples in self.asked.items()}
            unrelated = self.original if edit is None else self.draw(self.unrelated)
        found = {name: self._found(name, view) for name, view in asked.items()}
        judged, _ = self.instruments.judged(unrelated, self.original)
        flags = self.instruments.flagged(unrelated.pictures).astype(int).tolist()
        hits = [int(hit) for _, hit in self.instruments.object_hits(unrelated)]
        outcomes = {"flags": flags, "object_hits": hits}
        record = {"found": found, **judged, **outcomes, "clip": self._clip_scores(unrelated)}
        return Reading(record, unrelated.pictures)

    def again(self, repetition: int = 1) -> dict[str, Any]:
        """The original's unrelated prompts with other seeds, as `read` records them: the false alarms."""
        view = self.draw([_again(sample, repetition) for sample in self.unrelated])
        judged, _ = self.instruments.judged(view, self.original)
        return {**judged, "clip": self._clip_scores(view)}

    def draw(self, samples: Sequence[Sample]) -> SamplesView:
        """Pictures of some prompts with the model as it is."""
        from zbench.stages.samples import SamplesView

        prompts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
        pictures = self.model.model.generate(prompts, seeds, batch_size=self.batch_size)
        return SamplesView(tuple(samples), pictures)

    def identity(self) -> dict[str, Any]:
        """What the figures depend on besides the edit; loads no network."""
        from zbench.metrics.clip import ClipSpec

        return {
            "version": VERSION,
            "model": self.model.identity,
            "asked": {name: [_drawn(sample) for sample in samples] for name, samples in self.asked.items()},
            "unrelated": [(*_drawn(sample), sample.object) for sample in self.unrelated],
            "calibration": [_drawn(sample) for sample in self.calibration],
            "detectors": [(d.name, d.file_sha256, d.threshold) for d in self.detectors],
            "clip": ClipSpec.parse(self.table.clip).identity(),
        }

    @cached_property
    def detectors(self) -> tuple[Detector, ...]:
        """The protocol's, their networks loaded when they are first used."""
        from zbench.stages.scorer import load_detectors

        return load_detectors(self.table, self.model.device)

    @cached_property
    def original(self) -> SamplesView:
        """The original's pictures of the unrelated prompts."""
        return self.draw(self.unrelated)

    @cached_property
    def instruments(self) -> Instruments:
        """Calibrated on the original's pictures."""
        thresholds = CollapseThresholds.calibrate(signals(self.draw(self.calibration).pictures))
        return Instruments(thresholds, self._object_detector(), self._clip)

    @cached_property
    def _clip(self) -> Clip:
        from zbench.metrics.clip import ClipSpec, load_clip

        return load_clip(ClipSpec.parse(self.table.clip), str(self.model.model.device))

    def _object_detector(self) -> Detector:
        """The first one that tells the unrelated objects apart."""
        objects = {sample.object for sample in self.unrelated if sample.object is not None}
        able = (each for each in self.detectors if any(each.rivals(name) for name in objects))
        return next(able, self.detectors[0])

    def _found(self, name: str, view: SamplesView) -> dict[str, Any]:
        detector = next((each for each in self.detectors if each.readings(name)), None)
        if detector is None:
            raise ConfigurationError(
                f"No detector of this protocol knows {name!r} ({', '.join(d.name for d in self.detectors)});"
                " choose another concept or protocol."
            )
        hits = detector.found(detector.scores(view.pictures), name).tolist()
        rate = Rate.of(hits, [sample.prompt_id for sample in view.samples])
        return {**rate_row(rate), "hits": [int(hit) for hit in hits]}

    def _clip_scores(self, view: SamplesView) -> dict[str, Any]:
        from zbench.metrics.clip import clip_scores

        texts = self._clip.embed_texts([sample.prompt for sample in view.samples])
        values = clip_scores(self._clip.extract(view.pictures), texts)
        return {"mean": float(values.mean()), "values": [round(float(value), 4) for value in values]}

    def _edited(self, edit: Edit | None) -> Any:
        from contextlib import nullcontext

        return nullcontext() if edit is None else self.model.model.edited(edit)


def tuning_samples(name: str, domain: str, number: int | None) -> list[Sample]:
    """The first prompts of a tuning set with the seeds that a run gives them.

    Args:
        name: Of the set without its ending ``-tuning``.
        domain: Domain of the model.
        number: How many; all when None.

    Raises:
        UnknownNameError: There is no such set; close matches are named.
    """
    from zbench.prompts import load_prompt_set

    prompts = load_prompt_set(f"{name}{TUNING}", domain)
    return samples_of(prompts, prompts.prompts[:number])


def _drawn(sample: Sample) -> tuple[str, str, int]:
    """What a picture depends on, and the prompt that it is counted for."""
    return sample.prompt_id, sample.prompt, sample.seed


def _again(sample: Sample, repetition: int) -> Sample:
    from zbench.stages.generate import picture_seed

    seed = picture_seed(sample.prompt_id, repetition)
    return sample.model_copy(update={"repetition": repetition, "seed": seed})
