"""Doing what the plan says, each training once: what is on disk is not done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from zbench.concepts import load_concept
from zbench.errors import ConfigurationError
from zbench.method import LoraMethod
from zbench.registry import load_method
from zbench.store import atomic_write_json, read_json
from zbench.studies.convergence.plan import Settings, Watch
from zbench.studies.trials import Trials

if TYPE_CHECKING:
    from pathlib import Path

    from zbench.method import Progress

Row = dict[str, float]

WATCH_VERSION = 1
"""Raised when the same watched training would be traced otherwise."""

_TAIL = 5
"""Losses at the end are means over this part (a fifth) of the steps: each is measured on few points."""


class Bench:
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

    def original_clip(self) -> float:
        """CLIP score of the unerased model on unrelated tuning prompts, points."""
        return self.trials.original_clip(self.concept)

    def config(self) -> dict[str, Any]:
        """What all trainings have in common."""
        handle = self.trials.handle(self.concept)
        model = {"name": handle.spec.name, **handle.identity}
        return {"method": self.method, "concept": self.concept, "model": model}

    def check(self, settings: Settings) -> None:
        """Finds out whether `measured` could begin; nothing is trained.

        Raises:
            ConfigurationError: A setting is out of range.
            UnknownNameError: The method lacks one of the fields, so that it cannot be studied here.
        """
        self.trials.check(
            self.method, self.concept, self.built(settings).model_dump(exclude={"training_seed"})
        )

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

    def measured(self, settings: Settings) -> dict[str, Any]:
        """Erases, draws, scores: figures of the trial, and what its trace ends with.

        Raises:
            ConfigurationError: The erasure failed.
        """
        chosen = self.built(settings).model_dump(mode="json", exclude={"training_seed"})
        trial, trace = self.trials.traced(self.method, self.concept, chosen)
        if trial.status != "done":
            raise ConfigurationError(f"{self.method} with {settings}: {trial.status}. {trial.error}")
        figures = {key: value for key, value in asdict(trial).items() if key not in ("settings", "error")}
        return {**figures, "success": trial.success, "settings": settings, **tail_of(trace), "trace": trace}

    def watched(self, settings: Settings, watch: Watch, progress: Progress | None = None) -> list[Row]:
        """The trace of a watched training, see `zbench.studies.convergence.watching`."""
        method, handle = self.built(settings), self.trials.handle(self.concept)
        concept = load_concept(self.concept, handle.spec.domain)
        config = {
            "stage": "watched training",
            "version": WATCH_VERSION,
            "method": method.name,
            "hyperparameters": method.model_dump(mode="json"),
            "watch": asdict(watch),
            "concept": concept.model_dump(mode="json"),
            "model": handle.identity,
        }
        store = self.trials.store
        with store.lock():
            folder = store.stage("watched", config, prefix=f"{method.name}-{concept.name}")
            if not folder.is_complete():
                from zbench.studies.convergence.watching import train_watched

                trace = train_watched(method, watch, handle.model, concept, progress)
                folder.write(lambda place: atomic_write_json(place / "trace.json", trace))
        return list(read_json(folder.path / "trace.json"))


def tail_of(trace: Sequence[Mapping[str, float]]) -> Row:
    """Mean losses and multiplier over the last fifth of a trace; mean evaluations and violation over all."""
    rows = trace[-max(1, len(trace) // _TAIL) :]
    names = [name for name in ("erase", "attention", "preserve", "multiplier") if name in rows[-1]]
    last = {f"last_{name}": fmean(row[name] for row in rows) for name in names}
    broken = [row["violation"] for row in trace if "violation" in row]
    always = {"evaluations": fmean(row.get("evaluations", 0.0) for row in trace)}
    return {**last, **always, **({"violation": fmean(broken)} if broken else {})}
