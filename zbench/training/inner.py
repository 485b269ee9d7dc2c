"""Steps that are simulated and taken back: what a model would become if somebody fine-tuned it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zbench.training.loop import backward, take_gradients


@contextmanager
def restored(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Puts the parameters' values back, bit for bit, at the end of a `with` block; gradients stay."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def polyak_step(parameters: Sequence[nn.Parameter], loss: Tensor, share: float) -> None:
    """Polyak's step for a loss whose minimum is 0: theta <- theta - share * L / ||grad L||^2 * grad L.

    It would lower a linear loss by this share whatever the parameters' scale, and is no step at all where
    nothing is left to gain. Gradients already on the parameters are lost.

    A loss that rounding alone keeps above 0 gives a step along rounding. In bfloat16, with kernels that round
    another batch otherwise, such are the first steps, as long as nothing is forgotten yet.

    Args:
        parameters: theta, changed in place.
        loss: L >= 0, with its graph.
        share: In (0, 1].
    """
    take_gradients(parameters)
    backward(loss)
    gradients = take_gradients(parameters)
    square = sum(float(gradient.double().square().sum()) for gradient in gradients)
    length = share * loss.item() / square if square > 0 else 0.0
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=length)


def clip_gradients(parameters: Sequence[nn.Parameter], largest: float | None) -> None:
    """Scales the gradients down to a joint norm of `largest`; leaves them alone where it is None."""
    if largest is not None:
        nn.utils.clip_grad_norm_(parameters, largest)
