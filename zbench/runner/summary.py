"""What listings need to know of a cell, in a few hundred bytes beside its result.

A grid of ten thousand cells is planned and watched from these: `result.json` holds every figure and is read
only where figures are wanted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import StoreError
from zbench.store import DONE, canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult, CellSpec

SUMMARY = "summary.json"
SCHEMA_VERSION = 1

_DIGITS = 12


class Workload(BaseModel):
    """What makes the times of two cells comparable: equal hashes are equal work for each picture.

    Attributes:
        device: Kind and name of the device that did it, such as `cpu x86_64`; empty where nobody knows.
        training: Of model, method and hyper-parameters without the training seed.
        drawing: Of model, picture size and sampler: the work of one picture.
        pictures: Role -> number of pictures.
        attacks: Label of an attack -> of the attack with its settings, and how many prompts it tries.
    """

    model_config = ConfigDict(frozen=True)

    device: str = ""
    training: str = ""
    drawing: str = ""
    pictures: dict[str, int] = Field(default_factory=dict)
    attacks: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(
        cls, spec: CellSpec, model: Mapping[str, Any], prompts: Mapping[str, int], device: str = ""
    ) -> Workload:
        """The workload of a cell, planned or done.

        Args:
            spec: What is to do.
            model: The model's identity.
            prompts: Role -> number of prompts.
            device: Kind and name of the device, where it is known.
        """
        model = {name: value for name, value in model.items() if name != "name"}
        drawing = _hash({**model, "steps": spec.steps})
        settings = {name: each for name, each in spec.hyperparameters.items() if name != "training_seed"}
        return cls(
            device=device,
            training="" if spec.is_original else _hash([spec.method, settings, model]),
            drawing=drawing,
            pictures={role: number * spec.repetitions for role, number in prompts.items()},
            attacks={
                each.label: _hash([each.label, each.hyperparameters, spec.attack_prompts, drawing])
                for each in spec.published().attacks
            },
        )

    @property
    def kind(self) -> str:
        """Kind of the device: `cpu`, `cuda`, or empty where nobody knows."""
        return self.device.partition(" ")[0]


class AttackSummary(BaseModel):
    """How one attack on a cell ended."""

    model_config = ConfigDict(frozen=True)

    label: str
    status: Literal["done", "skipped", "failed"]


class Summary(BaseModel):
    """One cell in a listing; written as `summary.json`.

    Attributes:
        id: Identity of the cell.
        label: How people are told of it, such as `zerase s0`.
        method: Name of the method; `original` for the unerased model.
        training_seed: None for `original`.
        concept: Name of the concept.
        model: Name of the model.
        status: As that of its result.
        reason: Why it was skipped or failed, in one line.
        erasure: Folder name of its erasure; None where there is none.
        seconds: Stage -> wall time, of the stages that it had to run itself.
        attacks: How each attack ended.
        workload: What makes its times comparable with another cell's.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    id: str
    label: str
    method: str
    training_seed: int | None = None
    concept: str
    model: str
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    erasure: str | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    attacks: tuple[AttackSummary, ...] = ()
    workload: Workload = Field(default_factory=Workload)

    @classmethod
    def of(cls, result: CellResult) -> Summary:
        """The summary of a result, which holds all that a summary says."""
        spec, model = result.spec, result.provenance.get("model", {})
        erasure = result.stages.get("erase")
        return cls(
            id=result.id,
            label=spec.label,
            method=spec.method,
            training_seed=spec.training_seed,
            concept=spec.concept,
            model=model.get("name", Path(spec.model).name),
            status=result.status,
            reason="" if result.status == "done" else result.reason,
            erasure=erasure and Path(erasure).name,
            seconds=result.seconds,
            attacks=tuple(AttackSummary(label=a.label, status=a.status) for a in result.attacks),
            workload=_workload(result),
        )

    @property
    def failed_attacks(self) -> tuple[str, ...]:
        """Labels of the attacks that a next run tries again."""
        return tuple(attack.label for attack in self.attacks if attack.status == "failed")


def read_summaries(cells: Path) -> dict[str, Summary]:
    """Summaries of all cells in a folder, by id; by completion marks alone, nothing is hashed.

    Args:
        cells: The folder `cells` of a run folder, there or not.

    Raises:
        StoreError: One was written by a newer zbench.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(cells) if not entry.name.startswith("."))
    except OSError:
        return {}
    # Plain texts: thousands of them are joined sooner than thousands of paths.
    folders = (os.path.join(cells, name) for name in names)
    found = (read_summary(folder) for folder in folders if os.path.isfile(os.path.join(folder, DONE)))
    return {summary.id: summary for summary in found if summary is not None}


def read_summary(folder: Path | str) -> Summary | None:
    """The summary in a cell's folder; made from the result where that was written before there were any.

    Args:
        folder: The cell's folder.

    Returns:
        None where there is none that can be read: the cell is not done.

    Raises:
        StoreError: It was written by a newer zbench.
    """
    path = Path(folder, SUMMARY)
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return _from_result(Path(folder))
    except (OSError, ValueError):
        return None
    _check_schema(record, path, SCHEMA_VERSION)
    try:
        return Summary.model_validate(record)
    except ValidationError:
        return None


def _from_result(folder: Path) -> Summary | None:
    from zbench.runner.specs import SCHEMA_VERSION_ATTACKED, CellResult

    try:
        record = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return None
    _check_schema(record, folder / "result.json", SCHEMA_VERSION_ATTACKED)
    try:
        return Summary.of(CellResult.model_validate(record))
    except ValidationError:
        return None


def _check_schema(record: Any, path: Path, known: int) -> None:
    version = record.get("schema_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > known:
        raise StoreError(f"{path} has schema version {version}; this zbench knows up to {known}: upgrade it.")


def _workload(result: CellResult) -> Workload:
    facts = result.provenance
    prompts = {role: sheet["size"] for role, sheet in facts.get("prompts", {}).items()}
    device = facts.get("device", {})
    kind = str(device.get("type", "")).partition(":")[0]
    known = f"{kind} {device.get('name', '')}" if kind in ("cpu", "cuda") else ""
    return Workload.of(result.spec, facts.get("model", {}), prompts, known)


def _hash(value: Any) -> str:
    return sha256_bytes(canonical_json(value).encode())[:_DIGITS]
