"""Reference pictures for FID and KID: drawn by a source, or read from the user's folder."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError
from zbench.registry import REFERENCES, load

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_SHOWN = 3


@lru_cache(maxsize=2)
def reference_pictures(source: str, count: int) -> Tensor:
    """Pictures of a reference source, kept for the cells that follow.

    Args:
        source: ``SOURCE:NAME``; SOURCE is an entry point of ``zbench.references``: a callable that takes the
            name and the number of pictures and returns uint8 [count, 3, H, W], always the same.
        count: Number of pictures.

    Raises:
        ConfigurationError: The text has no colon, or the source returns something else.
        UnknownNameError: There is no such source.
    """
    import torch

    scheme, colon, name = source.partition(":")
    if not colon or not name:
        raise ConfigurationError(f"Reference pictures are named SOURCE:NAME, not {source!r}.")
    pictures: Any = load(REFERENCES, scheme, "reference source")(name, count)
    if not isinstance(pictures, torch.Tensor) or pictures.dtype != torch.uint8 or pictures.ndim != 4:
        raise ConfigurationError(f"The reference source {scheme!r} must return uint8 pictures [N, 3, H, W].")
    return pictures


@lru_cache(maxsize=2)
def folder_pictures(folder: Path, count: int, height: int, width: int) -> Tensor:
    """The first `count` pictures of a folder by name, resized and cropped to one size.

    Args:
        folder: Searched with its sub-folders for PNG, JPEG and WebP files.
        count: Take at most so many.
        height: Height of the generated pictures.
        width: Their width.

    Returns:
        uint8 [<= count, 3, height, width]: shorter side resized (Lanczos), centre crop.

    Raises:
        ConfigurationError: No such folder, no pictures in it, or files that are not pictures (named and
            counted).
    """
    import torch

    if not folder.is_dir():
        raise ConfigurationError(f"The folder of reference pictures {folder} does not exist.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)[:count]
    if not paths:
        raise ConfigurationError(f"The folder {folder} holds no pictures ({', '.join(ENDINGS)}).")
    decoded = [_decode(path, height, width) for path in paths]
    broken = [path.name for path, picture in zip(paths, decoded, strict=True) if picture is None]
    if broken:
        raise ConfigurationError(
            f"{len(broken)} files in {folder} are not pictures: {', '.join(broken[:_SHOWN])}."
        )
    return torch.stack([torch.from_numpy(picture) for picture in decoded]).permute(0, 3, 1, 2).contiguous()


def _decode(path: Path, height: int, width: int) -> Any | None:
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, OSError):
        return None
    return np.asarray(fitted).copy()
