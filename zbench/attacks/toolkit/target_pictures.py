"""Pictures that the original model draws: what white-box attacks pull the erased model towards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zbench.training.trajectories import encode_each

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.model import Model

Target = Literal["prompt", "concept"]
"""Whose picture: the attacked prompt's, or that of one of the concept's training prompts, drawn by lot."""


def target_texts(context: Context, target: Target) -> list[str]:
    """What the target picture of each attacked prompt is drawn for."""
    if target == "prompt":
        return [prompt.text for prompt in context.prompts]
    choices = context.concept.training_prompts
    lots = (context.generator("target prompt", prompt.id) for prompt in context.prompts)
    return [choices[int(torch.randint(len(choices), (1,), generator=lot))] for lot in lots]


def target_latents(context: Context, texts: Sequence[str]) -> Tensor:
    """x0* of each attacked prompt, [N, C, h, w] float32: drawn by the original, with its guidance if any.

    Args:
        context: Whose prompts' ids give the noise.
        texts: One per prompt, from `target_texts`.
    """
    return drawn_latents(context.model, texts, [context.seed("target", p.id) for p in context.prompts])


@dataclass(frozen=True)
class Pictures:
    """The original's pictures of some prompts, to train on: latents as it finishes them, with its guidance.

    Attributes:
        prompts: The prompt of every picture.
        embeddings: Its caption, as the original encodes it, [L_i, D] each.
        latents: x0, [E, C, h, w] float32.
        timesteps: Of the model's sampler, [steps].
    """

    prompts: tuple[str, ...]
    embeddings: list[Tensor]
    latents: Tensor
    timesteps: Tensor

    @classmethod
    def drawn(
        cls, model: Model, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int
    ) -> Pictures:
        """Draws them; the model has no edit attached."""
        latents = drawn_latents(model, prompts, seeds, batch_size)
        return cls(tuple(prompts), encode_each(model, prompts), latents, model.timesteps())

    def clean(self) -> Tensor:
        """The finished latents, as `training.flow_points` asks for them."""
        return self.latents


def drawn_latents(
    model: Model, texts: Sequence[str], seeds: Sequence[int], batch_size: int | None = None
) -> Tensor:
    """Finished latents as the pipeline draws them, [N, C, h, w] float32.

    Args:
        model: The model as it is.
        texts: N prompts.
        seeds: N seeds of the noise.
        batch_size: Pictures that are drawn at once; all of them if None.
    """
    size = batch_size or max(1, len(texts))
    starts = range(0, len(texts), size)
    return torch.cat([_drawn(model, texts[at : at + size], seeds[at : at + size]) for at in starts])


@torch.no_grad()
def _drawn(model: Model, texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    guided = model.spec.guidance_scale > 0
    latents: Tensor = model.pipeline(
        prompt_embeds=model.encode(texts),
        negative_prompt_embeds=model.encode([""] * len(seeds)) if guided else None,
        latents=model.noise(seeds),
        height=model.spec.height,
        width=model.spec.width,
        num_inference_steps=model.spec.steps,
        guidance_scale=model.spec.guidance_scale,
        output_type="latent",
    ).images
    return latents.float()


class NoiseSource:
    """Noise of each prompt, fresh at every call, the same whatever else is in the batch.

    Args:
        context: Whose prompts it is for.
        purpose: Of the noise; other purposes have other noise.
    """

    def __init__(self, context: Context, purpose: str = "noise") -> None:
        self._shape, self._device = context.model.latent_shape(), context.model.device
        self._sources = [context.generator(purpose, prompt.id) for prompt in context.prompts]

    def draw(self, count: int) -> Tensor:
        """Standard normal, [N, count, C, h, w] float32."""
        drawn = [torch.randn(count, *self._shape, generator=source) for source in self._sources]
        return torch.stack(drawn).to(self._device)

    def choose(self, choices: int, count: int) -> Tensor:
        """Numbers below `choices`, [N, count]."""
        drawn = [torch.randint(choices, (count,), generator=source) for source in self._sources]
        return torch.stack(drawn)
