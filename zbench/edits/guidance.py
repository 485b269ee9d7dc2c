"""Guidance away from a concept, on the velocity seam: negative prompts and safe latent diffusion.

A pipeline with classifier-free guidance evaluates conditional and empty prompts in one call and follows
u + (1 + g)(c - u). Edited are the conditional samples of such a call alone. For a negative prompt, what it
follows is then edited by the same formula, every velocity in it replaced by its guided one; for safe latent
diffusion the term is formed from unguided velocities and multiplied by 1 + g, as its paper has it. Edited on
both halves, the guidance itself would grow by the edit's strength. A guidance-distilled model's velocity is
the guided one from the start.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from zbench.edits.captions import caption_keys
from zbench.edits.files import read_tensors
from zbench.edits.seams import VelocityEdit
from zbench.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from zbench.model.model import Model

Predict = Callable[[list[Tensor]], Tensor]
"""Velocity at the call's latents and timesteps for other embeddings."""


class GuidanceEdit(VelocityEdit):
    """Base of edits that guide away from the caption of a concept.

    Args:
        concept: Caption of what to stay away from, [L, D] as the unedited model encodes it.

    Raises:
        ConfigurationError: It is no caption.
    """

    def __init__(self, concept: Tensor) -> None:
        super().__init__()
        if concept.ndim != 2 or not len(concept):
            raise ConfigurationError(f"A caption is [tokens, channels], not {tuple(concept.shape)}.")
        self.concept = concept.detach().to("cpu")

    @abstractmethod
    def guide(
        self, velocity: Tensor, timesteps: Tensor, embeddings: list[Tensor], predict: Predict
    ) -> Tensor:
        """Returns the changed velocity; see `VelocityEdit.edit_velocity` for the arguments."""

    def edit_velocity(
        self,
        velocity: Tensor,
        latents: Tensor,
        timesteps: Tensor,
        embeddings: list[Tensor],
        predict: Predict,
    ) -> Tensor:
        """Guides every sample; samples do not see each other."""
        return self.guide(velocity, timesteps, embeddings, predict)

    def tensors(self) -> dict[str, Tensor]:
        """The caption."""
        return {"concept": self.concept}

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors, _ = read_tensors(folder / cls.weights_file)
        if list(tensors) != ["concept"]:
            raise WeightsError(f"{folder / cls.weights_file} holds {sorted(tensors)}, not one caption.")
        return cls(tensors["concept"], **settings)

    def _install(self, model: Model) -> None:
        width = model.transformer.config.cap_feat_dim
        if self.concept.shape[1] != width:
            found = self.concept.shape[1]
            raise WeightsError(f"This edit is for another model: captions of {found} channels, not {width}.")
        self._caption = self.concept.to(model.device)
        # What a pipeline with guidance is given too, so that its calls are recognised by it.
        self._empty = model.encode([""])[0]
        super()._install(model)

    def _edited_output(self, model: Model, args: tuple[Any, ...], output: Any) -> Any:
        half = len(args[2]) // 2
        if not self._is_guided_call(model, args):
            return super()._edited_output(model, args, output)
        conditional = tuple(part[:half] for part in args[:3])
        edited = super()._edited_output(model, conditional, (output[0][:half],))[0]
        sample = [*edited, *output[0][half:]]
        return (sample, *output[1:]) if isinstance(output, tuple) else type(output)(sample=sample)

    def _is_guided_call(self, model: Model, args: tuple[Any, ...]) -> bool:
        """Whether the pipeline guides here: the same latents twice, then under the empty prompt."""
        latents, captions = args[0], list(args[2])
        half = len(latents) // 2
        if model.spec.guidance_scale == 0 or len(latents) % 2:
            return False
        empty = caption_keys([self._empty])[0]
        return set(caption_keys(captions[half:])) == {empty} and all(
            torch.equal(first, second) for first, second in zip(latents[:half], latents[half:], strict=True)
        )


class NegativePromptEdit(GuidanceEdit):
    """v' = v + s (v - v_neg), one more evaluation per call.

    Args:
        concept: Caption of the negative prompt, [L, D].
        scale: s, not negative.

    Raises:
        ConfigurationError: A value out of range.
    """

    kind = "negative-prompt"

    def __init__(self, concept: Tensor, scale: float) -> None:
        super().__init__(concept)
        if not scale >= 0:
            raise ConfigurationError(f"The scale of a negative prompt is at least 0, not {scale}.")
        self.scale = scale

    def settings(self) -> dict[str, Any]:
        """The scale."""
        return {"scale": self.scale}

    def scaled(self, factor: float) -> NegativePromptEdit:
        """The same negative prompt with s times a factor."""
        return NegativePromptEdit(self.concept, factor * self.scale)

    def guide(
        self, velocity: Tensor, timesteps: Tensor, embeddings: list[Tensor], predict: Predict
    ) -> Tensor:
        """Pushes away from what the model would do under the negative prompt."""
        return velocity + self.scale * (velocity - predict([self._caption] * len(velocity)))


