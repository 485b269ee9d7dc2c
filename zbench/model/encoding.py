"""Prompts to embeddings: each prompt once, by an encoder that need not stay on the device.

Beside a large transformer the text encoder does not fit a common device. Its prompts are then encoded one by
one, so that an embedding depends on nothing but its prompt, and are kept on disk for the next process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from zbench.model.offload import visiting

if TYPE_CHECKING:
    from zbench.model.spec import ModelSpec

_BATCH = 16
_KEPT = 4096
_KEPT_OF_LARGE = 256
"""Embeddings of a large model take up to some megabytes each."""


class EmbeddingStore(Protocol):
    """Where embeddings outlive the process; `zbench.stages.embeddings` keeps them on disk."""

    def get(self, prompt: str) -> Tensor | None:
        """The embedding [L, D] of a prompt on the CPU, None where it is not known."""

    def put(self, prompt: str, embedding: Tensor) -> None:
        """Keeps an embedding [L, D]."""


class PromptEncoder:
    """The pipeline's own `encode_prompt` behind a cache.

    Attributes:
        known: Prompt -> [L, D] on the device; what was asked for longest ago goes first.
        store: Asked before anything is encoded, and told afterwards; None for models that encode in no time.
    """

    def __init__(self, spec: ModelSpec, pipeline: Any, device: torch.device) -> None:
        self.known: OrderedDict[str, Tensor] = OrderedDict()
        self.store: EmbeddingStore | None = None
        self._spec, self._pipeline, self._device = spec, pipeline, device

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """One [L_i, D] per prompt, valid tokens only, shared with the cache."""
        known = {prompt: self.known[prompt] for prompt in prompts if prompt in self.known}
        known |= self._stored([prompt for prompt in dict.fromkeys(prompts) if prompt not in known])
        known |= self._encoded([prompt for prompt in dict.fromkeys(prompts) if prompt not in known])
        self.known.update(known)
        while len(self.known) > (_KEPT_OF_LARGE if self._spec.is_large else _KEPT):
            self.known.popitem(last=False)
        return [known[prompt] for prompt in prompts]

    def _stored(self, prompts: list[str]) -> dict[str, Tensor]:
        found = {prompt: self.store.get(prompt) for prompt in prompts} if self.store else {}
        return {prompt: value.to(self._device) for prompt, value in found.items() if value is not None}

    def _encoded(self, prompts: list[str]) -> dict[str, Tensor]:
        if not prompts:
            return {}
        size = 1 if self._spec.is_large else _BATCH
        encoded: dict[str, Tensor] = {}
        with visiting(self._pipeline.text_encoder, self._device, self._pipeline.transformer):
            for start in range(0, len(prompts), size):
                batch = prompts[start : start + size]
                encoded |= zip(batch, self._call(batch), strict=True)
                if self.store:  # at once: whoever is killed goes on from here
                    for prompt in batch:
                        self.store.put(prompt, encoded[prompt])
        return encoded

    @torch.no_grad()
    def _call(self, prompts: list[str]) -> list[Tensor]:
        # The pipeline writes the templated text into the list it is given (defect D14), so it gets a copy.
        embeddings, _ = self._pipeline.encode_prompt(
            list(prompts),
            device=self._device,
            do_classifier_free_guidance=False,
            max_sequence_length=self._spec.max_sequence_length,
        )
        # Copies, because the pieces would keep the padded batch alive.
        return [embedding.clone() for embedding in embeddings]
