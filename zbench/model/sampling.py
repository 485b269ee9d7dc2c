"""The sampler's clock, and trajectories along it: what `ZImagePipeline.__call__` does, step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.z_image.pipeline_z_image import (
    calculate_shift,
    get_default_z_image_sigmas,
    retrieve_timesteps,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from zbench.errors import ConfigurationError

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(latents [B, C, h, w], timesteps [B]) -> velocity [B, C, h, w]."""


@dataclass(frozen=True)
class Trajectory:
    """States of a denoising run, noise first.

    Attributes:
        latents: [k + 1, B, C, h, w] float32; `latents[i]` is the state before step i, the last is the result.
        timesteps: [steps] float32, falling from at most 1000; `timesteps[i]` belongs to `latents[i]`.
    """

    latents: Tensor
    timesteps: Tensor


def clock(scheduler: Any, steps: int, latent_height: int, latent_width: int) -> Any:
    """A fresh scheduler set exactly as the pipeline would set its own, which stays untouched.

    Its `timesteps` are [steps], its `sigmas` [steps + 1] with the terminal one. The time shift, dynamic or
    static, follows the scheduler's configuration.
    """
    fresh = type(scheduler).from_config(scheduler.config)
    settings = scheduler.config
    shift = calculate_shift(
        (latent_height // 2) * (latent_width // 2),
        settings.get("base_image_seq_len", 256),
        settings.get("max_image_seq_len", 4096),
        settings.get("base_shift", 0.5),
        settings.get("max_shift", 1.15),
    )
    retrieve_timesteps(fresh, steps, "cpu", sigmas=get_default_z_image_sigmas(steps), mu=shift)
    fresh.set_begin_index(0)
    return fresh


def noise(seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Starting noise [B, C, h, w], float32: one CPU generator per picture, so none sees its batch."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn: Tensor = randn_tensor(
        (len(seeds), *shape), generator=generators, device=device, dtype=torch.float32
    )
    return drawn


def batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of equal length, in order of first appearance.

    Raises:
        ConfigurationError: The batch size is not positive.
    """
    if batch_size < 1:
        raise ConfigurationError(f"The batch size must be at least 1, not {batch_size}.")
    groups: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        groups[length].append(index)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


@torch.no_grad()
def integrate(velocity: Velocity, scheduler: Any, start: Tensor, until: int) -> Trajectory:
    """Follows the velocity from noise for `until` steps of a scheduler made by `clock`.

    Args:
        velocity: Evaluated once a step.
        scheduler: From `clock`; it is used up.
        start: [B, C, h, w] float32.
        until: Steps to take, 0 to all.
    """
    states = [start]
    for timestep in scheduler.timesteps[:until]:
        predicted = velocity(states[-1], timestep.expand(len(start)))
        states.append(scheduler.step(predicted, timestep, states[-1], return_dict=False)[0])
    return Trajectory(torch.stack(states), scheduler.timesteps.clone())
