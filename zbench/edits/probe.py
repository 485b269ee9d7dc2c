"""A stored input and output by which a loaded edit shows that it does what it did when it was saved.

Loaders may be silent about half an adapter, a wrong scale or another base model; a velocity that reproduces
is not. The frozen model's velocity is stored too, so that a message can tell a wrong base from a wrong edit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from zbench.edits.files import read_tensors
from zbench.errors import WeightsError

if TYPE_CHECKING:
    from zbench.model.model import Model

_PROMPT = "a picture of a person"
_TIMESTEP = 800.0
_SIDE = 16
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Accepted relative deviation: other devices and kernels round otherwise."""


@dataclass(frozen=True)
class Probe:
    """One evaluation, small enough to be kept beside every edit.

    Attributes:
        latents: [1, C, h, w], at most 16 x 16.
        timesteps: [1].
        embedding: [L, D], of a fixed prompt, as the unedited model encodes it.
        frozen: [1, C, h, w], velocity of the unedited model.
        edited: [1, C, h, w], velocity of the edited one.
    """

    FILE: ClassVar[str] = "probe.safetensors"

    latents: Tensor
    timesteps: Tensor
    embedding: Tensor
    frozen: Tensor
    edited: Tensor

    @classmethod
    def begin(cls, model: Model) -> Probe:
        """Chooses the input and evaluates the unedited model; no edit may be attached."""
        channels, height, width = model.latent_shape()
        shape = (1, channels, min(height, _SIDE), min(width, _SIDE))
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        nothing = torch.empty(0)
        probe = cls(latents, torch.tensor([_TIMESTEP]), model.encode([_PROMPT])[0].cpu(), nothing, nothing)
        return replace(probe, frozen=probe.evaluate(model))

    def finish(self, model: Model) -> dict[str, Tensor]:
        """Evaluates the edited model and returns everything for the file."""
        done = replace(self, edited=self.evaluate(model))
        return {
            name: getattr(done, name) for name in ("latents", "timesteps", "embedding", "frozen", "edited")
        }

    @classmethod
    def read(cls, folder: Path) -> Probe:
        """Reads the probe of a saved edit.

        Raises:
            WeightsError: The file is missing or incomplete.
        """
        tensors, _ = read_tensors(folder / cls.FILE)
        try:
            return cls(**tensors)
        except TypeError as error:
            raise WeightsError(f"{folder / cls.FILE} is not a probe: it holds {sorted(tensors)}.") from error

    @torch.no_grad()
    def evaluate(self, model: Model) -> Tensor:
        """Velocity of the model as it stands, [1, C, h, w] on the CPU."""
        embeddings = [self.embedding.to(model.device)]
        for edit in model.conditioning:
            embeddings = edit.edit_embeddings(embeddings, [_PROMPT])
        return model.velocity(self.latents, self.timesteps, embeddings).cpu()

    def check(self, frozen: Tensor, edited: Tensor, model: Model) -> None:
        """Compares velocities of now with the stored ones.

        Besides the velocity, the edit's own effect must agree, or a small effect that is missing would hide
        in the tolerance.

        Raises:
            WeightsError: Another base model, or the edit does not do what it did.
        """
        tolerance = _TOLERANCE[model.transformer.dtype]
        drift = _size(frozen - self.frozen)
        if not drift <= tolerance * _size(self.frozen):
            raise WeightsError(
                f"This edit was made for another model than {model.spec.name!r}: its probe differs."
            )
        error, effect = _size(edited - self.edited), _size(self.edited - self.frozen)
        rounding = 4 * drift + 1e-6 * _size(self.frozen)
        if not (error <= tolerance * _size(self.edited) and error <= max(effect / 2, rounding)):
            raise WeightsError(
                "The loaded edit does not reproduce its stored probe: its files do not belong together."
            )


def _size(difference: Tensor) -> float:
    """Root mean square."""
    return float(difference.double().square().mean().sqrt())
