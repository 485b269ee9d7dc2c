"""Denoising trajectories of the frozen model, sampled once and drawn from at every training step.

Sampling anew at each step is most of the cost of the published loops, and the latents of a frozen model do
not change. The velocities along a trajectory are the frozen model's predictions at its own latents, so they
come for free.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from zbench.model import Model


def seeds_for(purpose: str, training_seed: int, count: int) -> list[int]:
    """Noise seeds that differ between purposes and training seeds, and never meet those of scored pictures.

    Args:
        purpose: What the noise is for ("erase", "preserve").
        training_seed: The method's training seed.
        count: How many.
    """
    texts = (f"zbench-training/{purpose}/{training_seed}/{index}" for index in range(count))
    return [int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") for text in texts]


@dataclass(frozen=True)
class Draw:
    """A batch drawn from a bank.

    Attributes:
        latents: x_t, [B, C, h, w].
        timesteps: t in (0, 1000], [B].
        entries: Index of each sample's trajectory (and so of its prompt), [B].
        steps: Index of each sample's sampler step, [B].
        velocities: Frozen prediction at x_t under the trajectory's own prompt, [B, C, h, w].
        embeddings: Prompt embeddings of the trajectories, B tensors [L_i, D].
    """

    latents: Tensor
    timesteps: Tensor
    entries: Tensor
    steps: Tensor
    velocities: Tensor
    embeddings: list[Tensor]


class TrajectoryBank:
    """Trajectories of the frozen model, one per (prompt, seed).

    Attributes:
        prompts: The prompt of every trajectory, E of them.
        embeddings: Their embeddings, E tensors [L_i, D].
        latents: [steps + 1, E, C, h, w]; index 0 is noise, the last one the clean latent.
        timesteps: [steps].
    """

    def __init__(
        self,
        prompts: Sequence[str],
        embeddings: list[Tensor],
        latents: Tensor,
        timesteps: Tensor,
        sigmas: Tensor,
    ) -> None:
        self.prompts = tuple(prompts)
        self.embeddings = embeddings
        self.latents = latents
        self.timesteps = timesteps
        self._sigmas = sigmas
        self._widths = (sigmas[1:] - sigmas[:-1]).to(latents.device, torch.float32)
        self._velocities: Tensor | None = None

    @property
    def velocities(self) -> Tensor:
        """[steps, E, C, h, w], the frozen predictions along the way.

        They follow from the latents, and are held only where others were put in their place.
        """
        if self._velocities is not None:
            return self._velocities
        steps = torch.arange(len(self.timesteps), device=self.latents.device)
        return self._velocities_at(steps[:, None], torch.arange(len(self), device=self.latents.device)[None])

    @velocities.setter
    def velocities(self, velocities: Tensor) -> None:
        self._velocities = velocities

    def _velocities_at(self, steps: Tensor, entries: Tensor) -> Tensor:
        if self._velocities is not None:
            return self._velocities[steps, entries].float()
        # An Euler step is x_{k+1} = x_k + (sigma_{k+1} - sigma_k) v_k: solved for v_k, it saves a call.
        moved = (self.latents[steps + 1, entries] - self.latents[steps, entries]).float()
        return moved / self._widths[steps][..., None, None, None]

    @classmethod
    def sample(
        cls,
        model: Model,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        batch_size: int,
        steps: int | None = None,
    ) -> TrajectoryBank:
        """Runs the model once along every trajectory.

        Args:
            model: No edit attached.
            prompts: One per trajectory; may repeat.
            seeds: One noise seed per trajectory.
            batch_size: Samples per call. The training batch is a good choice: a call then costs what one
                training forward costs, and counted evaluations are comparable.
            steps: Sampler steps; the model's default if None.
        """
        embeddings = encode_each(model, prompts)
        parts: list[Tensor] = []
        timesteps = model.timesteps(steps)
        for start in range(0, len(prompts), batch_size):
            chunk = slice(start, start + batch_size)
            run = model.trajectory(embeddings[chunk], list(seeds[chunk]), steps=steps)
            parts.append(run.latents)
            timesteps = run.timesteps
        return cls(prompts, embeddings, torch.cat(parts, dim=1), timesteps, model.sigmas(steps))

    @classmethod
    def joined(cls, banks: Sequence[TrajectoryBank]) -> TrajectoryBank:
        """The trajectories of several banks of one model and one number of steps, in order, as one bank."""
        prompts = [prompt for bank in banks for prompt in bank.prompts]
        embeddings = [embedding for bank in banks for embedding in bank.embeddings]
        latents = torch.cat([bank.latents for bank in banks], dim=1)
        return cls(prompts, embeddings, latents, banks[0].timesteps, banks[0]._sigmas)

    def __len__(self) -> int:
        return len(self.prompts)

    def draw(self, generator: torch.Generator, batch: int, importance: Tensor | None = None) -> Draw:
        """Draws `batch` points, trajectory and step independent, with replacement.

        Args:
            generator: A CPU generator; the only source of randomness.
            batch: Number of points.
            importance: What the probabilities of the sampler's steps are proportional to, [steps] on the CPU;
                uniform if None, as trajectories always are.
        """
        entries = torch.randint(len(self), (batch,), generator=generator)
        if importance is None:
            steps = torch.randint(len(self.timesteps), (batch,), generator=generator)
        else:
            steps = torch.multinomial(importance, batch, replacement=True, generator=generator)
        return self.at(entries, steps)

    def at(self, entries: Tensor, steps: Tensor) -> Draw:
        """The points (entries[k], steps[k])."""
        return Draw(
            latents=self.latents[steps, entries],
            timesteps=self.timesteps[steps],
            entries=entries,
            steps=steps,
            velocities=self._velocities_at(steps, entries),
            embeddings=[self.embeddings[entry] for entry in entries.tolist()],
        )

    def batches(self, batch_size: int) -> Iterator[Draw]:
        """Every point of the bank once, in order of steps, in batches."""
        points = torch.cartesian_prod(torch.arange(len(self.timesteps)), torch.arange(len(self)))
        for part in torch.split(points, batch_size):
            yield self.at(part[:, 1], part[:, 0])

    def clean(self) -> Tensor:
        """The finished latents x_0, [E, C, h, w]."""
        return self.latents[-1]


def encode_each(model: Model, prompts: Sequence[str]) -> list[Tensor]:
    """Embeddings of `prompts`, each distinct one encoded once."""
    distinct = list(dict.fromkeys(prompts))
    encoded = dict(zip(distinct, model.encode(distinct), strict=True))
    return [encoded[prompt] for prompt in prompts]


def spread(choices: Sequence[object], count: int) -> list[int]:
    """`count` indices into `choices`, every one about equally often.

    Where there are more choices than indices, these are spread evenly from the first choice to the last:
    what stands at the end of a list (anchors after prompts to preserve) has its share too.
    """
    if count < len(choices):
        return [index * (len(choices) - 1) // max(1, count - 1) for index in range(count)]
    return [index % len(choices) for index in range(count)]


def focal_importance(steps: int, focus: tuple[float, float], sharpness: float) -> Tensor:
    """MACE's concept-focal importance of the steps of a sampler (arXiv 2403.06135, eq. 5), not normalised.

        xi(t) = sigmoid(gamma (t - t1)) - sigmoid(gamma (t - t2)),   t = 1000 (1 - k / K) before step k of K

    Args:
        steps: K.
        focus: (t1, t2), t1 < t2.
        sharpness: gamma.

    Returns:
        [steps] float64, above 0.
    """
    times = 1000 * (1 - torch.arange(steps, dtype=torch.float64) / steps)
    after, before = (torch.sigmoid(sharpness * (times - bound)) for bound in focus)
    # A sampler of very few steps may have none in focus.
    return after - before + 1e-9


def generator(seed: int) -> torch.Generator:
    """A CPU generator started from `seed`; the global one is never touched."""
    return torch.Generator().manual_seed(seed)


def noise_like(latents: Tensor, source: torch.Generator) -> Tensor:
    """Standard normal noise of the shape of `latents`, the same on every device."""
    return torch.randn(latents.shape, generator=source).to(latents)
