"""What an erasure method is: hyper-parameters as fields, one verb, and a card that says where it comes from.

Importing a method must stay cheap (cards and presets are listed without torch), so a method file imports the
training toolkit inside `erase`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import ConfigurationError, UnknownNameError

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.model import Model
    from zbench.plugins import PluginFile
    from zbench.training import Meter, Objective

Projection = Literal[
    "to_q", "to_k", "to_v", "to_out.0", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"
]
"""Linear modules of the unified layers that an edit may change: those of the attention and of the SwiGLU."""

Progress = Callable[[int, int], None]
"""Called with (units done, units in all) as work goes on."""

TOOLKIT_VERSION = 1
"""Raised when `zbench.training` or `zbench.edits` would make other weights of the same method."""


class MethodCard(BaseModel):
    """What a reader of a table should know about a method.

    Attributes:
        title: Full name.
        paper: Authors, title, venue.
        arxiv: Identifier, or an empty string.
        reference_code_licence: Licence of the authors' code as found, or "none released".
        rows: Which rows of the unified sequence the edit touches: "text", "all", or "none" (it acts on the
            velocity, after the transformer).
        weights: Which weights it changes.
        needs_training: Whether gradients are needed.
        needs_pictures: Whether pictures from outside are needed (own samples do not count).
        deviations: Where this implementation departs from the paper, and why.
        notes: What to keep in mind when reading its figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    paper: str
    arxiv: str
    reference_code_licence: str
    rows: Literal["text", "all", "none"]
    weights: str
    needs_training: bool
    needs_pictures: bool
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Method(BaseModel, ABC):
    """Base of every erasure method; a subclass is one file with its fields, presets and `erase`.

    Attributes:
        version: Raised by whoever changes the method so that the same fields give other weights: what was
            made before is then made anew, not found again.
        training_seed: Everything random during the erasure derives from it and from nothing else: same seed,
            same weights, up to the device's kernels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    card: ClassVar[MethodCard]
    presets: ClassVar[dict[str, dict[str, Any]]]
    version: ClassVar[int] = 1
    plugin: ClassVar[PluginFile | None] = None
    """The file that it comes from, where it is not packaged; set by whoever loads the file."""

    training_seed: int = Field(default=0, ge=0)

    @classmethod
    def with_preset(cls, preset: str, **overrides: Any) -> Self:
        """Builds the method with the values of a preset, changed by `overrides`.

        Raises:
            UnknownNameError: There is no such preset, or an override names no field.
            ConfigurationError: A value has the wrong type or is out of range.
        """
        if preset not in cls.presets:
            raise UnknownNameError.of(f"preset of {cls.name}", preset, cls.presets)
        return cls.of({**cls.presets[preset], **overrides})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Builds the method from plain values; what is wrong is said in one line.

        Raises:
            UnknownNameError: A key names no field.
            ConfigurationError: A value has the wrong type or is out of range.
        """
        for key in values:
            if key not in cls.model_fields:
                raise UnknownNameError.of(f"field of {cls.name}", key, cls.model_fields)
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "settings"
            raise ConfigurationError(f"{cls.name}.{field} = {first['input']!r}: {first['msg']}") from error

    def supports(self, concept: Concept) -> str | None:
        """None where the method can erase this concept, otherwise the reason why not in one sentence."""
        return None

    @abstractmethod
    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Makes the edit that removes `concept` from `model`; the model itself is left as it was.

        Args:
            model: The unerased model, no edit attached.
            concept: What to erase.
            progress: Told about every finished unit of work.

        Returns:
            The edit, detached, with its cost and training trace.

        Raises:
            ConfigurationError: `supports` names a reason why this concept cannot be erased.
            TrainingDivergedError: A loss or gradient stopped being finite.
        """

    def identity(self) -> dict[str, Any]:
        """What decides which weights this method makes of a model and a concept, as plain values."""
        return {
            "method": self.name,
            "version": self.version,
            "toolkit": TOOLKIT_VERSION,
            "hyperparameters": self.model_dump(mode="json"),
            **({"plugin": self.plugin.sha256} if self.plugin else {}),
        }

    def require_support(self, concept: Concept) -> None:
        """Raises `ConfigurationError` where `supports` gives a reason."""
        reason = self.supports(concept)
        if reason is not None:
            raise ConfigurationError(f"{self.name} cannot erase {concept.name!r}: {reason}")


class LoraMethod(Method):
    """Base of methods that train low-rank adapters on attention projections of the unified layers.

    Attributes:
        rank: Rank of every adapter; its scale is 1, at training and afterwards.
        targets: Projections that get an adapter.
        layers: Unified layers that get one; all if None.
        steps: Optimiser steps.
        batch_size: Samples per transformer call while training.
        learning_rate: alpha, constant.
        optimiser: ``adamw`` or ``sgd``.
        weight_decay: Of the optimiser.
        gradient_checkpointing: Recompute activations, for models that do not fit otherwise.
    """

    rows: ClassVar[Literal["text", "all"]] = "text"

    rank: int = Field(default=8, ge=1)
    targets: tuple[Projection, ...] = Field(default=("to_q", "to_k", "to_v"), min_length=1)
    layers: tuple[int, ...] | None = None
    steps: int = Field(default=200, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = Field(default=1e-5, ge=0)
    gradient_checkpointing: bool = False

    def lora(self) -> Edit:
        """A fresh adapter on this method's rows; it changes nothing before training."""
        from zbench.edits import LoraEdit

        return LoraEdit(
            rank=self.rank, targets=self.targets, layers=self.layers, rows=self.rows, seed=self.training_seed
        )

    def fit(
        self,
        model: Model,
        concept: Concept,
        edit: Edit,
        objective: Objective,
        meter: Meter,
        progress: Progress | None,
    ) -> Erasure:
        """Trains `edit` on `objective` and wraps it up with its cost and trace."""
        from zbench.erasure import Erasure
        from zbench.training import train

        trace = train(
            model,
            edit,
            objective,
            steps=self.steps,
            learning_rate=self.learning_rate,
            optimiser=self.optimiser,
            weight_decay=self.weight_decay,
            gradient_checkpointing=self.gradient_checkpointing,
            meter=meter,
            progress=progress,
        )
        settings = self.model_dump(mode="json")
        return Erasure(edit, self.name, concept.name, settings, meter.cost(self.steps), trace)
