"""Trials: erasures measured on the tuning split, for searches, sweeps and studies of methods.

A trial is an ordinary cell under the protocol ``tuning``: what is trained, drawn or scored once is found
again, so that a search that was cut off goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.config import ALL, ORIGINAL, RunConfig
from zbench.errors import ConfigurationError
from zbench.runner.cell import run_cell
from zbench.runner.planning import plan
from zbench.runner.specs import CellResult, CellSpec
from zbench.runner.workshop import Workshop
from zbench.stages.inputs import ModelHandle
from zbench.store import Store, read_json
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.metrics.evidence import Key

PROTOCOL = "tuning"
_SUCCESS = "asr_explicit"
_LONG = ("hits", "prompts")
"""Fields with one entry for each picture."""


@dataclass(frozen=True)
class Trial:
    """What one erasure did to one concept and to unrelated prompts.

    Attributes:
        settings: Hyper-parameters that differ from the preset.
        concept: What was erased.
        status: As of a cell: ``done``, ``skipped`` or ``failed``.
        found: Explicit prompts whose picture shows the concept.
        asked: Explicit prompts.
        success_interval: Of found / asked.
        clip_score: Mean CLIP score of unrelated prompts, points.
        clip_interval: Of the CLIP score.
        clip_loss: The original's minus this one's, points.
        objects: Share of unrelated prompts whose object is found; None where no prompt names one.
        flagged: Share of unrelated pictures that are flagged as collapsed.
        collapsed: Whether the row's verdict is "collapsed" or "destroyed".
        seconds: Training time.
        error: Why it was skipped or failed.
        hits: 1 for each picture of an explicit prompt that shows the concept, 0 for each that does not, in
            the order of the prompts; what two trials on the same prompts are compared by.
        prompts: Id of each of these pictures' prompt.
    """

    settings: dict[str, Any]
    concept: str
    status: str
    found: int = 0
    asked: int = 0
    success_interval: tuple[float, float] = (0.0, 1.0)
    clip_score: float = 0.0
    clip_interval: tuple[float, float] = (0.0, 0.0)
    clip_loss: float = 0.0
    objects: float | None = None
    flagged: float = 0.0
    collapsed: bool = False
    seconds: float = 0.0
    error: str | None = None
    hits: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why it has no figures, in one line; empty where it has."""
        return ((self.error or "").strip().splitlines() or [""])[-1]

    def describe(self) -> dict[str, Any]:
        """The fields as plain values for a record, without those that hold an entry for each picture."""
        return {name: value for name, value in asdict(self).items() if name not in _LONG}

    @property
    def success(self) -> float:
        """Attack success rate on explicit prompts, in [0, 1]."""
        return self.found / self.asked if self.asked else 0.0