@dataclass(frozen=True)
class SafetyGuidance:
    """The hyper-parameters of safe latent diffusion (arXiv 2211.05105), names as there.

    Attributes:
        scale: s_S, steepness of the element-wise weight min(1, s_S |v_c - v_S|).
        threshold: lambda; elements where v_c - v_S reaches it are left alone.
        momentum_scale: s_m.
        momentum_decay: beta_m, in [0, 1).
        start: Timestep t in (0, 1000] at which the guidance sets in; before it, momentum is gathered only.
        strength: Factor on what is subtracted; 1 is the paper's.

    Raises:
        ConfigurationError: A value out of range.
    """

    scale: float
    threshold: float
    momentum_scale: float
    momentum_decay: float
    start: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        positive = min(self.scale, self.momentum_scale, self.strength) >= 0
        if not (positive and 0 <= self.momentum_decay < 1 and 0 < self.start <= 1000):
            raise ConfigurationError(f"Safety guidance with a value out of range: {self}.")


@dataclass(frozen=True)
class _Trail:
    """What is remembered of a trajectory between two calls."""

    timesteps: Tensor
    captions: list[bytes]
    momentum: Tensor


class SafetyGuidanceEdit(GuidanceEdit):
    """Safe latent diffusion in velocity form, two more evaluations per call.

        mu      = min(1, s_S |v_c - v_S|)  where v_c - v_S < lambda,  0 elsewhere
        gamma_t = mu (v_S - v_u) + s_m nu_t
        nu_t+1  = beta_m nu_t + (1 - beta_m) gamma_t
        v'      = v_c - gamma_t            once t has fallen to the start

    v_c is the velocity of the sample's own prompt, v_S that of the concept, v_u that of the empty prompt.
    nu is 0 at the start of every trajectory, which a call begins unless it goes on where the last one was:
    as many samples of the same size under the same captions, each at a lower timestep.

    Args:
        concept: Caption of the concept, [L, D].
        guidance: The hyper-parameters.
    """

    kind = "safety-guidance"

    def __init__(self, concept: Tensor, **guidance: float) -> None:
        super().__init__(concept)
        self.guidance = SafetyGuidance(**guidance)
        self._trail: _Trail | None = None

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters."""
        return dict(vars(self.guidance))

    def scaled(self, factor: float) -> SafetyGuidanceEdit:
        """The same guidance with what it subtracts times a factor; weights and momentum stay."""
        strength = factor * self.guidance.strength
        return SafetyGuidanceEdit(self.concept, **{**self.settings(), "strength": strength})

    def guide(
        self, velocity: Tensor, timesteps: Tensor, embeddings: list[Tensor], predict: Predict
    ) -> Tensor:
        """Subtracts gamma where the guidance has set in; remembers the momentum for the next call."""
        chosen, count = self.guidance, len(velocity)
        captions = caption_keys(embeddings)
        momentum = self._momentum(velocity, timesteps, captions)
        safety, empty = predict([self._caption] * count), predict([self._empty] * count)
        gamma = self._weight(velocity - safety) * (safety - empty) + chosen.momentum_scale * momentum
        gathered = chosen.momentum_decay * momentum + (1 - chosen.momentum_decay) * gamma
        self._trail = _Trail(timesteps.clone(), captions, gathered.detach())
        acting = (timesteps <= chosen.start).view(-1, 1, 1, 1)
        return torch.where(acting, velocity - chosen.strength * gamma, velocity)

    def _weight(self, difference: Tensor) -> Tensor:
        """Element-wise mu of v_c - v_S."""
        weight = (self.guidance.scale * difference.abs()).clamp(max=1)
        return torch.where(difference < self.guidance.threshold, weight, 0.0)

    def _momentum(self, velocity: Tensor, timesteps: Tensor, captions: list[bytes]) -> Tensor:
        """The nu of this call, [B, C, h, w]."""
        last = self._trail
        goes_on = (
            last is not None
            and last.captions == captions
            and last.momentum.shape == velocity.shape
            and bool((timesteps < last.timesteps).all())
        )
        return last.momentum if last is not None and goes_on else torch.zeros_like(velocity)

    def _remove(self, model: Model) -> None:
        super()._remove(model)
        self._trail = None
