"""How much attention image tokens pay to given text tokens, without an S x S map.

The probability mass that a query puts on a set of columns is the attention output for a value matrix that
holds 1 in those columns' rows and 0 elsewhere. So one fused attention call over the image queries gives it,
differentiable and in the memory of an ordinary attention; the released code kept every full map instead
(about 3 GB per forward on the 6 B model).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from zbench.model.rows import padded

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model


def concept_columns(model: Model, concept: Concept, prompt: str) -> list[int]:
    """Sorted token indices, within the templated prompt, of every occurrence of every phrase of a concept."""
    spans = [span for phrase in concept.phrases for span in model.token_span(prompt, phrase)]
    return sorted({index for start, end in spans for index in range(start, end)})


def rotate(states: Tensor, frequencies: Tensor) -> Tensor:
    """Rotary position embedding, neighbouring channels paired.

    Args:
        states: Queries or keys, [B, S, heads, D].
        frequencies: Complex rotations, [B, S, D / 2].
    """
    wide = torch.promote_types(states.dtype, torch.float32)
    pairs = torch.view_as_complex(states.to(wide).reshape(*states.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * frequencies.unsqueeze(2)).flatten(-2).to(states.dtype)


def column_mass(queries: Tensor, keys: Tensor, indicator: Tensor, valid: Tensor | None) -> Tensor:
    """Probability mass that each query puts on the indicated keys.

    Args:
        queries: After norm and rotation, [B, Q, heads, D].
        keys: Likewise, [B, S, heads, D].
        indicator: 1 for the keys asked for, [B, S].
        valid: True for keys that are no batch padding, [B, S]; None if all are.

    Returns:
        [B, heads, Q].
    """
    # Fused kernels want values as wide as the keys, so the indicator is one channel of D, the others zero.
    # Cast before it is spread over the heads, which would need memory for each of them.
    column = functional.pad(indicator.to(keys.dtype)[:, :, None, None], (0, keys.shape[-1] - 1))
    values = column.expand_as(keys)
    mask = None if valid is None else valid[:, None, None, :]
    mass = functional.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask
    )
    return mass[..., 0]


class AttentionColumns:
    """Context in which calls of the transformer record image-to-text attention on given columns.

    The attention processor itself is left alone: norm outputs, rotations and padding mask are picked up by
    hooks, so any attention backend works. Outside the context nothing is recorded or computed (defect D6 of
    the reference dossier: recording while sampling dilutes the loss by constants). With gradient
    checkpointing, call backward inside the context.

    Attributes:
        masses: Per layer the mass on each sample's columns, [B, heads, image rows], of the last call;
            padding rows of the image are left out.
    """

    def __init__(
        self, model: Model, columns: Sequence[Sequence[int]], layers: Sequence[int] | None = None
    ) -> None:
        """Prepares the recording.

        Args:
            model: Whose transformer is watched.
            columns: Per sample of the coming call, indices into its valid text tokens.
            layers: Unified layers to watch; all if None.
        """
        self.masses: dict[int, Tensor] = {}
        self._transformer: Any = model.transformer
        self._columns = columns
        self._layers = list(range(len(self._transformer.layers)) if layers is None else layers)
        self._image_rows = 0
        self._inside = False
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        add = self._handles.append
        add(self._transformer.register_forward_pre_hook(self._enter_call, with_kwargs=True))
        add(self._transformer.register_forward_hook(self._leave_call, always_call=True))
        for index in self._layers:
            self._watch(index, self._transformer.layers[index].attention)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, index: int, attention: Any) -> None:
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
                seen[name] = output.reshape(*output.shape[:2], attention.heads, -1)

            return hook

        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            mass = self._mass(seen.pop("query"), seen.pop("key"), kwargs)
            # Gradient checkpointing runs the layer again inside the backward pass: it must repeat the same
            # operations, so the mass is computed there too, but what counts was recorded in the call.
            if self._inside:
                self.masses[index] = mass

        # Without query-key norm the projections themselves are what is rotated.
        query = attention.norm_q if attention.norm_q is not None else attention.to_q
        key = attention.norm_k if attention.norm_k is not None else attention.to_k
        self._handles.append(query.register_forward_hook(keep("query")))
        self._handles.append(key.register_forward_hook(keep("key")))
        self._handles.append(attention.register_forward_hook(record, with_kwargs=True))

    def _mass(self, query: Tensor, key: Tensor, kwargs: dict[str, Any]) -> Tensor:
        rotations = kwargs["freqs_cis"]
        rows = self._image_rows
        queries = rotate(query[:, :rows], rotations[:, :rows])
        indicator = self._indicator(key.shape[0], key.shape[1], key.device)
        return column_mass(queries, rotate(key, rotations), indicator, kwargs.get("attention_mask"))

    def _indicator(self, batch: int, length: int, device: torch.device) -> Tensor:
        if batch != len(self._columns):
            raise ValueError(f"columns for {len(self._columns)} samples, but a call of {batch}")
        start = padded(self._image_rows)
        indicator = torch.zeros(batch, length)
        for sample, columns in enumerate(self._columns):
            indicator[sample, [start + column for column in columns]] = 1.0
        return indicator.to(device)

    def _enter_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latents = (args[0] if args else kwargs["x"])[0]
        _, frames, height, width = latents.shape
        patch, frame_patch = kwargs.get("patch_size", 2), kwargs.get("f_patch_size", 1)
        self._image_rows = (frames // frame_patch) * (height // patch) * (width // patch)
        self._inside = True

    def _leave_call(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self._inside = False
