"""Samples folders of which only thumbnails are kept: pictures take nearly all of a run folder's space.

The manifest stays as it is, with the hashes of the pictures that were scored, so that scores and results made
from them stay valid and are found again. Who needs the pictures themselves draws them again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.stages.picture_files import THUMBNAILS, is_thinned, picture_path
from zbench.store import read_json

if TYPE_CHECKING:
    from PIL import Image as Images

    from zbench.metrics.robustness import AttackRecord
    from zbench.store import StageFolder

SIDE = 128
"""Longest side of a thumbnail in pixels; pictures that are not larger are kept as they are."""

_PICTURES = "pictures"


def needed_again(folder: StageFolder) -> str:
    """What is said before pictures are drawn again of which only thumbnails were kept."""
    return f"Only thumbnails were kept of {folder.path}: its pictures are drawn again."


def shown_picture(folder: Path, index: int) -> Path:
    """The file to show for picture `index` of a samples folder: the picture, or its thumbnail."""
    return _thumbnail_path(folder, index) if is_thinned(folder) else picture_path(folder, index)


def candidate_pictures(record: AttackRecord, root: Path) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Every picture of an attack's candidates, of both arms: stage, description, file."""
    for stage, place in record.stages.items():
        if stage.startswith("pictures "):
            for index, sample in enumerate(read_json(root / place / "manifest.json")["samples"]):
                yield stage, sample, shown_picture(root / place, index)


def fitted(picture: Images.Image, side: int) -> Images.Image:
    """A picture in RGB that just fits into a square; a small one is enlarged without smoothing."""
    from PIL import Image, ImageOps

    smooth = Image.Resampling.LANCZOS if max(picture.size) > side else Image.Resampling.NEAREST
    return ImageOps.contain(picture.convert("RGB"), (side, side), smooth)


def _thumbnail_path(folder: Path, index: int) -> Path:
    return folder / THUMBNAILS / picture_path(folder, index).name


def thin(folder: StageFolder) -> int:
    """Replaces the pictures of a samples folder by thumbnails, all at once, unless that was done before.

    A folder that is not complete, whose pictures are small, or whose pictures were altered, is left alone.

    Args:
        folder: A samples folder.

    Returns:
        Bytes that are free now.

    Raises:
        StoreError: The folder cannot be written; it is as it was.
    """
    if not can_be_thinned(folder.path):
        return 0
    with folder.claim() as missing:
        if missing or is_thinned(folder.path):
            return 0
        before = _bytes_in(folder.path)
        folder.write(lambda place: _fill(folder.path, place), same_work=True)
        return before - _bytes_in(folder.path)


def can_be_thinned(folder: Path) -> bool:
    """Whether a samples folder has pictures that are larger than thumbnails.

    Raises:
        StoreError: Its manifest cannot be read.
    """
    from zbench.stages.samples import read_manifest

    return not is_thinned(folder) and max(read_manifest(folder).size) > SIDE


def _fill(folder: Path, place: Path) -> None:
    shutil.copytree(folder, place, ignore=lambda _, names: {_PICTURES} & set(names), dirs_exist_ok=True)
    (place / THUMBNAILS).mkdir()
    for path in sorted((folder / _PICTURES).iterdir()):
        _write_thumbnail(path, place / THUMBNAILS / path.name)


def _write_thumbnail(picture: Path, thumbnail: Path) -> None:
    from PIL import Image

    with Image.open(picture) as image:
        fitted(image, SIDE).save(thumbnail, format="PNG")


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
