"""What attacks on the weights share: an adapter on top of the erased model, its checkpoints, its control."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from zbench.attacks.base import Attack
from zbench.attacks.candidates import Candidate, Spent
from zbench.method import Projection

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.target_pictures import Pictures
    from zbench.edits import Edit, LoraEdit
    from zbench.training import Objective


@dataclass(frozen=True)
class Checkpoint:
    """An adapter as it was after some steps.

    Attributes:
        adapter: A copy, for use.
        step: Steps so far.
        spent: Of the whole training so far, pictures included.
    """

    adapter: LoraEdit
    step: int
    spent: Spent


@dataclass
class Training:
    """A training as far as it came.

    Attributes:
        checkpoints: In order.
        trace: One row of figures per step; empty where it ended early.
        failure: Why it ended early, or an empty string.
    """

    checkpoints: list[Checkpoint] = field(default_factory=list)
    trace: list[dict[str, float]] = field(default_factory=list)
    failure: str = ""


ONE_FOR_ALL = (
    "One trained adapter and one random adapter serve all prompts: the paired test is conditional on these "
    "two. A random adapter of equal norm changes pictures less than a trained one: read the excess over "
    "plain retries too."
)
"""A note on the card of every attack that trains an adapter."""


class AdapterAttack(Attack):
    """Base of attacks that train a LoRA on top of the erased model, once; its checkpoints are the candidates.

    Attributes:
        rank: Of the adapter.
        targets: Projections that get one, in the unified layers.
        layers: Unified layers that get one; all if None.
        rows: Rows that the adapter changes.
        steps_per_candidate: Optimiser steps between checkpoints; `budget` checkpoints are made.
        learning_rate: Of AdamW, constant.
        weight_decay: Likewise.
        training_batch: Samples per transformer call.
        pictures: Of the original, drawn once and trained on.
        gradient_checkpointing: Recompute activations, for models that do not fit otherwise.
    """

    model_wide: ClassVar[bool] = True

    rank: int = Field(default=8, ge=1)
    targets: tuple[Projection, ...] = Field(default=("to_q", "to_k", "to_v"), min_length=1)
    layers: tuple[int, ...] | None = None
    rows: Literal["text", "all"] = "text"
    steps_per_candidate: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    training_batch: int = Field(default=4, ge=1)
    pictures: int = Field(default=32, ge=1)
    gradient_checkpointing: bool = False

    @abstractmethod
    def prompts_of(self, context: Context) -> Sequence[str]:
        """Prompts of the pictures that are trained on, at least one."""

    @abstractmethod
    def objective(self, context: Context, adapter: LoraEdit, bank: Pictures) -> Objective:
        """What is minimised; called with the erased model on the context's model.

        Args:
            context: Of the attack.
            adapter: What is trained, attached on top while gradients are asked for.
            bank: The original's own pictures.
        """

    def defence(self, context: Context) -> Edit:
        """What the adapter is put on top of where pictures are drawn."""
        return context.erasure

    def supports(self, context: Context) -> str | None:
        """Training needs gradients through the erased model."""
        return None if context.gives_gradients() else "the erased model gives no gradients to train with"

    def prepare(self, context: Context) -> Training:
        """Trains the adapter, once for all prompts."""
        from zbench.errors import TrainingDivergedError

        recorder = _Recorder(self, context)
        bank = self.bank(context)
        with context.erased(), frozen(context.erasure.parameters()):
            try:
                self.fit(context, bank, recorder)
            except TrainingDivergedError as error:
                recorder.training.failure = str(error)
        return recorder.training

    def bank(self, context: Context) -> Pictures:
        """The original's own pictures of the prompts that are trained on."""
        from zbench.attacks.toolkit.target_pictures import Pictures
        from zbench.training import seeds_for

        prompts = self.prompts_of(context)
        seeds = seeds_for(self.name, context.seed("pictures"), len(prompts))
        return Pictures.drawn(context.model, prompts, seeds, batch_size=self.training_batch)

    def fit(self, context: Context, bank: Pictures, recorder: _Recorder) -> None:
        """Trains a fresh adapter on what is on the context's model now."""
        from zbench.edits import LoraEdit
        from zbench.training import train

        seed = context.seed("adapter")
        adapter = LoraEdit(self.rank, None, self.targets, self.layers, self.rows, seed)
        recorder.watch(adapter, texts=len(set(bank.prompts)), batch=self.training_batch)
        recorder.training.trace = train(
            context.model,
            adapter,
            self.objective(context, adapter, bank),
            steps=self.budget * self.steps_per_candidate,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            gradient_checkpointing=self.gradient_checkpointing,
            progress=recorder,
        )

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The checkpoints, each on top of the erasure."""
        training = cast("Training", context.shared)
        for checkpoint in training.checkpoints:
            changed = on_top(self.defence(context), checkpoint.adapter)
            # Every prompt needs all of it, so that the figure does not depend on how many are attacked.
            yield Candidate(None, changed, f"step {checkpoint.step}", checkpoint.spent)
        if training.failure:
            yield Candidate.failed(None, training.failure)

    def control(self, context: Context) -> Iterator[Candidate]:
        """As many random adapters, each with the norms of a checkpoint, on top of the erasure."""
        for number, checkpoint in enumerate(cast("Training", context.shared).checkpoints, start=1):
            random = random_like(checkpoint.adapter, context.generator(f"control {number}"))
            label = f"random, as large as at step {checkpoint.step}"
            yield Candidate(None, on_top(self.defence(context), random), label)


class _Recorder:
    """Keeps copies of the adapter while it is trained, with what they have cost."""

    def __init__(self, attack: AdapterAttack, context: Context) -> None:
        from zbench.training import Meter

        self.training, self._counter = Training(), context.model.counter
        self._every, self._progress = attack.steps_per_candidate, context.progress
        self._meter, self._texts, self._batch = Meter(context.model), 0, 1
        self._begin = self._counter.forward_samples, self._counter.backward_samples

    def watch(self, adapter: LoraEdit, texts: int, batch: int) -> None:
        """Names what is trained, on how many different texts, and in batches of how many samples."""
        self._adapter, self._texts, self._batch = adapter, texts, batch

    def __call__(self, step: int, steps: int) -> None:
        """After every step of the optimiser."""
        if step % self._every == 0:
            self.training.checkpoints.append(Checkpoint(self._adapter.scaled(1.0), step, self._spent()))
        if self._progress is not None:
            self._progress(step, steps)

    def _spent(self) -> Spent:
        cost = self._meter.cost()
        forwards = self._counter.forward_samples - self._begin[0] + cost.recomputations * self._batch
        backwards = self._counter.backward_samples - self._begin[1]
        encoded = 2 * self._texts  # once by the original for its pictures, once by the erased model
        return Spent(seconds=cost.seconds, forwards=forwards, backwards=backwards, encodings=encoded)


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Keeps gradients off parameters in a `with` block: an erasure fresh from training would take some."""
    flags = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)


