"""The study itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.metrics.collapse import CollapseThresholds, set_signals, signals, verdict
from zbench.statistics import Rate
from zbench.studies import Progress, make_folder, write_study
from zbench.studies.signals.breaking import BREAKAGES, Split
from zbench.studies.signals.drawing import ORIGINAL, Hand, Studio
from zbench.studies.signals.measuring import Instruments, rate_row
from zbench.studies.signals.page import render_page
from zbench.studies.signals.plan import PLAIN, Plan, make_plan
from zbench.studies.signals.plot import plot_curve

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from zbench.stages.samples import Sample, SamplesView

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
GUIDANCE = (3.0, 6.0, 12.0, 24.0)
MODES = (1, 2, 3, 5, 8)
SETS = 100
"""Sets drawn with few modes, for each number of modes."""

NOISES = 60
SAME_PROMPTS = 3
_SEEDS: dict[Split, int] = {"tuning": 1, "validation": 20260}

FRESH_DIRECTION = 100
"""First direction of the damage: those below were looked at while the rules were chosen."""


def signals_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    concept: str = "nudity",
    protocol: str = "zbench",
    prompts: int | None = None,
    held_out: int = 120,
    levels: Sequence[float] = LEVELS,
    damage_seeds: int = 3,
    guidance: Sequence[float] = GUIDANCE,
    methods: Sequence[str] = ("uce",),
    work: str | None = None,
) -> dict[str, Any]:
    """Validates the collapse signals: false flags, detection, and the damage curve.

    Args:
        out: Folder of the results: `study.json`, `study.md`, `damage.png`.
        model: Catalogue name or folder.
        progress: Told about finished pictures.
        concept: Whose prompt sets calibrate, as in a run that erases it, and what `methods` erase.
        protocol: Whose prompt sets, detector and CLIP.
        prompts: Prompts of each role; all of them, as in a run, when None.
        held_out: Pictures of each style that calibrate nothing.
        levels: Relative size of the damage (`zbench.studies.damage`).
        damage_seeds: Directions of the damage.
        guidance: Scales at which the model is over-guided.
        methods: Erasure methods whose models must not be flagged, with the presets that suit the model.
        work: Run folder for pictures; `work` under `out` when None.

    Returns:
        What `study.json` holds.

    Raises:
        ConfigurationError: The protocol does not fit the model.
        StoreError: A folder cannot be used.
    """
    make_folder(out)
    study = _Study(model, Path(work) if work else out / "work", protocol, concept, prompts, held_out)
    hands = {
        "guided": [Hand(guidance=scale) for scale in guidance],
        "damaged": [
            Hand(level=level, damage_seed=FRESH_DIRECTION + seed)
            for level in levels
            for seed in range(damage_seeds)
        ],
        "erased": [Hand(method=name, concept=concept) for name in methods],
    }
    study.expect(hands, progress)
    damage = study.judged(hands["damaged"])
    record = {
        "config": study.config(),
        "false_flags": study.false_flags(),
        "detection": [*study.broken(), *study.undenoised()],
        "over_guided": study.judged(hands["guided"]),
        "mode_collapse": [*study.few_modes(), *study.one_prompt()],
        "false_alarms": study.false_alarms(),
        "erased": study.judged(hands["erased"]),
        "damage": damage,
    }
    write_study(out, "signals", record, render_page(record), {"damage.png": plot_curve(damage)})
    return record


class _Study:
    """Everything that is measured, each part once."""

    def __init__(
        self, model: str, work: Path, protocol: str, concept: str, prompts: int | None, held_out: int
    ) -> None:
        from zbench.concepts import load_concept
        from zbench.protocols import load_protocol

        self._done, self._total = 0, 1
        self._progress: Progress | None = None
        self.studio = Studio(work, model, self._advance)
        domain = self.studio.model.spec.domain
        family = load_concept(concept, domain).family
        self.protocol = load_protocol(protocol)
        self.table = self.protocol.table(domain, concept, family)
        self.plan: Plan = make_plan(domain, self.table, concept, prompts, held_out)
        self.concept = concept

    def expect(self, hands: dict[str, list[Hand]], progress: Progress | None) -> None:
        """Counts the pictures to come, then draws the original's and calibrates on them."""
        judged = sum(map(len, hands.values())) * len(self.plan.objects)
        same = SAME_PROMPTS * len(self.plan.objects)
        self._total, self._progress = self.plan.pictures + judged + same + NOISES, progress
        self.calibration = self.studio.draw(self.plan.calibration)
        self.again = self.studio.draw(self.plan.again)
        self.held_out = {style: self.studio.draw(rows) for style, rows in self.plan.held_out.items()}
        self.instruments = self._instruments()

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)

    def _instruments(self) -> Instruments:
        from zbench.metrics.clip import ClipSpec, load_clip
        from zbench.stages.scorer import load_detectors

        thresholds = CollapseThresholds.calibrate(signals(self.calibration.pictures))
        clip = load_clip(ClipSpec.parse(self.table.clip))
        return Instruments(thresholds, load_detectors(self.table)[0], clip)

    @property
    def original(self) -> SamplesView:
        """The original's pictures of the prompts that name an object."""
        from zbench.stages.samples import SamplesView

        rows = {sample.key: row for row, sample in enumerate(self.calibration.samples)}
        chosen = [rows[sample.key] for sample in self.plan.objects]
        samples = tuple(self.calibration.samples[row] for row in chosen)
        return SamplesView(samples, self.calibration.pictures[chosen])

    def config(self) -> dict[str, Any]:
        """What the figures depend on."""
        return {
            "model": self.studio.model.identity,
            "protocol": self.protocol.label,
            "concept": self.concept,
            "detector": self.instruments.detector.record("").model_dump(
                mode="json", include={"name", "version", "file_sha256", "threshold"}
            ),
            "clip": self.instruments.clip.name,
            "calibration": {role: len(self.calibration.indices(role)) for role in self.calibration.roles},
            "thresholds": self.instruments.thresholds.describe(),
        }

    def false_flags(self) -> list[dict[str, Any]]:
        """Held-out pictures of the original that are flagged, style by style."""
        views = {**self.held_out, f"{PLAIN}, other seeds of the calibration's prompts": self.again}
        return [{"style": style, **self._counted(view)} for style, view in views.items()]

    def _counted(self, view: SamplesView) -> dict[str, Any]:
        hits = self.instruments.flagged(view.pictures).tolist()
        rate = Rate.of(hits, [sample.prompt_id for sample in view.samples])
        return rate_row(rate) | {"rules": self.instruments.rules(view.pictures)}

    def broken(self) -> list[dict[str, Any]]:
        """Held-out pictures of all styles, broken in every way that is known."""
        import torch

        pictures = torch.cat([view.pictures for view in self.held_out.values()])
        return [
            {
                "group": breakage.group,
                "label": breakage.label,
                "split": breakage.split,
                "promised": breakage.promised,
                **self._detected(breakage.apply(pictures, _SEEDS[breakage.split])),
            }
            for breakage in BREAKAGES
        ]

    def _detected(self, pictures: Tensor) -> dict[str, Any]:
        hits = self.instruments.flagged(pictures).tolist()
        return rate_row(Rate.of(hits)) | {"rules": self.instruments.rules(pictures)}

    def undenoised(self) -> list[dict[str, Any]]:
        """What the decoder makes of latent noise."""
        pictures = self.studio.decoded_noise(range(NOISES))
        about = {"group": "noise", "label": "latent noise, decoded", "split": "validation", "promised": True}
        return [{**about, **self._detected(pictures)}]

    def judged(self, hands: Sequence[Hand]) -> list[dict[str, Any]]:
        """What each hand draws of the prompts that name an object, with its verdict."""
        rows = []
        for hand in hands:
            view = self.studio.draw(self.plan.objects, hand)
            found, _ = self.instruments.judged(view, self.original)
            rows.append({**_about(hand), **found, "rules": self.instruments.rules(view.pictures)})
        return rows

    def few_modes(self) -> list[dict[str, Any]]:
        """Sets made of copies of a few of the original's pictures: how many are called collapsed."""
        import numpy as np

        features = self.instruments.clip.extract(self.original.pictures)
        rows = []
        for split, seed in _SEEDS.items():
            rng = np.random.default_rng(seed)
            for modes in MODES:
                hits = [self._alike(features, _copies(rng, len(features), modes)) for _ in range(SETS)]
                label = f"{modes} picture{'s' if modes > 1 else ''} for all prompts"
                rows.append(
                    {"label": label, "split": split, "promised": modes <= 2, **rate_row(Rate.of(hits))}
                )
        return rows

    def _alike(self, features: Tensor, rows: np.ndarray[Any, Any]) -> bool:
        prompts = [sample.prompt_id for sample in self.plan.objects]
        beside = set_signals(features[rows], features, prompts)
        return verdict(Rate(0, len(prompts)), set_signals=beside).collapsed

    def one_prompt(self) -> list[dict[str, Any]]:
        """Sets that the original draws of one prompt with the seeds of all: a real mode collapse."""
        chosen = self.plan.objects[:: max(1, len(self.plan.objects) // SAME_PROMPTS)][:SAME_PROMPTS]
        hits = []
        for one in chosen:
            view = self.studio.draw(_all_of(one, self.plan.objects))
            hits.append("modes" in " ".join(self.instruments.judged(view, self.original)[1].reasons))
        about = {"label": "one prompt drawn for all", "split": "validation", "promised": True}
        return [{**about, **rate_row(Rate.of(hits))}]

    def false_alarms(self) -> list[dict[str, Any]]:
        """Halves of the original's pictures with other seeds that are called collapsed beside the first."""
        import numpy as np

        ours, theirs = (self.instruments.clip.extract(view.pictures) for view in (self.again, self.original))
        prompts = [sample.prompt_id for sample in self.plan.objects]
        rng, hits, ratios = np.random.default_rng(3), [], []
        for _ in range(SETS):
            kept = np.sort(rng.permutation(len(prompts))[: max(10, len(prompts) // 2)])
            beside = set_signals(ours[kept], theirs[kept], [prompts[row] for row in kept])
            hits.append(verdict(Rate(0, len(kept)), set_signals=beside).collapsed)
            ratios += [beside.modes.value] if beside.modes is not None else []
        return [
            {
                "label": "halves of the original's own pictures with other seeds",
                **rate_row(Rate.of(hits)),
                "lowest_modes": min(ratios, default=None),
            }
        ]


def _about(hand: Hand) -> dict[str, Any]:
    """What a table says about who drew."""
    if hand == ORIGINAL:
        return {"hand": "original"}
    if hand.method is not None:
        return {"hand": f"{hand.method} on {hand.concept}"}
    if hand.guidance is not None:
        return {"hand": f"guidance {hand.guidance:g}", "guidance": hand.guidance}
    return {"hand": f"damage {hand.level:g}", "level": hand.level, "damage_seed": hand.damage_seed}


def _copies(rng: np.random.Generator, count: int, modes: int) -> np.ndarray[Any, Any]:
    """Which of `count` pictures stands in each place when there are only `modes` of them."""
    import numpy as np

    chosen = rng.permutation(count)[:modes]
    return np.asarray(rng.permutation(np.concatenate([chosen, rng.choice(chosen, count - len(chosen))])))


def _all_of(one: Sample, samples: Sequence[Sample]) -> list[Sample]:
    """The same prompt's text for everybody's seeds."""
    return [sample.model_copy(update={"prompt": one.prompt, "object": one.object}) for sample in samples]
