"""Locks that processes, also on several machines, hold on files; the system frees those of a killed process.

A lock is a file of its own that exists while somebody holds it. On file systems without locks nobody is kept
out: work may then be done twice, and is never mixed, because every file is put in place as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zbench.errors import StoreError

_POLL = 0.1
"""Seconds between two tries at a lock that another process holds."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

_held: dict[tuple[str, int], int] = {}
"""(path, thread) -> how often it holds the lock: who holds it may ask again."""


@contextlib.contextmanager
def hold(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds a lock, waiting for as long as another process, or thread, has it.

    Args:
        path: The lock's file, which is made and removed here; its folder is made where it is missing.
        waiting: Called again and again while waiting; may raise to give up.

    Raises:
        StoreError: The lock's file cannot be written.
    """
    key = (str(path), threading.get_ident())
    if key in _held:
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    descriptor = _wait_for(path, waiting)
    _held[key] = 1
    try:
        yield
    finally:
        del _held[key]
        _release(path, descriptor)


def is_held(path: Path) -> bool:
    """Whether a process, or another thread, holds a lock at the moment; looks without waiting."""
    if (str(path), threading.get_ident()) in _held:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def is_own(path: Path) -> bool:
    """Whether this process holds a lock."""
    return any(held == str(path) for held, _ in _held)


def holder(path: Path) -> str:
    """Who holds a lock, such as `node7, process 4711`; empty where nobody does."""
    with contextlib.suppress(OSError):
        if is_held(path):
            return path.read_text(encoding="utf-8").strip()
    return ""


def _wait_for(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        descriptor = _open(path)
        try:
            if _locked(descriptor) and _is_current(path, descriptor):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"{socket.gethostname()}, process {os.getpid()}\n".encode())
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"Cannot write {path}: {error.strerror or error}.") from error
        os.close(descriptor)
        if waiting is not None:
            waiting()
        time.sleep(_POLL)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror or error}.") from error


def _is_current(path: Path, descriptor: int) -> bool:
    """Whether the locked file is still the one that others find; its last holder may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        path.unlink()  # while it is held: whoever opened it before sees that it is gone, and opens another
    os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Locks an open file, until it is closed, if nobody else has; True where there are no locks."""
    return _locked(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # a system without these locks
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
