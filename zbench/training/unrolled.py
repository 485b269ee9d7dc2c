"""The gradient of a loss on finished pictures through every step of the sampler, in the memory of one step.

The sampler runs once without gradient and keeps its states. Backwards, each step is computed again from its
stored state, with gradient, and hands the gradient on to the step before: reverse mode by the chain rule,
checkpointed at the steps. Only one step's activations are alive at a time, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from zbench.model import Model


class SamplerRun:
    """One run of the sampler that can be gone through backwards.

    Attributes:
        states: [steps + 1, B, C, h, w] float32, noise first.
        final: The finished latents, [B, C, h, w], a leaf to compute a loss from.
    """

    states: Tensor
    final: Tensor

    def __init__(self, model: Model, embeddings: list[Tensor], steps: int | None) -> None:
        self._model, self._embeddings = model, embeddings
        self._timesteps, self._sigmas = model.timesteps(steps), model.sigmas(steps)

    @classmethod
    @torch.no_grad()
    def sample(
        cls, model: Model, noise: Sequence[Tensor], embeddings: list[Tensor], steps: int | None = None
    ) -> SamplerRun:
        """Denoises without guidance, as `Model.trajectory` does, with whatever edit is attached.

        Args:
            model: Evaluated once a step.
            noise: Where to start, B tensors [C, h, w].
            embeddings: B tensors [L_i, D].
            steps: Sampler steps; the model's default if None.
        """
        run, states = cls(model, embeddings, steps), [torch.stack(list(noise))]
        for index in range(len(run._timesteps)):
            states.append(run._step(states[-1], index))
        run.states = torch.stack(states)
        run.final = states[-1].detach().requires_grad_()
        return run

    def backward(self, loss: Tensor) -> Tensor:
        """Adds the gradient of a loss to the parameters, through all steps.

        Whatever is random in an edit must be what it was in `sample`.

        Args:
            loss: Scalar, a function of `final`.

        Returns:
            The loss's gradient at the starting noise, [B, C, h, w].
        """
        (gradient,) = torch.autograd.grad(loss, self.final)
        for index in reversed(range(len(self._timesteps))):
            state = self.states[index].detach().requires_grad_()
            torch.autograd.backward(self._step(state, index), gradient)
            assert state.grad is not None
            gradient = state.grad
        return gradient

    def _step(self, state: Tensor, index: int) -> Tensor:
        """One Euler step, x + (sigma' - sigma) v(x, t)."""
        timesteps = self._timesteps[index].expand(len(state))
        width = self._sigmas[index + 1] - self._sigmas[index]
        return state + width * self._model.velocity(state, timesteps, self._embeddings)
