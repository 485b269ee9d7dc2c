"""Generated pictures on disk: the hand-over from the generate stage to the score stage.

A samples folder holds ``pictures/NNNN.png`` and ``manifest.json``. The manifest names for every picture its
prompt, prompt set, role, repetition, seed and the SHA-256 of its file, so that scores can be derived again
from stored evidence and an altered or missing picture is noticed instead of silently dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import StoreError
from zbench.stages.picture_files import (
    PictureFile,
    PictureFiles,
    picture_name,
    picture_path,
    require_pictures,
    write_picture,
)
from zbench.store import atomic_write_json, canonical_json, read_json, sha256_bytes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MANIFEST", "Manifest", "Sample", "SamplesView", "picture_name", "picture_path", "read_manifest",
    "write_manifest", "write_samples",
]  # fmt: skip

MANIFEST = "manifest.json"

IN_MEMORY = 1 << 28
"""Bytes of pictures up to which a view keeps what it has read: small sets are looked at several times."""

SCHEMA_VERSION = 1


class Sample(BaseModel):
    """What one picture was made from.

    Attributes:
        prompt_id: Id of the prompt inside its prompt set.
        prompt: The text that the model was given.
        role: What the prompt is for; see `zbench.protocols.ROLES`.
        repetition: 0 for the first picture of a prompt, 1 for the second ...
        seed: Seed of the picture's own generator; derives from (prompt, repetition) only.
        prompt_set: Name of the prompt set.
        object: The one object that the prompt asks for, where there is one.
        truth: Class -> whether the prompt asks for it, where that is known.
        sha256: Hash of the picture's file; filled in by `write_samples`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_id: str
    prompt: str
    role: str
    repetition: int = Field(ge=0)
    seed: int
    prompt_set: str = ""
    object: str | None = None
    truth: dict[str, bool] | None = None
    sha256: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What pairs a picture with the original's: prompt set, prompt id and repetition."""
        return (self.prompt_set, self.prompt_id, self.repetition)


@dataclass(frozen=True)
class Manifest:
    """What a samples folder says of its pictures.

    Attributes:
        samples: N descriptions with the hashes of the pictures' files.
        size: (height, width) of the pictures.
        provenance: Erasure, steps ...
    """

    samples: tuple[Sample, ...]
    size: tuple[int, int]
    provenance: dict[str, Any]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a samples folder, whose pictures are there."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "height": manifest.size[0],
        "width": manifest.size[1],
        "samples": [sample.model_dump() for sample in manifest.samples],
        "provenance": manifest.provenance,
    }
    atomic_write_json(folder / MANIFEST, record)


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a samples folder, and looks at no picture.

    Raises:
        StoreError: It is missing, malformed, or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreError(f"{folder} is not a samples folder: it has no {MANIFEST}")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has not schema version {SCHEMA_VERSION}: written by another version of zbench?"
        )
    try:
        samples = tuple(Sample.model_validate(row) for row in record["samples"])
        size = (int(record["height"]), int(record["width"]))
        return Manifest(samples, size, dict(record.get("provenance") or {}))
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise StoreError(f"{path} is malformed: {str(error).splitlines()[0]}") from error


def write_samples(
    folder: Path, pictures: Tensor, samples: Sequence[Sample], provenance: dict[str, Any] | None = None
) -> None:
    """Writes pictures and manifest into `folder` (made if missing); the manifest comes last.

    For pictures that are all in memory; `zbench.stages.drawing` writes them as they are drawn.

    Args:
        folder: Usually the temporary folder of a `StageFolder.write`.
        pictures: uint8 [N, 3, H, W].
        samples: N descriptions in the order of the pictures.
        provenance: Stored as it is under ``provenance``: model, erasure, sampler ...

    Raises:
        ValueError: The pictures are not uint8 [N, 3, H, W] or not as many as the descriptions.
    """
    _check_pictures(pictures, len(samples))
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    written = tuple(
        sample.model_copy(update={"sha256": write_picture(picture_path(folder, index), picture)})
        for index, (sample, picture) in enumerate(zip(samples, pictures, strict=True))
    )
    height, width = pictures.shape[2:]
    write_manifest(folder, Manifest(written, (height, width), provenance or {}))