class Trials:
    """Runs trials in a folder of their own.

    Args:
        folder: Run folder; what is in it is not done again.
        model: Catalogue name or folder of the model.
        prompts: First so many prompts of each tuning set; all when None.
        device: Torch device; chosen automatically when None.
        plugins: Files with methods that are not packaged.
        say: Told lines of news.
    """

    def __init__(
        self,
        folder: Path,
        model: str = "miniature",
        *,
        prompts: int | None = None,
        device: str | None = None,
        plugins: Sequence[Path] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.store = Store.open(folder, notify=say)
        self.model, self.prompts, self.device = model, prompts, device
        self.plugins = tuple(plugins)
        self._workshop = Workshop()

    def original(self, concept: str) -> CellResult:
        """The unerased model on a concept's tuning prompts."""
        return self._cell(self._specs((), concept, {})[0])

    def original_clip(self, concept: str) -> float:
        """CLIP score of the unerased model on unrelated tuning prompts, points."""
        return float(_figure(self.original(concept), "clip_score")["value"])

    def check(self, method: str, concept: str, settings: Mapping[str, Any]) -> None:
        """Finds out whether a trial could begin; nothing is trained.

        Raises:
            UnknownNameError: A name is unknown; close matches are named.
            ConfigurationError: A setting is out of range.
        """
        self._specs((method,), concept, {method: dict(settings)})

    def run(
        self, method: str, concept: str, settings: Mapping[str, Any] | None = None, training_seed: int = 0
    ) -> Trial:
        """One trial.

        Args:
            method: Name of an installed method.
            concept: Name of the concept.
            settings: Fields over the preset that suits the model.
            training_seed: Of the erasure.

        Raises:
            UnknownNameError: A name is unknown; close matches are named.
            ConfigurationError: A setting is out of range.
        """
        return self.traced(method, concept, settings, training_seed)[0]

    def traced(
        self, method: str, concept: str, settings: Mapping[str, Any] | None = None, training_seed: int = 0
    ) -> tuple[Trial, list[dict[str, float]]]:
        """One trial as `run` makes it, and its training trace (empty where the trial is not done)."""
        chosen = dict(settings or {})
        specs = self._specs((method,), concept, {method: chosen} if chosen else {}, training_seed + 1)
        cell, original = self._cell(specs[-1]), self._cell(specs[0])
        place = cell.stages.get("erase")
        trace = read_json(self.store.root / place / "trace.json") if place else []
        return read_trial(chosen, concept, cell, original, self._hits(cell)), trace

    def _hits(self, cell: CellResult) -> dict[Key, float]:
        """Outcome of each picture of an explicit prompt; empty where the cell is not done."""
        if cell.status != "done":
            return {}
        from zbench.metrics.outcomes import outcomes
        from zbench.stages.evidence_files import read_evidence

        return outcomes(read_evidence(self.store.root / cell.stages["score"])[0], _SUCCESS) or {}

    def handle(self, concept: str) -> ModelHandle:
        """The model that trials of a concept use, not loaded yet where nothing had to be done."""
        return self._workshop.model(self._specs((), concept, {})[0])

    def _specs(
        self, methods: tuple[str, ...], concept: str, settings: dict[str, dict[str, Any]], seeds: int = 1
    ) -> list[CellSpec]:
        if reserved := sorted({ORIGINAL, ALL} & set(methods)):
            raise ConfigurationError(f"{reserved[0]!r} is no method that could be tried: name one.")
        values = {
            "methods": methods, "concept": concept, "model": self.model, "protocol": PROTOCOL,
            "settings": settings, "training_seeds": seeds, "prompts": self.prompts, "device": self.device,
            "out": self.store.root, "plugins": self.plugins,
        }  # fmt: skip
        return plan(validated(RunConfig, values))

    def _cell(self, spec: CellSpec) -> CellResult:
        with self.store.lock():
            return run_cell(spec, self.store, workshop=self._workshop)


def read_trial(
    settings: dict[str, Any],
    concept: str,
    cell: CellResult,
    original: CellResult,
    hits: Mapping[Key, float],
) -> Trial:
    """Reads a trial off two finished cells.

    Args:
        settings: Hyper-parameters that differ from the preset.
        concept: What was erased.
        cell: The erasure's.
        original: The unerased model's.
        hits: Outcome of each picture of an explicit prompt.

    Raises:
        ConfigurationError: The original was not measured, or not under this protocol.
    """
    if original.status != "done":
        raise ConfigurationError(f"The {ORIGINAL} model could not be measured: {original.error}")
    if cell.status != "done":
        return Trial(settings, concept, cell.status, error=(cell.error or "").strip())
    asked, clip = _figure(cell, _SUCCESS), _figure(cell, "clip_score")
    verdict = cell.verdict or {}
    return Trial(
        settings,
        concept,
        cell.status,
        found=int(asked["n"]),
        asked=int(asked["N"]),
        success_interval=(asked["low"], asked["high"]),
        clip_score=clip["value"],
        clip_interval=(clip["low"], clip["high"]),
        clip_loss=_figure(original, "clip_score")["value"] - clip["value"],
        objects=_figure(cell, "object_accuracy")["value"],
        flagged=_figure(cell, "collapse_rate")["value"],
        collapsed=bool(verdict.get("collapsed") or verdict.get("destroyed")),
        seconds=float((cell.cost or {}).get("seconds", 0.0)),
        hits=tuple(int(hit) for hit in hits.values()),
        prompts=tuple(key[1] for key in hits),
    )


def _figure(cell: CellResult, name: str) -> dict[str, Any]:
    figure = cell.figure(name)
    if figure is None:
        raise ConfigurationError(f"The protocol {PROTOCOL!r} does not measure {name}.")
    return figure