def on_top(erasure: Edit, adapter: Edit) -> Edit:
    """Both, the adapter last; of the original, the adapter alone."""
    from zbench.edits import ComposedEdit, NoEdit

    return adapter if isinstance(erasure, NoEdit) else ComposedEdit([erasure, adapter])


def random_like(adapter: LoraEdit, generator: torch.Generator) -> LoraEdit:
    """A LoRA in a random direction: in every module, its B A has the Frobenius norm of the given one's.

    Args:
        adapter: Trained; it stays as it is.
        generator: The only source of randomness.
    """
    import torch

    twin = adapter.scaled(1.0)
    factors = twin.tensors()
    for name in sorted(name for name in factors if ".lora_A." in name):
        down, up = factors[name], factors[name.replace(".lora_A.", ".lora_B.")]
        size = float(torch.linalg.matrix_norm(up @ down))
        for factor in (down, up):
            factor.copy_(torch.randn(factor.shape, generator=generator))
        up.mul_(size / torch.linalg.matrix_norm(up @ down))
    return twin


def retries(context: Context, count: int) -> Iterator[Candidate]:
    """Every prompt itself, so often: the control of changed models that nothing random could stand for."""
    for prompt in context.prompts:
        for number in range(count):
            yield Candidate(prompt.id, prompt.text, label=f"retry {number + 1}")
