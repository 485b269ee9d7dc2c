"""The seams that change no weights: prompt embeddings, attention processors, and the velocity itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zbench.edits.base import Edit

if TYPE_CHECKING:
    from zbench.model.model import Model


class ConditioningEdit(Edit):
    """Changes prompt embeddings; `Model.encode` applies it, so samples and attacks see it alike."""

    seam = "conditioning"
    rows = "text"

    @abstractmethod
    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        """Returns changed embeddings.

        Args:
            embeddings: One [L_i, D] per prompt; shared, so not to be changed in place.
            prompts: Their prompts, without chat template.
        """

    def _install(self, model: Model) -> None:
        model.conditioning.append(self)

    def _remove(self, model: Model) -> None:
        model.conditioning.remove(self)


class AttentionEdit(Edit):
    """Replaces the attention processors of unified layers."""

    seam = "attention"

    def __init__(self) -> None:
        super().__init__()
        self._originals: dict[int, Any] = {}

    @abstractmethod
    def wrap(self, layer: int, processor: Any, model: Model) -> Any:
        """Returns the processor to use in a layer, or the given one to leave the layer alone.

        Args:
            layer: Index of the unified layer.
            processor: What the layer uses now; called as
                (attention, hidden_states, attention_mask=, freqs_cis=).
            model: Its `rows` tell image from text.
        """

    def _install(self, model: Model) -> None:
        for index, layer in enumerate(model.transformer.layers):
            self._originals[index] = layer.attention.processor
            layer.attention.processor = self.wrap(index, layer.attention.processor, model)

    def _remove(self, model: Model) -> None:
        for index, processor in self._originals.items():
            model.transformer.layers[index].attention.processor = processor
        self._originals.clear()


class VelocityEdit(Edit):
    """Changes the velocity after the transformer, wherever it is called from, the pipeline included."""

    seam = "velocity"

    def __init__(self) -> None:
        super().__init__()
        self._handle: RemovableHandle | None = None
        self._busy = False

    @abstractmethod
    def edit_velocity(
        self,
        velocity: Tensor,
        latents: Tensor,
        timesteps: Tensor,
        embeddings: list[Tensor],
        predict: Callable[[list[Tensor]], Tensor],
    ) -> Tensor:
        """Returns the changed velocity.

        Args:
            velocity: [B, C, h, w] float32.
            latents: [B, C, h, w].
            timesteps: [B] in (0, 1000].
            embeddings: B tensors [L_i, D].
            predict: Velocity of the same latents and timesteps for other embeddings, without this edit; each
                call costs one forward, which the model's counter sees.
        """

    def _install(self, model: Model) -> None:
        def edit(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if self._busy:
                return None
            self._busy = True
            try:
                return self._edited_output(model, args, output)
            finally:
                self._busy = False

        self._handle = model.transformer.register_forward_hook(edit, with_kwargs=True)

    def _remove(self, model: Model) -> None:
        assert self._handle is not None
        self._handle.remove()
        self._handle = None

    def _edited_output(self, model: Model, args: tuple[Any, ...], output: Any) -> Any:
        latents, timesteps, embeddings = torch.stack(args[0]).squeeze(2), 1000 - 1000 * args[1], list(args[2])
        raw = output[0]
        velocity = -torch.stack([picture.float() for picture in raw]).squeeze(2)
        edited = self.edit_velocity(
            velocity,
            latents,
            timesteps,
            embeddings,
            lambda others: model.velocity(latents, timesteps, others),
        )
        changed = [(-picture).unsqueeze(1).to(raw[0].dtype) for picture in edited]
        return (changed, *output[1:]) if isinstance(output, tuple) else type(output)(sample=changed)