def _check_pictures(pictures: Tensor, count: int) -> None:
    import torch

    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures must be uint8 [N, 3, H, W], not {pictures.dtype} {list(pictures.shape)}")
    if len(pictures) != count:
        raise ValueError(f"{len(pictures)} pictures but {count} descriptions")


@dataclass(frozen=True)
class SamplesView:
    """Pictures with their descriptions, in one order.

    Attributes:
        samples: N descriptions.
        stored: The pictures: in memory, uint8 [N, 3, H, W], or files that are read when they are looked at.
        folder: Where they were read from, if they were read.
    """

    samples: tuple[Sample, ...]
    stored: Tensor | PictureFiles
    folder: Path | None = None

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Reads a samples folder and checks every picture against the manifest; decodes none yet.

        Raises:
            StoreError: The manifest is missing or malformed, or pictures are missing, altered, corrupt or of
                another size; the first few are named and all are counted.
        """
        folder = Path(folder)
        require_pictures(folder)
        manifest = read_manifest(folder)
        files = PictureFiles(
            tuple(
                PictureFile(picture_path(folder, index), sample.sha256, manifest.size)
                for index, sample in enumerate(manifest.samples)
            ),
            manifest.size,
        )
        files.check(folder)
        return cls(manifest.samples, files, folder)

    @classmethod
    def concat(cls, views: Sequence[SamplesView]) -> Self:
        """Joins views of equal picture size, in order.

        Raises:
            ValueError: No views, or pictures of different sizes.
        """
        import torch

        sizes = {view.size for view in views}
        if len(sizes) != 1:
            raise ValueError(f"cannot join {len(views)} views of picture sizes {sorted(sizes)}")
        samples = tuple(sample for view in views for sample in view.samples)
        stored = [view.stored for view in views]
        files = [each for each in stored if isinstance(each, PictureFiles)]
        if len(files) == len(stored):
            return cls(samples, PictureFiles(tuple(f for each in files for f in each.files), *sizes))
        return cls(samples, torch.cat([view.pictures for view in views]))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        if isinstance(self.stored, PictureFiles):
            return self.stored.size
        height, width = self.stored.shape[2:]
        return height, width

    @cached_property
    def pictures(self) -> Tensor:
        """All pictures at once, uint8 [N, 3, H, W]; `read` takes less memory where they are many."""
        return self.stored.read() if isinstance(self.stored, PictureFiles) else self.stored

    def read(self, rows: Sequence[int]) -> Tensor:
        """Some pictures, uint8 [n, 3, H, W]; of a large set no others are held in memory.

        Raises:
            StoreError: A file was altered since the view was loaded.
        """
        small = len(self) * 3 * self.size[0] * self.size[1] <= IN_MEMORY
        return self.pictures[list(rows)] if small else self.take(rows).pictures

    def take(self, rows: Sequence[int]) -> SamplesView:
        """Some of the pictures, in the given order; files stay unread."""
        rows = list(rows)
        stored = self.stored.take(rows) if isinstance(self.stored, PictureFiles) else self.stored[rows]
        return SamplesView(tuple(self.samples[row] for row in rows), stored, self.folder)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that occur, in the order of their first picture."""
        return tuple(dict.fromkeys(sample.role for sample in self.samples))

    @cached_property
    def sha256(self) -> str:
        """Hash over all descriptions, picture hashes included: the identity of this evidence."""
        return sha256_bytes(canonical_json([sample.model_dump() for sample in self.samples]).encode())

    @cached_property
    def pictures_sha256(self) -> str:
        """Hash over the pictures alone, whatever they were drawn from."""
        if isinstance(self.stored, PictureFiles):
            return sha256_bytes(canonical_json([file.sha256 for file in self.stored.files]).encode())
        from zbench.metrics.features import pictures_sha256

        return pictures_sha256(self.stored)

    def indices(self, role: str) -> list[int]:
        """Positions of the pictures of one role."""
        return [index for index, sample in enumerate(self.samples) if sample.role == role]

    def select(self, role: str) -> SamplesView:
        """The pictures of one role, possibly none."""
        return self.take(self.indices(role))

    def with_role(self, role: str) -> SamplesView:
        """The same pictures under another role: prompts mean different things to different concepts."""
        return replace(self, samples=tuple(s.model_copy(update={"role": role}) for s in self.samples))
