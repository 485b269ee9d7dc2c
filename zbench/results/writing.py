"""Writing a published result into a tree: whole or not at all, and nothing where it is there already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import StoreError
from zbench.results.form import to_text
from zbench.store import WRITING, atomic_write_bytes

if TYPE_CHECKING:
    from zbench.results.publish import Published
    from zbench.results.schema import PublishedResult


def write(published: Published, out: Path, *, dry_run: bool = False) -> bool:
    """Writes a result and its pictures, the result last: it is its own completion mark.

    Args:
        published: What to write.
        out: Root of the tree.
        dry_run: Only say whether anything would change.

    Returns:
        Whether the files were not there with this content.

    Raises:
        StoreError: They cannot be written; nothing half-written is left.
    """
    place, pictures = out / published.result.place, out / published.result.pictures_place
    contents = {place: to_text(published.result).encode()}
    if published.pictures is not None:
        contents[pictures] = published.pictures
    missing = {path: data for path, data in contents.items() if not _holds(path, data)}
    old = published.pictures is None and pictures.exists()
    if not (missing or old) or dry_run:
        return bool(missing) or old
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _write_all(missing)
        if old:
            _unlink(pictures)
    except OSError as error:
        raise StoreError(f"Cannot write {place.parent}: {error.strerror or error}.") from error
    return True


def _write_all(files: Mapping[Path, bytes]) -> None:
    """Writes all files beside their places and only then puts them there, the result last."""
    waiting = {path: path.with_name(f"{WRITING}{path.name}") for path in sorted(files, key=_is_result)}
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    try:
        for path, data in files.items():
            atomic_write_bytes(waiting[path], data)
        for path, place in waiting.items():
            os.replace(place, path)
    except (StoreError, OSError):
        with contextlib.suppress(OSError, StoreError):
            _put_back(before)
        raise
    finally:
        with contextlib.suppress(OSError):
            _unlink(*waiting.values())


def _is_result(path: Path) -> bool:
    return path.suffix == ".json"


def _put_back(before: Mapping[Path, bytes | None]) -> None:
    for path, data in before.items():
        if data is None:
            _unlink(path)
        elif not _holds(path, data):
            atomic_write_bytes(path, data)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def remove(result: PublishedResult, out: Path) -> None:
    """Takes a result out of a tree, its pictures last: what is there is whole.

    Args:
        result: What to remove.
        out: Root of the tree.
    """
    _unlink(out / result.place, out / result.pictures_place)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
