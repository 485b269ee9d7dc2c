"""One step of erasing as much as possible while the preservation loss rises no faster than a slack.

    d = grad L_er + lambda grad L_pr,   lambda >= 0 such that  g = <grad L_pr, d> + epsilon >= 0
    theta <- theta - alpha d

Where lambda comes from is the business of `LagrangianModulation`; here the two losses are weighed with it,
and what the claims about it speak of is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zbench.training.loop import backward, frozen_call, norm_of, take_gradients
from zbench.training.modulation import LagrangianModulation, inner_product

if TYPE_CHECKING:
    from zbench.edits import Edit
    from zbench.model import Model


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Gradients of a loss without touching those that the parameters hold; zeros where it has none."""
    if not loss.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def alignment(erase: Sequence[Tensor], preserve: Sequence[Tensor]) -> dict[str, float]:
    """Norms of two gradients and their cosine, which is given as 0 where a gradient is zero."""
    left, right = norm_of(erase), norm_of(preserve)
    cosine = inner_product(erase, preserve) / (left * right) if left * right > 0 else 0.0
    return {"erase_gradient_norm": left, "preserve_gradient_norm": right, "gradient_cosine": cosine}


class ConstrainedStep:
    """Weighs the gradients of L_er and L_pr with lambda; makes an objective of two losses.

    Mode ``implicit`` pays one backward pass for each loss (none for L_pr while lambda is 0) and a forward to
    probe L_pr again; ``exact`` solves for lambda from the two gradients; ``fixed`` leaves lambda alone.

    Figures for the trace, beyond those of the erasing loss: ``preserve`` (L_pr before the step) and
    ``multiplier`` (lambda in the step). Mode ``implicit``: ``preserve_after`` and ``constraint_proxy``, the
    scalar stand-in for g. Where both gradients are known: ``erase_gradient_norm``,
    ``preserve_gradient_norm``, ``gradient_cosine``, and ``constraint``, which is g for the direction that the
    optimiser really took. ``violation`` is max(0, -g), from the proxy in mode ``implicit``.

    Attributes:
        modulation: Holds lambda.
    """

    def __init__(
        self, model: Model, edit: Edit, modulation: LagrangianModulation, trace_gradients: int = 0
    ) -> None:
        """Prepares the steps of one training.

        Args:
            model: Whose evaluations are counted; those for the trace alone are left out.
            edit: What is trained.
            modulation: Finds lambda.
            trace_gradients: Take both gradients at every so many steps, for the trace alone: one more forward
                and backward each time, the weights stay the same. 0 never does; ``exact`` has them anyway.
        """
        self.modulation = modulation
        self._model, self._edit, self._every, self._step = model, edit, trace_gradients, -1
        self._before = 0.0
        self._preserve: Callable[[], Tensor] | None = None
        self._preserve_gradient: list[Tensor] = []
        self._start: list[Tensor] = []

    def gradients(
        self, erase: Callable[[], dict[str, float]], preserve: Callable[[], Tensor]
    ) -> dict[str, float]:
        """Adds the gradient of L_er + lambda L_pr to the parameters.

        Args:
            erase: Adds the gradient of L_er and returns its figures.
            preserve: L_pr, on the same points whenever it is called in this step and after it.
        """
        self._step, self._preserve = self._step + 1, preserve
        parameters = list(self._edit.parameters())
        figures = erase()
        if self.modulation.mode == "exact":
            figures |= self._exact(parameters)
        else:
            figures |= self._look(parameters) if self._every and self._step % self._every == 0 else {}
            self._before = self._weighted(preserve)
        return {**figures, "preserve": self._before, "multiplier": self.modulation.value}

    def _weighted(self, preserve: Callable[[], Tensor]) -> float:
        if self.modulation.value == 0:
            return frozen_call(preserve).item()
        loss = preserve()
        backward(self.modulation.value * loss)
        return loss.item()

    def _exact(self, parameters: list[nn.Parameter]) -> dict[str, float]:
        assert self._preserve is not None
        erase = take_gradients(parameters)
        loss = self._preserve()
        preserve = gradients_of(loss, parameters)
        self._before = loss.item()
        weight = self.modulation.update_exact(erase, preserve)
        for parameter, left, right in zip(parameters, erase, preserve, strict=True):
            parameter.grad = left + weight * right
        return self._remember(parameters, erase, preserve)

    def _look(self, parameters: list[nn.Parameter]) -> dict[str, float]:
        """Both gradients for the trace; those that the parameters hold stay as they are."""
        assert self._preserve is not None
        erase = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        with self._model.counter.paused():
            preserve = gradients_of(self._preserve(), parameters)
        return self._remember(parameters, erase, preserve)

    def _remember(
        self, parameters: list[nn.Parameter], erase: list[Tensor], preserve: list[Tensor]
    ) -> dict[str, float]:
        self._preserve_gradient = preserve
        self._start = [parameter.detach().clone() for parameter in parameters]
        return alignment(erase, preserve)

    def after_step(self) -> dict[str, float]:
        """Probes L_pr again on the same points and moves lambda (mode ``implicit``); figures to trace."""
        figures = {} if self.modulation.mode != "implicit" else self._probe()
        if self._preserve_gradient:
            figures["constraint"] = self._constraint()
        known = figures.get("constraint_proxy", figures.get("constraint"))
        return figures if known is None else {**figures, "violation": max(0.0, -known)}

    def _probe(self) -> dict[str, float]:
        assert self._preserve is not None
        after = frozen_call(self._preserve).item()
        proxy = self.modulation.proxy(self._before, after)
        self.modulation.update_implicit(self._before, after)
        return {"preserve_after": after, "constraint_proxy": proxy}

    def _constraint(self) -> float:
        """The constraint <grad L_pr, d> + epsilon with d = (theta before - theta after) / alpha."""
        moved = [s - p.detach() for s, p in zip(self._start, self._edit.parameters(), strict=True)]
        along = inner_product(self._preserve_gradient, moved) / self.modulation.learning_rate
        self._preserve_gradient, self._start = [], []
        return along + self.modulation.epsilon
