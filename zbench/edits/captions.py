"""Attention edits that know what a caption says, although the transformer sees embeddings only.

Prompts pass the conditioning seam (`Model.encode`), captions reach the transformer later, through
`Model.velocity` or through the pipeline, cast, batched and in any order. What ties the two together is the
caption's values: a causal text encoder gives no two prompts the same ones, and they survive every cast
between float32 and bfloat16 when they are compared in bfloat16.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zbench.edits.seams import AttentionEdit
from zbench.errors import ConfigurationError
from zbench.phrases import names_phrase, phrase_pattern

if TYPE_CHECKING:
    from zbench.model.model import Model


@dataclass(frozen=True)
class CaptionedCall:
    """What an edit knows about one call of the transformer.

    Attributes:
        columns: Per sample the caption tokens that the edit acts on; empty where its prompt names no phrase
            or is unknown.
        timesteps: t in (0, 1000], [B].
    """

    columns: tuple[tuple[int, ...], ...]
    timesteps: Tensor


class CaptionedEdit(AttentionEdit):
    """Base of attention edits that act on captions whose prompt names one of some phrases.

    A caption is known when its prompt went through `Model.encode` while the edit was attached. Other captions
    (optimised embeddings, embeddings that an edit attached after this one has changed) are left alone.

    Args:
        phrases: What to look for: whole words in any case, so a misspelling is not found.
        layers: Unified layers that are edited; all if None.

    Raises:
        ConfigurationError: A phrase without words, or no layer.
    """

    rows = "text"

    def __init__(self, phrases: Sequence[str], layers: Sequence[int] | None = None) -> None:
        super().__init__()
        for phrase in phrases:
            phrase_pattern(phrase)
        if layers is not None and not layers:
            raise ConfigurationError("An attention edit needs at least one layer, or None for all of them.")
        self.phrases = tuple(phrases)
        self.layers = None if layers is None else tuple(sorted(set(layers)))
        # Kept through detaching: saving another edit lets this one step aside for a moment.
        self._known: dict[bytes, tuple[int, ...]] = {}
        self._call: CaptionedCall | None = None
        self._inside = False
        self._handles: list[RemovableHandle] = []

    # What subclasses fill in ------------------------------------------------------------------------------

    def columns_of(self, model: Model, prompt: str, length: int) -> tuple[int, ...]:
        """The caption tokens of a prompt that the edit acts on; by default those of the phrases.

        Args:
            model: The edited model.
            prompt: Without chat template.
            length: Tokens of the caption.
        """
        return phrase_columns(model, self.phrases, prompt)

    @abstractmethod
    def attend(self, layer: int, call: CaptionedCall, attention: Any, hidden: Tensor, **rest: Any) -> Tensor:
        """Replaces the attention of one layer.

        Args:
            layer: Index of the unified layer.
            call: What is known about the running call of the transformer.
            attention: Called as (hidden, **rest) it is what the layer did before; `attention.module` is the
                attention module.
            hidden: What enters the attention, [B, S, D].
            rest: `attention_mask` ([B, S] or None) and `freqs_cis`.
        """

    # Prompts and captions ---------------------------------------------------------------------------------

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        """Changes nothing; remembers the captions of prompts that the edit acts on."""
        assert self._model is not None
        for embedding, prompt in zip(embeddings, prompts, strict=True):
            columns = self.columns_of(self._model, prompt, len(embedding))
            if columns:
                self._known[caption_keys([embedding])[0]] = columns
        return embeddings

    def wrap(self, layer: int, processor: Any, model: Model) -> Any:
        """Puts `attend` in the place of the processor of the edited layers."""
        edited = self.layers is None or layer in self.layers
        return _Processor(self, layer, processor) if edited else processor

    def call_of(self, table: Tensor) -> CaptionedCall:
        """The call that a layer runs in.

        With gradient checkpointing, layers run again in the backward pass, when other calls may have been
        made: so the call travels with its rotary table, as the row layout does.
        """
        mark = f"zbench_call_{id(self)}"
        if self._inside:
            setattr(table, mark, self._call)
        call: CaptionedCall = getattr(table, mark)
        return call

    def _install(self, model: Model) -> None:
        count = len(model.transformer.layers)
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[-1] < count:
            raise ConfigurationError(
                f"layers {list(self.layers)}: this transformer has unified layers 0 to {count - 1}."
            )
        super()._install(model)
        model.conditioning.append(self)
        add = self._handles.append
        add(model.transformer.register_forward_pre_hook(self._enter_call, with_kwargs=True))
        add(model.transformer.register_forward_hook(self._leave_call, always_call=True))

    def _remove(self, model: Model) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        model.conditioning.remove(self)
        super()._remove(model)

    def _enter_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("x", "t", "cap_feats"), args, strict=False)) | kwargs
        captions = given["cap_feats"]
        # Without any known caption the comparison, which waits for the device, is not needed.
        keys = caption_keys(captions) if self._known else [b""] * len(captions)
        columns = tuple(self._known.get(key, ()) for key in keys)
        self._call, self._inside = CaptionedCall(columns, 1000 - 1000 * given["t"].float()), True

    def _leave_call(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self._inside = False


class _Processor:
    """Stands in for a layer's attention processor; diffusers reads the arguments off its signature."""

    def __init__(self, edit: CaptionedEdit, layer: int, processor: Any) -> None:
        self.edit, self.layer, self.processor = edit, layer, processor

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        assert freqs_cis is not None
        rest = {"attention_mask": attention_mask, "freqs_cis": freqs_cis}
        before = _Attention(self.processor, attn)
        return self.edit.attend(self.layer, self.edit.call_of(freqs_cis), before, hidden_states, **rest)


@dataclass(frozen=True)
class _Attention:
    """A layer's attention as it was before the edit."""

    processor: Any
    module: Any

    def __call__(self, hidden: Tensor, **rest: Any) -> Tensor:
        output: Tensor = self.processor(self.module, hidden, **rest)
        return output


def phrase_columns(model: Model, phrases: Sequence[str], prompt: str) -> tuple[int, ...]:
    """Sorted caption tokens of every occurrence of every phrase in a prompt."""
    # Applying the chat template costs more than the search, and most prompts name nothing.
    named = [phrase for phrase in phrases if names_phrase(prompt, phrase)]
    spans = [span for phrase in named for span in model.token_span(prompt, phrase)]
    return tuple(sorted({index for start, end in spans for index in range(start, end)}))


def caption_keys(captions: Sequence[Tensor]) -> list[bytes]:
    """A key per caption that depends on its values alone, the same in float32, float64 and bfloat16.

    Args:
        captions: Tensors [L_i, D] on one device, which is waited for once.
    """
    rows = torch.cat([caption.detach().to(torch.bfloat16) for caption in captions]).cpu()
    parts = torch.split(rows, [len(caption) for caption in captions])
    return [blake2b(_bytes(part), digest_size=16).digest() for part in parts]


def _bytes(values: Tensor) -> bytes:
    raw: bytes = values.contiguous().view(torch.uint8).numpy().tobytes()
    return raw
