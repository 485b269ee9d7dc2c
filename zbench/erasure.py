"""An erasure: an edit together with where it came from and what it cost.

`Erasure.original()` is the empty one, the row that every table starts with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from zbench.errors import StoreError
from zbench.store import atomic_write_json, read_json

if TYPE_CHECKING:
    from zbench.edits import Edit
    from zbench.model import Model

ORIGINAL = "original"
SCHEMA_VERSION = 1


class Cost(BaseModel):
    """What an erasure took.

    Attributes:
        seconds: Wall time.
        peak_memory_bytes: Peak of the device's allocator on CUDA, of the process's resident memory elsewhere.
        forwards: Transformer calls, trajectories and frozen predictions included.
        backwards: Backward passes through the transformer.
        recomputations: Forward passes repeated inside backward passes (gradient checkpointing).
        steps: Optimiser steps; 0 for closed forms.
        evaluations_per_step: (forwards + backwards + recomputations) / steps; 0 for closed forms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = 0.0
    peak_memory_bytes: int = 0
    forwards: int = 0
    backwards: int = 0
    recomputations: int = 0
    steps: int = 0
    evaluations_per_step: float = 0.0


@dataclass(frozen=True)
class Erasure:
    """An edit with its provenance.

    Attributes:
        edit: How the model is changed; detached.
        method: Name of the method.
        concept: Name of the concept.
        hyperparameters: The method's fields as plain JSON values.
        cost: What it took.
        trace: One row of figures per training step.
    """

    edit: Edit
    method: str
    concept: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    trace: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def original(cls, concept: str = "") -> Erasure:
        """The unerased model as an erasure: an edit that changes nothing, at no cost."""
        from zbench.edits import NoEdit

        return cls(edit=NoEdit(), method=ORIGINAL, concept=concept)

    def save(self, folder: Path | str, model: Model) -> None:
        """Writes `edit/`, `trace.json` and, last, `erasure.json`.

        Args:
            folder: Made if missing.
            model: The unerased model, for the edit's stored probe output.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.edit.save(folder / "edit", model)
        atomic_write_json(folder / "trace.json", self.trace)
        atomic_write_json(
            folder / "erasure.json",
            {
                "schema_version": SCHEMA_VERSION,
                "method": self.method,
                "concept": self.concept,
                "hyperparameters": self.hyperparameters,
                "cost": self.cost.model_dump(),
                "edit": self.edit.describe(),
            },
        )

    @classmethod
    def load(cls, folder: Path | str) -> Erasure:
        """Reads what `save` wrote.

        Raises:
            StoreError: The folder is incomplete, or of a newer schema.
        """
        from zbench.edits import load_edit

        folder = Path(folder)
        if not (folder / "erasure.json").is_file():
            raise StoreError(f"{folder} holds no finished erasure (no erasure.json): run the erasure again.")
        record = read_json(folder / "erasure.json")
        if record["schema_version"] > SCHEMA_VERSION:
            raise StoreError(f"{folder} was written by a newer zbench: upgrade zbench to read it.")
        return cls(
            edit=load_edit(folder / "edit"),
            method=record["method"],
            concept=record["concept"],
            hyperparameters=record["hyperparameters"],
            cost=Cost(**record["cost"]),
            trace=read_json(folder / "trace.json"),
        )
