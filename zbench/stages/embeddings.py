"""Prompt embeddings on disk, in the user's cache: a large text encoder is loaded to a device once a prompt.

What is altered, cut short or of another zbench is not found, and encoded again; a cache that cannot be
written is done without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.prompts.fetching import cache_folder
from zbench.store import atomic_write_bytes, identity, sha256_bytes

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 20_000
"""Files of one model, some 6 GB; attacks try more prompts than anyone asks for twice."""

_VERSION = 1
"""Raised when the same prompt would be encoded otherwise."""


class EmbeddingFiles:
    """One safetensors file per prompt, named by the prompt's hash: the prompt may be one that nothing shows.

    Args:
        identify: Gives what embeddings depend on beside the prompt, as plain values; asked when first needed.
        root: The folder of all models' embeddings; in the user's cache by default.
    """

    def __init__(self, identify: Callable[[], Mapping[str, Any]], root: Path | None = None) -> None:
        self._identify, self._root = identify, root

    @cached_property
    def folder(self) -> Path:
        """Where this model's embeddings lie."""
        root = self._root or cache_folder() / "embeddings"
        return root / identity("model", {"version": _VERSION, **self._identify()})

    @cached_property
    def _count(self) -> int:
        """How many there are, at first."""
        try:
            return len(os.listdir(self.folder))
        except OSError:
            return 0

    def get(self, prompt: str) -> Tensor | None:
        """The embedding [L, D] of a prompt, None where it is not there or not whole."""
        import safetensors.torch

        try:
            data = self._path(prompt).read_bytes()
        except OSError:
            return None
        digest, content = data[:64], data[64:]
        if sha256_bytes(content).encode() != digest:
            return None
        return safetensors.torch.load(content)["embedding"]

    def put(self, prompt: str, embedding: Tensor) -> None:
        """Keeps an embedding [L, D], where the cache can be written."""
        import safetensors.torch

        if self._count >= _MOST:
            return
        self._count += 1
        content = safetensors.torch.save({"embedding": embedding.detach().cpu().contiguous()})
        path = self._path(prompt)
        with suppress(OSError, StoreError):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(path, sha256_bytes(content).encode() + content)

    def _path(self, prompt: str) -> Path:
        return self.folder / f"{sha256_bytes(prompt.encode())}.embedding"
