"""Hashes of large files, remembered: weights of 12 GB are read once, not by every process of every run.

A file is known by place, size, inode and both of its times; whoever writes to it changes these. What cannot
be remembered is hashed again.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from zbench.errors import StoreError
from zbench.prompts.fetching import cache_folder
from zbench.store import atomic_write_text, canonical_json, sha256_bytes, sha256_file

LARGE = 64 << 20
"""Bytes from which on remembering is worth a file. Reading so many takes longer than a tick of the clock that
stamps files, so that what is written after the reading has another time."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hex digits; from the cache where nothing about the file changed."""
    before = _stamp(path)
    if before[1] < LARGE:
        return sha256_file(path)
    memory = cache_folder() / "hashes" / sha256_bytes(canonical_json(before).encode())
    known = _read(memory)
    if known is not None:
        return known
    digest = sha256_file(path)
    if _stamp(path) == before:
        with suppress(OSError, StoreError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(memory, digest)
    return digest


def _stamp(path: Path) -> tuple[str, int, int, int, int, int]:
    at = os.stat(path)
    return str(path.resolve()), at.st_size, at.st_ino, at.st_dev, at.st_mtime_ns, at.st_ctime_ns


def _read(memory: Path) -> str | None:
    try:
        text = memory.read_text("ascii")
    except (OSError, ValueError):
        return None
    return text if re.fullmatch("[0-9a-f]{64}", text) else None
