"""Image features, computed once for each set of pictures whatever the number of metrics that read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zbench.store import atomic_write_bytes

if TYPE_CHECKING:
    from torch import Tensor


_DIGEST = "sha256"


class FeatureSource(Protocol):
    """Something that turns pictures into feature rows.

    Attributes:
        name: Unique to the weights: it holds their content hash. torch-fidelity once returned 13,336 for a
            distance of 217,180 because a name was used again after retraining.
        rule: How pictures are resized and normalised; part of what a figure means.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def rule(self) -> str: ...  # noqa: D102

    def extract(self, pictures: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] to float32 [N, D], on the CPU."""


def pictures_sha256(pictures: Tensor) -> str:
    """Content hash of a set of pictures, shape included."""
    digest = hashlib.sha256(repr((str(pictures.dtype), tuple(pictures.shape))).encode())
    digest.update(pictures.contiguous().cpu().numpy().data)
    return digest.hexdigest()


class FeatureCache:
    """Features by content of pictures and of the source's weights.

    Args:
        folder: Where features outlive the process (reference pictures above all); None keeps them in memory
            only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[str, Tensor] = {}

    def get(self, source: FeatureSource, pictures: Tensor) -> Tensor:
        """Features of the pictures, float32 [N, D]: from memory, from disk, or computed."""
        return self.kept(source, pictures_sha256(pictures), lambda: source.extract(pictures))

    def named(self, source: FeatureSource, identity: str, pictures: Callable[[], Tensor]) -> Tensor:
        """Features of pictures that need not be made to be recognised, float32 [N, D].

        Args:
            source: What computes them.
            identity: Hash of everything that the pictures are made from, never a name alone.
            pictures: Makes them, uint8 [N, 3, H, W]; called only where their features are not known.
        """
        return self.kept(source, identity, lambda: source.extract(pictures()))

    def kept(self, source: FeatureSource, identity: str, extract: Callable[[], Tensor]) -> Tensor:
        """Features of pictures that need not all be in memory at once, float32 [N, D].

        Args:
            source: What computes them.
            identity: Hash of the pictures, or of everything that they are made from.
            extract: Computes them; called only where they are not known.
        """
        key = f"{source.name}-{identity}"
        if key not in self._memory:
            stored = self._from_disk(key)
            self._memory[key] = self._computed(key, extract) if stored is None else stored
        return self._memory[key]

    def path(self, key: str) -> Path | None:
        """Where something of this name outlives the process; None where nothing does."""
        return None if self._folder is None else self._folder / f"{key}.safetensors"

    def _from_disk(self, key: str) -> Tensor | None:
        path = self.path(key)
        tensors = None if path is None else read_tensors(path)
        return None if tensors is None else tensors.get("features")

    def _computed(self, key: str, extract: Callable[[], Tensor]) -> Tensor:
        features, path = extract(), self.path(key)
        if path is not None:
            write_tensors(path, {"features": features})
        return features


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors with a hash of their values; makes the folder where it is missing.

    Raises:
        StoreError: The file cannot be written.
    """
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    atomic_write_bytes(path, save(whole, metadata={_DIGEST: _tensors_sha256(whole)}))


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """Reads what `write_tensors` wrote; None where there is nothing, or not what was written.

    A damaged entry of a cache is worth nothing: what it held is computed and written again.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError):
        return None
    return tensors if metadata.get(_DIGEST) == _tensors_sha256(tensors) else None


def _tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
