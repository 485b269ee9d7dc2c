"""Writing a published result into a tree: whole or not at all, and nothing where it is there already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import StoreError
from zbench.results.form import to_text
from zbench.store import atomic_write_bytes

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
    contents = list(_contents(published, out))
    missing = [(path, data) for path, data in contents if not _holds(path, data)]
    if not missing or dry_run:
        return bool(missing)
    folder = contents[-1][0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot write {folder}: {error.strerror or error}.") from error
    _write_all(missing)
    return True


def _write_all(files: Sequence[tuple[Path, bytes]]) -> None:
    new = [path for path, _ in files if not path.exists()]
    try:
        for path, data in files:
            atomic_write_bytes(path, data)
    except StoreError:
        with contextlib.suppress(OSError):
            _unlink(*new)
        raise


def _contents(published: Published, out: Path) -> Iterator[tuple[Path, bytes]]:
    if published.pictures is not None:
        yield out / published.result.pictures_place, published.pictures
    yield out / published.result.place, to_text(published.result).encode()


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
