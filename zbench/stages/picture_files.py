"""Pictures as files: lossless PNG, each known by the SHA-256 of its file, read only when it is looked at."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.store import sha256_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

THUMBNAILS = "thumbnails"
"""Folder that stands in for that of the pictures where only small ones were kept of them."""

_SHOWN = 3


def picture_name(index: int) -> str:
    """Where picture `index` of a samples folder lies inside it."""
    return f"pictures/{index:04d}.png"


def picture_path(folder: Path, index: int) -> Path:
    """Where picture `index` of a samples folder lies."""
    return folder / picture_name(index)


def is_thinned(folder: Path) -> bool:
    """Whether only thumbnails are left of a samples folder."""
    return (folder / THUMBNAILS).is_dir()


def require_pictures(folder: Path) -> None:
    """Makes sure that a samples folder has its pictures.

    Raises:
        StoreError: Only thumbnails were kept of them.
    """
    if is_thinned(folder):
        raise StoreError(
            f"Only thumbnails were kept of the pictures in {folder}: delete it, and run the same command"
            " again with --keep pictures."
        )


def write_picture(path: Path, picture: Tensor) -> str:
    """Writes a picture, uint8 [3, H, W], durably and under its own name at once; a kill may leave a part.

    Returns:
        SHA-256 of the whole file, which tells a part from it.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()).save(buffer, format="PNG")
    with path.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    return sha256_bytes(buffer.getvalue())


@dataclass(frozen=True)
class PictureFile:
    """One picture on disk.

    Attributes:
        path: The file.
        sha256: What its hash must be.
        size: (height, width) that it must have.
    """

    path: Path
    sha256: str
    size: tuple[int, int]

    def check(self) -> None:
        """Makes sure that the file is the picture, without decoding it.

        Raises:
            ValueError: Says what is wrong with it.
        """
        self._open().close()

    def read(self) -> NDArray[Any]:
        """The picture, uint8 [H, W, 3].

        Raises:
            ValueError: Says what is wrong with it.
        """
        import numpy as np

        try:
            with self._open() as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise ValueError("is not a picture") from error

    def _open(self) -> Any:
        from PIL import Image, UnidentifiedImageError

        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            raise ValueError("is missing") from None
        if sha256_bytes(data) != self.sha256:
            raise ValueError("was altered (its SHA-256 differs from the manifest)")
        try:
            image = Image.open(io.BytesIO(data))
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError("is not a picture") from error
        if (image.height, image.width) != self.size:
            raise ValueError(f"is {image.height}x{image.width}, not {self.size[0]}x{self.size[1]}")
        return image


@dataclass(frozen=True)
class PictureFiles:
    """Pictures of one size on disk.

    Attributes:
        files: N of them.
        size: (height, width).
    """

    files: tuple[PictureFile, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: Sequence[int]) -> PictureFiles:
        """Some of them, in the given order."""
        return PictureFiles(tuple(self.files[row] for row in rows), self.size)

    def check(self, folder: Path) -> None:
        """Makes sure that all pictures are there and whole.

        Args:
            folder: What is to be deleted otherwise.

        Raises:
            StoreError: Some are not; the first few are named and all are counted.
        """
        faults: list[str] = []
        for file in self.files:
            try:
                file.check()
            except ValueError as error:
                faults.append(f"{file.path.name} {error}")
        if faults:
            shown = "; ".join(faults[:_SHOWN]) + (" ..." if len(faults) > _SHOWN else "")
            raise StoreError(
                f"{len(faults)} of {len(self)} pictures in {folder} cannot be used: {shown}."
                " Delete the folder and run again."
            )

    def read(self) -> Tensor:
        """All of them, uint8 [N, 3, H, W].

        Raises:
            StoreError: One is missing, altered, or not what it should be.
        """
        import numpy as np
        import torch

        pictures = np.zeros((len(self), 3, *self.size), dtype=np.uint8)
        for index, file in enumerate(self.files):
            try:
                pictures[index] = file.read().transpose(2, 0, 1)
            except ValueError as error:
                folder = file.path.parent.parent
                raise StoreError(f"{file.path} {error}. Delete {folder} and run again.") from error
        return torch.from_numpy(pictures)
