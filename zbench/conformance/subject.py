"""A method under check: its trial runs, each made once and watched, whatever a check asks of them."""

from __future__ import annotations

import gc
import hashlib
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zbench.conformance.bench import Bench, Progress
from zbench.conformance.results import SkipCheck
from zbench.stages.erase import erased
from zbench.stages.integrity import ModelState, ProcessState
from zbench.stages.watching import Watch, watching

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.method import Method
    from zbench.model import Model


@dataclass(frozen=True)
class Trial:
    """One run of `erase`, and what happened around it.

    Attributes:
        erasure: What came out, verified; None where there is nothing usable.
        error: Why there is not.
        trace: Its traceback.
        changes: What of the model was other than before.
        settings: Random states and settings of the process that were other than before.
        watch: What was read and written.
    """

    erasure: Erasure | None
    error: Exception | None
    trace: str | None
    changes: list[str]
    settings: list[str]
    watch: Watch


@dataclass(frozen=True)
class Leftovers:
    """What an erasure left behind when nobody held it any longer.

    Attributes:
        effect: Velocities with the edit attached, before it was let go.
        alive: Whether the edit is still there.
        nbytes: Tensors that are still there, prompt embeddings of the model's cache left out.
        of_edit: Size of the edit's own tensors.
    """

    effect: Tensor
    alive: bool
    nbytes: int
    of_edit: int


class Subject:
    """A method with its settings, and one concept.

    Args:
        method: With all of its hyper-parameters.
        concept: What it erases.
        bench: Model and instruments.
    """

    def __init__(self, method: Method, concept: Concept, bench: Bench) -> None:
        self.method, self.concept, self.bench = method, concept, bench
        self.progress: Progress | None = None

    @property
    def model(self) -> Model:
        """The model, as it was delivered."""
        model: Model = self.bench.model()
        return model

    # Trials -----------------------------------------------------------------------------------------------

    @cached_property
    def first(self) -> Trial:
        """The first erasure; all that is said of the method itself is said of it."""
        return self.run(self.method)

    @cached_property
    def again(self) -> Trial:
        """Another one with the same training seed."""
        return self.run(self.method)

    @property
    def erasure(self) -> Erasure:
        """The first erasure.

        Raises:
            SkipCheck: There is none.
        """
        if self.first.erasure is None:
            raise SkipCheck("there is no erasure to look at (see `returns`)")
        return self.first.erasure

    def with_seed(self, seed: int) -> Method:
        """The method with another training seed."""
        return type(self.method).of({**self.method.model_dump(), "training_seed": seed})

    def run(self, method: Method) -> Trial:
        """Erases under watch; the model and the process are put right afterwards."""
        model = self.model
        before, process = ModelState.of(model), ProcessState.now()
        erasure, error, trace = None, None, None
        with watching() as watch:
            try:
                erasure = erased(method, self.concept, model, self.progress)
            except Exception as problem:  # a stranger's code may raise anything
                trace, error = traceback.format_exc(), problem.with_traceback(None)
        settings = process.changes()
        process.restore()
        return Trial(erasure, error, trace, before.changes(model), settings, watch)

    # What an erasure does ---------------------------------------------------------------------------------

    def points(self, model: Model) -> tuple[Tensor, Tensor, list[str]]:
        """Where velocities are looked at: latents [2, C, h, w], timesteps [2], prompts of unequal length."""
        prompts = sorted({*self.concept.training_prompts, *self.concept.preserve_prompts}, key=len)
        latents = torch.randn((2, *model.latent_shape()), generator=torch.Generator().manual_seed(0))
        return latents, torch.tensor([900.0, 400.0]), [prompts[0], self.concept.training_prompts[-1]]

    @torch.no_grad()
    def velocities(self, model: Model) -> Tensor:
        """Velocities of the model as it stands at `points`, [2, C, h, w] on the CPU."""
        latents, timesteps, prompts = self.points(model)
        return model.velocity(latents, timesteps, model.encode(prompts)).cpu()

    def effect(self, erasure: Erasure, model: Model) -> Tensor:
        """Velocities with an erasure's edit attached."""
        with model.edited(erasure.edit):
            return self.velocities(model)

    def saved(self, erasure: Erasure) -> dict[str, str]:
        """Hashes of the files of an erasure's edit, as they are saved."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            erasure.edit.save(folder, self.model)
            found = sorted(path for path in folder.rglob("*") if path.is_file())
            return {
                path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in found
            }

    @cached_property
    def leftovers(self) -> Leftovers:
        """Erases with another training seed and lets the erasure go.

        Raises:
            SkipCheck: Nothing came out of it.
        """
        _ = self.erasure, self.again  # what is kept for good is kept by now
        model = self.model
        with _newcomers() as found:
            trial = self.run(self.with_seed(self.method.training_seed + 1))
            if trial.erasure is None:
                raise SkipCheck(
                    f"the training seed {self.method.training_seed + 1} gives no erasure: {trial.error}"
                )
            effect, of_edit = self.effect(trial.erasure, model), _edit_bytes(trial.erasure)
            edit: Any = weakref.ref(trial.erasure.edit)
            del trial
            gc.collect()
            left = _tensor_bytes(found(), leave_out=[effect, *model.prompts.known.values()])
        return Leftovers(effect, edit() is not None, left, of_edit)


def _edit_bytes(erasure: Erasure) -> int:
    from zbench.stages.erase import tensors_of

    return sum(value.nbytes for _, value in tensors_of(erasure.edit))


@contextmanager
def _newcomers() -> Iterator[Callable[[], list[Any]]]:
    """Gives a function that lists objects which were made inside the `with` block and are still there."""
    # Frozen objects are neither searched for garbage nor listed: that leaves the new ones, and takes no time.
    gc.freeze()
    try:
        yield gc.get_objects
    finally:
        gc.unfreeze()


def _tensor_bytes(objects: list[Any], leave_out: list[Tensor]) -> int:
    """Bytes of all tensors among some objects, each storage counted once."""
    # Not `isinstance`: lazy modules answer it by importing themselves.
    tensors = [each for each in objects if issubclass(type(each), Tensor) and each.layout == torch.strided]
    known = {each.untyped_storage().data_ptr() for each in leave_out}
    sizes = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(size for place, size in sizes.items() if place not in known)
