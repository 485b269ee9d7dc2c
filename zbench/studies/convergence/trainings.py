"""Doing what the plan says, each training once: what is on disk is not done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from zbench.concepts import load_concept
from zbench.errors import ConfigurationError, TrainingDivergedError
from zbench.method import LoraMethod
from zbench.registry import load_method
from zbench.store import atomic_write_json, read_json
from zbench.studies.convergence.plan import Settings, Watch
from zbench.studies.trials import Trials

if TYPE_CHECKING:
    from pathlib import Path

    from zbench.method import Progress
    from zbench.stages.inputs import ModelHandle

Row = dict[str, float]

WATCH_VERSION = 2
"""Raised when the same watched training would be traced otherwise."""

WATCHED_FILE = "watched.json"

_TAIL = 5
"""Losses at the end are means over this part (a fifth) of the steps: each is measured on few points."""


@dataclass(frozen=True)
class WatchedTraining:
    """What a watched training gave.

    Attributes:
        trace: See `zbench.studies.convergence.watching`; empty where it diverged.
        reason: Why there is no trace; None where there is one.
    """

    trace: list[Row]
    reason: str | None = None


class Trainings:
    """Trials with their traces, and watched trainings, in one run folder.

    Args:
        folder: Run folder; what is in it is not done again.
        model: Catalogue name or folder of the model.
        method: Name of the method: Z-Erase, or one that trains as it does.
        concept: A tuning concept.
        prompts: First so many prompts of each tuning set; all when None.
    """

    def __init__(self, folder: Path, model: str, method: str, concept: str, prompts: int | None) -> None:
        self.trials = Trials(folder, model, prompts=prompts)
        self.method, self.concept = method, concept

    @property
    def handle(self) -> ModelHandle:
        """The model, loaded once something has to be done."""
        return self.trials.handle(self.concept)

    def original_clip(self) -> float:
        """CLIP score of the unerased model on unrelated tuning prompts, points."""
        return self.trials.original_clip(self.concept)

    def config(self) -> dict[str, Any]:
        """What all trainings have in common."""
        model = {"name": self.handle.spec.name, **self.handle.identity}
        return {"method": self.method, "concept": self.concept, "model": model}

    def check(self, settings: Settings) -> None:
        """Finds out whether `measured` could begin; nothing is trained.

        Raises:
            ConfigurationError: A setting is out of range, or the method does not erase this concept.
            UnknownNameError: The method lacks one of the fields, so that it cannot be studied here.
        """
        built = self.built(settings)
        built.require_support(load_concept(self.concept, self.handle.spec.domain))
        self.trials.check(self.method, self.concept, built.model_dump(exclude={"training_seed"}))

    def built(self, settings: Settings) -> LoraMethod:
        """The method with these settings and its own defaults, whatever its presets say.

        Raises:
            UnknownNameError: The method lacks one of the fields.
            ConfigurationError: It is no method that trains adapters.
        """
        method = load_method(self.method)
        if not issubclass(method, LoraMethod):
            raise ConfigurationError(
                f"{self.method} does not train as zerase does: it cannot be studied here."
            )
        return method.of(settings)

    def measured(self, settings: Settings, training_seed: int = 0) -> dict[str, Any]:
        """Erases, draws, scores: figures of the trial, and what its trace ends with.

        An erasure that failed, most often because the training diverged, gives its ``status`` and the
        ``reason`` instead of figures.
        """
        chosen = self.built(settings).model_dump(mode="json", exclude={"training_seed"})
        trial, trace = self.trials.traced(self.method, self.concept, chosen, training_seed)
        if trial.status != "done":
            return {"status": trial.status, "settings": settings, "reason": trial.reason}
        figures = {key: value for key, value in asdict(trial).items() if key not in ("settings", "error")}
        return {**figures, "success": trial.success, "settings": settings, **tail_of(trace), "trace": trace}

    def watched(self, settings: Settings, watch: Watch, progress: Progress | None = None) -> WatchedTraining:
        """A watched training."""
        method, handle = self.built(settings), self.handle
        concept = load_concept(self.concept, handle.spec.domain)
        config = {
            "stage": "watched training",
            "version": WATCH_VERSION,
            **method.identity(),
            "watch": asdict(watch),
            "concept": concept.model_dump(mode="json"),
            "model": handle.identity,
        }
        store = self.trials.store
        with store.lock():
            folder = store.stage("watched", config, prefix=f"{method.name}-{concept.name}")
            if not folder.is_complete():
                done = self._watch(method, watch, progress)
                folder.write(lambda place: atomic_write_json(place / WATCHED_FILE, asdict(done)))
        return WatchedTraining(**read_json(folder.path / WATCHED_FILE))

    def _watch(self, method: LoraMethod, watch: Watch, progress: Progress | None) -> WatchedTraining:
        from zbench.studies.convergence.watching import train_watched

        concept = load_concept(self.concept, self.handle.spec.domain)
        try:
            return WatchedTraining(train_watched(method, watch, self.handle.model, concept, progress))
        except TrainingDivergedError as error:
            return WatchedTraining([], str(error))


def tail_of(trace: Sequence[Mapping[str, float]]) -> Row:
    """Mean losses and multiplier over the last fifth of a trace; mean evaluations and violation over all."""
    rows = trace[-max(1, len(trace) // _TAIL) :]
    names = [name for name in ("erase", "attention", "preserve", "multiplier") if name in rows[-1]]
    last = {f"last_{name}": fmean(row[name] for row in rows) for name in names}
    broken = [row["violation"] for row in trace if "violation" in row]
    always = {"evaluations": fmean(row.get("evaluations", 0.0) for row in trace)}
    return {**last, **always, **({"violation": fmean(broken)} if broken else {})}
