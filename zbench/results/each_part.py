"""Work on every part of a tree, on all processors where there is much of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Protocol, TypeVar

_FEW = 200
"""Files up to which further processes cost more than they save."""


class HasFiles(Protocol):
    """A part of a tree."""

    @property
    def files(self) -> Sized:
        """Its files."""


_Part = TypeVar("_Part", bound=HasFiles)
_Made = TypeVar("_Made")


def each_part(
    work: Callable[[_Part], _Made], found: Sequence[_Part], workers: int | None = None
) -> list[_Made]:
    """What `work` makes of each part, in order.

    Args:
        work: A function that other processes can import; its results go through a pipe.
        found: The parts.
        workers: Processes; None chooses by the number of files and processors.
    """
    few = sum(len(part.files) for part in found) <= _FEW
    wanted = min(workers or (1 if few else os.cpu_count() or 1), len(found))
    if wanted <= 1:
        with _no_search_for_garbage():
            return [_collected_afterwards(work, part) for part in found]
    with ProcessPoolExecutor(wanted, mp_context=get_context("spawn"), initializer=gc.disable) as pool:
        return list(pool.map(partial(_collected_afterwards, work), found))


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """In this process as in the others; afterwards it is as it was."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _collected_afterwards(work: Callable[[_Part], _Made], part: _Part) -> _Made:
    """Looks for garbage once a part is done: within it nearly all is in use, and looking costs a fifth."""
    try:
        return work(part)
    finally:
        gc.collect(0)
