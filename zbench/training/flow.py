"""Flow matching on the frozen model's own samples, and batches put together for one call."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from zbench.training.losses import add_noise
from zbench.training.trajectories import Draw, noise_like


class Samples(Protocol):
    """Finished samples of the frozen model: a `TrajectoryBank`, or pictures without their trajectories."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of every sample, E of them."""
        ...

    @property
    def embeddings(self) -> list[Tensor]:
        """Their embeddings, E tensors [L_i, D]."""
        ...

    @property
    def timesteps(self) -> Tensor:
        """Of the model's sampler, [steps]."""
        ...

    def clean(self) -> Tensor:
        """The finished latents, [E, C, h, w]."""
        ...


def flow_points(bank: Samples, generator: torch.Generator, batch: int) -> Draw:
    """Samples of the frozen model, noised anew to levels of its sampler.

    Args:
        bank: Whose finished latents y_0 are noised.
        generator: The only source of randomness.
        batch: Number of points.

    Returns:
        y_t = (1 - sigma) y_0 + sigma e, and as `velocities` what flow matching asks for there, e - y_0.
    """
    entries = torch.randint(len(bank.prompts), (batch,), generator=generator)
    steps = torch.randint(len(bank.timesteps), (batch,), generator=generator)
    clean, timesteps = bank.clean()[entries], bank.timesteps[steps]
    noise = noise_like(clean, generator)
    noised = add_noise(clean, noise, timesteps)
    embeddings = [bank.embeddings[entry] for entry in entries.tolist()]
    return Draw(noised, timesteps, entries, steps, noise - clean, embeddings)


def joined(first: Draw, second: Draw) -> Draw:
    """Two draws below each other, for one call; entries and steps still belong to their own banks."""
    return Draw(
        latents=torch.cat([first.latents, second.latents]),
        timesteps=torch.cat([first.timesteps, second.timesteps]),
        entries=torch.cat([first.entries, second.entries]),
        steps=torch.cat([first.steps, second.steps]),
        velocities=torch.cat([first.velocities, second.velocities]),
        embeddings=first.embeddings + second.embeddings,
    )
