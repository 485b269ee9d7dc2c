"""Tables on disk: a folder is brought up to date, and nothing that zbench did not write is removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import StoreError
from zbench.report.tables.shared import BEGINNING, INDEX
from zbench.store import atomic_write_text

if TYPE_CHECKING:
    from zbench.report.tables.render import Rendered

_LINK = re.compile(r"\]\(([A-Za-z0-9._/-]+)\.(?:md|csv)\)")
"""A table in an index; beside each stands its LaTeX."""


def write_tables(rendered: Rendered, out: Path | str) -> int:
    """Brings a folder of tables up to date; equal files are left untouched.

    Tables that the folder's index lists and that follow from nothing any more are removed, and nothing else.

    Args:
        rendered: All tables of a tree.
        out: Such as ``results/tables``.

    Returns:
        Files that were written or removed.

    Raises:
        StoreError: The folder cannot be written, holds a README of somebody else, or is no place for tables.
    """
    out = Path(out)
    require_place(rendered.root, out)
    stale = [path for path in _listed(out) if path.relative_to(out).as_posix() not in rendered.files]
    for path in stale:
        path.unlink()
    # The index goes first: a write that is cut short leaves no table that the next one takes for foreign.
    ordered = sorted(rendered.files.items(), key=lambda file: (file[0] != INDEX, file[0]))
    changed = [_brought_up_to_date(out / place, content) for place, content in ordered]
    return len(stale) + sum(changed)


def require_place(root: Path, out: Path) -> None:
    """Refuses a folder that tables may not be written to.

    Args:
        root: The tree that they follow from.
        out: The folder.

    Raises:
        StoreError: It is the tree, or holds it, or has a README that zbench did not write.
    """
    if root.resolve().is_relative_to(out.resolve()):
        raise StoreError(
            f"{out} holds the results themselves: give --out a folder for tables alone, such as"
            f" {root / 'tables'}."
        )
    if _index(out) is None:
        raise StoreError(
            f"{out / INDEX} was not written by `zbench table` and would be overwritten: give --out a folder"
            " for tables alone."
        )


def _index(out: Path) -> str | None:
    """The index of an earlier call, empty where there is none; None where the README is not ours."""
    try:
        text = (out / INDEX).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError):
        return None
    return text if text.startswith(BEGINNING) else None


def _listed(out: Path) -> Iterator[Path]:
    """Tables that the index lists and that are there."""
    places = dict.fromkeys(_LINK.findall(_index(out) or ""))
    for path in (out / f"{place}{suffix}" for place in places for suffix in (".md", ".csv", ".tex")):
        if path.is_file() and path.resolve().is_relative_to(out.resolve()):
            yield path


def _brought_up_to_date(path: Path, content: bytes) -> bool:
    """Writes a file unless it is as it should be; returns whether it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot make {path.parent}: {error.strerror or error}.") from error
    atomic_write_text(path, content.decode())
    return True
