"""Loss terms as pure functions of predictions; section and equation names are those of the Z-Erase paper.

A squared norm is averaged over all elements throughout, so that weights do not depend on the resolution.
All velocities are [B, C, h, w] in the convention velocity = noise - x0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def mean_square(left: Tensor, right: Tensor) -> Tensor:
    """Mean of (left - right)^2 over all elements, in float32 or better."""
    dtype = torch.promote_types(left.dtype, torch.float32)
    return (left.to(dtype) - right.to(dtype)).square().mean()


def erase_target(concept: Tensor, reference: Tensor, eta: float) -> Tensor:
    """Where the erased prediction shall go: reference - eta (concept - reference).

    Args:
        concept: Frozen prediction under the concept prompt.
        reference: Frozen prediction under the empty prompt (the paper) or an anchor.
        eta: Negative guidance; 0 maps the concept to the reference.
    """
    return reference - eta * (concept - reference)


def erase_loss(live: Tensor, concept: Tensor, reference: Tensor, eta: float) -> Tensor:
    """L_erase: distance of the live prediction under the concept prompt to `erase_target`."""
    return mean_square(live, erase_target(concept, reference, eta).detach())


def attention_loss(masses: Mapping[int, Tensor]) -> Tensor:
    """L_attn: attention that image tokens pay to the concept's tokens.

    The paper sums the columns of the span and leaves the rest open; here the sum over the span is averaged
    over samples, heads, image queries and layers, which makes it a probability in [0, 1] at any scale.

    Args:
        masses: Per layer the probability mass on the span, [B, heads, image rows].
    """
    return torch.stack([mass.float().mean() for mass in masses.values()]).mean()


def preserve_loss(live_empty: Tensor, frozen_empty: Tensor, live: Tensor, frozen: Tensor) -> Tensor:
    """L_pr: distance to the frozen model under the empty prompt plus that under prompts to preserve."""
    return mean_square(live_empty, frozen_empty.detach()) + mean_square(live, frozen.detach())


def add_noise(clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """x_t = (1 - sigma) x0 + sigma noise with sigma = t / 1000 (rectified flow).

    Args:
        clean: x0, [B, C, h, w].
        noise: [B, C, h, w].
        timesteps: t in (0, 1000], [B].
    """
    sigma = (timesteps.to(clean) / 1000).view(-1, 1, 1, 1)
    return (1 - sigma) * clean + sigma * noise
