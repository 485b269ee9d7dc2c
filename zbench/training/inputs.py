"""What the attention projections see on text rows: the space that closed forms solve in.

A caption reaches a layer's projections through the caption embedder, the context refiner and all layers
before, modulated by time. Solving in the text encoder's space instead (defect D15 of the reference dossier)
edits along directions that the layers never meet.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from zbench.model import Model
    from zbench.training.trajectories import Draw


LayerRows = dict[int, Tensor]
"""Per unified layer the text rows that enter its attention, [B, text rows, D]."""


class TextInputs:
    """Context that keeps, for the last call, the text rows entering each unified layer's attention.

    Attributes:
        rows: Per layer [B, text rows, D], caption padding and batch padding included: index them with token
            indices as `Model.encode` and `Model.token_span` give them.
    """

    def __init__(
        self,
        model: Model,
        layers: list[int] | None = None,
        each_call: Callable[[LayerRows], None] | None = None,
    ) -> None:
        """Prepares the recording.

        Args:
            model: Whose transformer is watched.
            layers: Unified layers to watch; all if None.
            each_call: Given the rows of every call of the transformer when it ends.
        """
        self.rows: LayerRows = {}
        self._each_call = each_call
        self._transformer: Any = model.transformer
        self._layers = list(range(len(self._transformer.layers))) if layers is None else layers
        self._layout = model.rows
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for index in self._layers:
            attention = self._transformer.layers[index].attention
            self._handles.append(attention.register_forward_pre_hook(self._keep(index)))
        self._handles.append(self._transformer.register_forward_hook(self._leave_call))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            # All samples of a call have one picture size, so their text rows start at the same index.
            # A copy, because a view would keep the image rows alive.
            self.rows[index] = args[0][:, self._layout.current.image[0] :].detach().clone()

        return hook

    def _leave_call(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if self._each_call is not None:
            self._each_call(dict(self.rows))


@torch.no_grad()
def text_inputs(model: Model, draw: Draw, embeddings: list[Tensor], layers: list[int]) -> LayerRows:
    """Text rows entering the attention of `layers` when the model sees a draw's latents under `embeddings`.

    Args:
        model: No edit attached.
        draw: Latents and timesteps.
        embeddings: One [L, D] per sample.
        layers: Unified layers to watch.

    Returns:
        Per layer [B, text rows, D]; see `TextInputs.rows`.
    """
    with TextInputs(model, layers) as seen:
        model.velocity(draw.latents, draw.timesteps, embeddings)
    return seen.rows
