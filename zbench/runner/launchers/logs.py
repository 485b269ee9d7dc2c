"""What a cell's process prints, down to its C libraries, in a file of limited size.

A small process of its own reads the other end of a pipe, so that the last words of a cell that crashes are
kept. Of a flood the beginning and the end are kept, never the middle.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn, TextIO

from zbench.locks import is_held, try_lock

_CHUNK = 1 << 16
_PATIENCE = 2.0
"""Seconds to wait for the last words of a process that is over: something that it started may go on."""

_POLL = 0.01

_CRASH = "Fatal Python error: "
"""Begins what `faulthandler` writes of a crash: innermost first, and at its end all that was imported."""


class BoundedLog:
    """A log file that never grows beyond a limit, in memory that does not grow either.

    Attributes:
        limit: Bytes that are kept, a line about what was dropped included.
        dropped: Bytes that were not kept so far.
    """

    def __init__(self, descriptor: int, limit: int) -> None:
        self._file, self.limit = descriptor, limit
        self._head = limit // 2
        self._room = limit // 4
        self._size = self.dropped = 0

    def write(self, data: bytes) -> None:
        """Appends; a disk that is full costs lines, not the cell."""
        with contextlib.suppress(OSError):
            for start in range(0, len(data), self._room):
                self._append(data[start : start + self._room])

    def _append(self, piece: bytes) -> None:
        if self._size + len(piece) > self.limit:
            self._drop_middle()
        self._size += os.pwrite(self._file, piece, self._size)

    def _drop_middle(self) -> None:
        """Moves the last quarter of the limit up to the end of the first half."""
        kept = self._room - len(self._notice())
        source = self._size - kept
        self.dropped += source - self._head - (len(self._notice()) if self.dropped else 0)
        target = self._head + os.pwrite(self._file, self._notice(), self._head)
        while source < self._size:
            piece = os.pread(self._file, min(_CHUNK, self._size - source), source)
            if not piece:  # somebody else cut the file short
                break
            target += os.pwrite(self._file, piece, target)
            source += len(piece)
        os.ftruncate(self._file, target)
        self._size = target

    def _notice(self) -> bytes:
        # Of one width, whatever the number: the next notice is put over this one.
        return f"\n[... {self.dropped:>20,d} bytes left out: this log is limited ...]\n".encode()


@contextlib.contextmanager
def captured(path: Path, limit: int, echo: bool = False) -> Iterator[None]:
    """Sends standard output and error of this process, and of what it starts, to a log for a `with` block.

    Standard input is empty meanwhile. On systems that cannot fork nothing is captured.

    Args:
        path: The log, which is begun anew; its folder is made where it is missing.
        limit: Bytes of it that are kept.
        echo: Whether everything also goes where it would have gone.
    """
    if not hasattr(os, "fork"):
        yield
        return
    _flush()
    reading, writing = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        _keep(reading, writing, path, limit, echo)
    os.close(reading)
    before = [os.dup(number) for number in (0, 1, 2)]
    _redirect(writing)
    try:
        # Streams of its own: those that are there may be another's, and hold lines back.
        with _stream(1) as output, _stream(2) as errors, redirect_stdout(output), redirect_stderr(errors):
            yield
    finally:
        for number, descriptor in enumerate(before):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _wait_for(keeper)


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _redirect(writing: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (writing, 1), (writing, 2)):
        os.dup2(source, number)
    os.close(nothing)
    os.close(writing)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a closed or foreign stream has nothing to lose
            stream.flush()


def _wait_for(keeper: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(keeper, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(_POLL)


def _keep(reading: int, writing: int, path: Path, limit: int, echo: bool) -> NoReturn:
    """The keeper's whole life: until nobody can print any more."""
    try:
        os.close(writing)
        os.setsid()  # what ends the cell with all that it started must not end the keeper of its last words
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        log = _opened(path)
        _close_all_but(reading, log)
        _copy(reading, BoundedLog(log, limit), echo)
    finally:
        os._exit(0)


def _opened(path: Path) -> int:
    """The log, locked: whoever reads it can see that more is to come."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # a disk that is full: the pipe must be read all the same, lest the cell waits for ever
        return os.open(os.devnull, os.O_RDWR)
    if _is_mine(descriptor):
        os.ftruncate(descriptor, 0)
        return descriptor
    os.close(descriptor)
    return os.open(os.devnull, os.O_RDWR)


def _is_mine(descriptor: int) -> bool:
    """Locks the log, for which the keeper of the cell's last process may still have some words."""
    deadline = time.monotonic() + _PATIENCE
    while not try_lock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _close_all_but(*kept: int) -> None:
    """Locks and connections of the cell must end with the cell, not with its log."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, max(os.sysconf("SC_OPEN_MAX"), start))


def _copy(reading: int, log: BoundedLog, echo: bool) -> None:
    while data := os.read(reading, _CHUNK):
        log.write(data)
        if echo:
            with contextlib.suppress(OSError):
                os.write(2, data)


def last_lines(path: Path, count: int = 5, longest: int = _CHUNK) -> list[str]:
    """The last lines of a log that are not empty, once its keeper is through with it; none without a log.

    Of a crash these are the first lines of its trace: the last ones are about the fork server, not the cell.

    Args:
        path: The log.
        count: At most so many lines.
        longest: At most so many bytes are looked at.
    """
    deadline = time.monotonic() + _PATIENCE
    while is_held(path) and time.monotonic() < deadline:
        time.sleep(_POLL)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - longest))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    crash = [place for place, line in enumerate(lines) if line.startswith(_CRASH)]
    return lines[crash[-1] :][:count] if crash else lines[-count:]
