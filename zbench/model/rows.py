"""Which rows of the single stream are image and which are text, derived from every call.

In the unified layers a sample's image rows come first, padded to a multiple of 32, then its text rows, padded
likewise; samples shorter than the longest of the batch are padded at the end. Nothing here is a constant of a
resolution (defect D10 of the reference dossier): the split follows from the latents that are passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zbench.errors import ConfigurationError

ROW_MULTIPLE = 32
"""The transformer pads both modalities to this multiple (its SEQ_MULTI_OF)."""

Stream = Literal["unified", "image", "text"]


@dataclass(frozen=True)
class Rows:
    """The row layout of one call of the transformer, one entry per sample.

    Attributes:
        image: Image rows including their padding; text rows start at this index.
        text: Valid caption tokens, as `Model.encode` returns them.
        text_padded: Caption rows including padding to a multiple of 32.
    """

    image: tuple[int, ...]
    text: tuple[int, ...]
    text_padded: tuple[int, ...]


def padded(rows: int) -> int:
    """Rounds a number of rows up as the transformer does."""
    return math.ceil(rows / ROW_MULTIPLE) * ROW_MULTIPLE


def rows_of(latents: list[Tensor], captions: list[Tensor], patch: int, frame_patch: int) -> Rows:
    """Derives the layout from what the transformer is given.

    Args:
        latents: One [C, F, H, W] per sample.
        captions: One [L, D] per sample.
        patch: Spatial patch size.
        frame_patch: Patch size along F.
    """
    image = tuple(
        padded((f // frame_patch) * (h // patch) * (w // patch)) for _, f, h, w in (x.shape for x in latents)
    )
    text = tuple(len(caption) for caption in captions)
    return Rows(image, text, tuple(padded(length) for length in text))


def stream_of(module_path: str) -> Stream:
    """Says which rows a module of the transformer sees, from its dotted path.

    Raises:
        ConfigurationError: The module does not work on rows of tokens (time embedder, final layer, adaLN).
    """
    if "adaLN" in module_path or module_path.startswith(("t_embedder", "all_final_layer")):
        raise ConfigurationError(
            f"{module_path} does not work on token rows; choose an attention or feed-forward."
        )
    heads: dict[str, Stream] = {
        "layers": "unified",
        "context_refiner": "text",
        "cap_embedder": "text",
        "noise_refiner": "image",
        "all_x_embedder": "image",
    }
    head = module_path.split(".", 1)[0]
    if head not in heads:
        raise ConfigurationError(
            f"{module_path} is not a module of the transformer that carries image or text rows."
        )
    return heads[head]


class RowTracker:
    """Watches the transformer's calls and answers, inside one, which rows are text.

    With gradient checkpointing the layers run again during the backward pass, when another call may have been
    seen in between. So each call's layout travels with its rotary table, which is handed to every layer.
    """

    def __init__(self, transformer: nn.Module) -> None:
        self._rows: Rows | None = None
        self._inside = False
        self._masks: dict[tuple[int, int, torch.device], Tensor] = {}
        transformer.register_forward_pre_hook(self._enter, with_kwargs=True)
        transformer.register_forward_hook(self._leave, always_call=True)
        for layer in transformer.get_submodule("layers").children():
            layer.register_forward_pre_hook(self._enter_layer, with_kwargs=True)

    @property
    def current(self) -> Rows:
        """Layout of the current call, or of the last one when none is running.

        Raises:
            RuntimeError: The transformer has not been called yet.
        """
        if self._rows is None:
            raise RuntimeError("the transformer has not been called yet, so its rows are unknown")
        return self._rows

    def text_row_mask(self, stream: Stream, shape: torch.Size, device: torch.device) -> Tensor:
        """Boolean mask of text rows (padding included) for activations of the current call.

        Args:
            stream: Which rows the module sees, see `stream_of`.
            shape: Shape of its input, [B, S, D] (or [S, D] in the embedders).
            device: Where the mask is wanted.

        Returns:
            [B, S, 1] or something that broadcasts to it; True on text rows.
        """
        if stream != "unified":
            return torch.tensor(stream == "text", device=device)
        batch, length = shape[0], shape[1]
        if batch != len(self.current.image):
            raise RuntimeError(f"activations of {batch} samples in a call of {len(self.current.image)}")
        key = (batch, length, device)
        if key not in self._masks:
            self._masks[key] = self._build_mask(length, device)
        return self._masks[key]

    def _build_mask(self, length: int, device: torch.device) -> Tensor:
        starts = torch.tensor(self.current.image, device=device)[:, None]
        return (torch.arange(length, device=device)[None] >= starts)[..., None]

    def _set(self, rows: Rows) -> None:
        if rows != self._rows:
            self._rows = rows
            self._masks.clear()

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latents = args[0] if args else kwargs["x"]
        captions = args[2] if len(args) > 2 else kwargs["cap_feats"]
        if isinstance(latents[0], list):
            raise ConfigurationError(
                "Omni mode (several pictures per sample) orders its rows otherwise; unsupported."
            )
        self._set(rows_of(latents, captions, kwargs.get("patch_size", 2), kwargs.get("f_patch_size", 1)))
        self._inside = True

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self._inside = False

    def _enter_layer(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        table = args[2] if len(args) > 2 else kwargs["freqs_cis"]
        if self._inside:
            table.zbench_rows = self._rows
        elif (rows := getattr(table, "zbench_rows", None)) is not None:
            self._set(rows)
