"""What one cell is to do (`CellSpec`), and what came out of it (`CellResult`): plain, serialisable data.

A spec holds everything that a fresh process needs to run its cell; that is the seam where launchers attach.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from zbench.attacks.base import portable
from zbench.config import ORIGINAL
from zbench.metrics.robustness import AttackRecord
from zbench.plugins import PluginFile

EXCLUDED = frozenset({"batch_size", "device"})
"""Knobs that change no picture and so no identity."""

BY_CONTENT = frozenset(
    {
        *("model", "plugin", "preset", "problem", "references", "prompts", "prompts_dir", "height", "width"),
        *("attacks", "attack_prompts", "imported"),
    }
)
"""Fields that enter a cell's identity as what they stand for (weights, pictures, prompts), not as written."""

SCHEMA_VERSION = 1
"""Of results without attacks, which say nothing of them."""

SCHEMA_VERSION_ATTACKED = 2
"""Of results with attacks; newer ones are refused."""


def _without_attacks(fields: dict[str, Any]) -> dict[str, Any]:
    """Runs without attacks are written as before there were any, and so can be read by any zbench."""
    unused = {name for name in ("attacks", "attack_prompts", "imported") if not fields.get(name)}
    return {name: value for name, value in fields.items() if name not in unused}


class AttackSpec(BaseModel):
    """One attack to make on a cell's erasure.

    Attributes:
        name: Name of the attack; ``replay`` for stored candidates.
        preset: Where the hyper-parameters started from; for the reader, since they are written out below.
        hyperparameters: All fields of the attack, defaults resolved.
        problem: Traceback of why it cannot be used, found when the run was planned; None where it can.
        replay: Folder with stored candidates that are tried again; None for an attack that makes its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    preset: str | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    problem: str | None = None
    replay: Path | None = None

    def published(self) -> AttackSpec:
        """As a result holds it, without the folders of one machine: `sha256` says what was replayed."""
        place = None if self.replay is None else Path(self.replay.name)
        return self.model_copy(update={"replay": place, "hyperparameters": portable(self.hyperparameters)})

    @property
    def label(self) -> str:
        """Short name for progress and tables."""
        return self.name if self.replay is None else f"replay:{self.replay.name}"


class CellSpec(BaseModel):
    """One row's worth of work.

    Attributes:
        method: Name of the method; `original` for the unerased model.
        imported: File or folder of an erased model made elsewhere, which then is the method; None otherwise.
        plugin: The file that defines the method, with the hash of its content; None for an installed one.
        problem: Traceback of why the method cannot be used, found when the run was planned; the cell fails
            with it. None where there is none.
        preset: Where the hyper-parameters started from; for the reader, since they are written out below.
        hyperparameters: All fields of the method, defaults resolved, training seed included.
        concept: Name of the concept.
        model: Catalogue name or folder of the model.
        protocol: Name of the protocol.
        prompts: First so many prompts of each set, all when None.
        repetitions: Pictures per prompt.
        steps: Denoising steps of a picture.
        height: Picture height in pixels, the model's own when None.
        width: Picture width in pixels, the model's own when None.
        guidance_scale: Classifier-free guidance, the model's own when None.
        references: Folder with reference pictures for FID and KID, or None.
        prompts_dir: Folder with the user's copies of prompt sets that are fetched, or None.
        batch_size: Pictures per batch; changes none.
        device: Torch device, or None for the automatic choice.
        attacks: What the erasure is attacked with.
        attack_prompts: First so many explicit prompts are attacked; None without attacks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    imported: Path | None = None
    plugin: PluginFile | None = None
    problem: str | None = None
    preset: str | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    concept: str
    model: str
    protocol: str
    prompts: int | None = Field(default=None, gt=0)
    repetitions: int = Field(gt=0)
    steps: int = Field(gt=0)
    height: int | None = None
    width: int | None = None
    guidance_scale: float | None = None
    references: Path | None = None
    prompts_dir: Path | None = None
    batch_size: int = 16
    device: str | None = None
    attacks: tuple[AttackSpec, ...] = ()
    attack_prompts: int | None = None

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_attacks(handler(self))

    def published(self) -> CellSpec:
        """As a result holds it; see `AttackSpec.published`."""
        place = None if self.imported is None else Path(self.imported.name)
        attacks = tuple(each.published() for each in self.attacks)
        return self.model_copy(update={"attacks": attacks, "imported": place})

    @property
    def training_seed(self) -> int | None:
        """The training seed; None for `original` and for what zbench did not train."""
        seed = self.hyperparameters.get("training_seed")
        return int(seed) if seed is not None else None

    @property
    def method_fields(self) -> dict[str, Any]:
        """What the method's class is built from."""
        place = {} if self.imported is None else {"source": self.imported}
        return {**self.hyperparameters, **place}

    @property
    def is_original(self) -> bool:
        """Whether this is the unerased model."""
        return self.method == ORIGINAL

    @property
    def label(self) -> str:
        """Short name for progress and tables, such as `zerase s0`."""
        return self.method if self.training_seed is None else f"{self.method} s{self.training_seed}"


class CellResult(BaseModel):
    """What came out of a cell; written as `result.json`.

    Attributes:
        id: Identity of the cell.
        spec: What was to do.
        status: `done`; `skipped` where the method does not support the concept; `failed`.
        stages: Stage name -> folder relative to the run folder.
        figures: Measured figures as plain data (see `zbench.metrics.figure.Figure`).
        verdict: Whether the generator is collapsed or destroyed, and why; None where nothing was measured.
        shown: Figures that the protocol wants in a readable table; the usual ones when empty.
        cost: What the erasure took; None for `original`.
        seconds: Wall time per stage, of the stages that this result had to run itself.
        provenance: Versions, machine, hashes of model, prompts and detectors.
        error: Traceback of a failed cell, reason of a skipped one.
        attacks: What each attack found, in the order of the spec; an attack that failed is recorded here,
            and the cell is done all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    id: str
    spec: CellSpec
    status: Literal["done", "skipped", "failed"]
    stages: dict[str, str] = Field(default_factory=dict)
    figures: tuple[dict[str, Any], ...] = ()
    verdict: dict[str, Any] | None = None
    shown: tuple[str, ...] = ()
    cost: dict[str, Any] | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    attacks: tuple[AttackRecord, ...] = ()

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_attacks(handler(self))

    @property
    def reason(self) -> str:
        """Why there are no figures, in one line: the last one of the traceback, or the refusal."""
        lines = (self.error or "").strip().splitlines()
        return lines[-1] if lines else ""

    def figure(self, name: str) -> dict[str, Any] | None:
        """The figure of this name, None where it was not measured at all."""
        return next((figure for figure in self.figures if figure["name"] == name), None)
