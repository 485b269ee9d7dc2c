"""What a cell's process tells about itself: one JSON object a line, in a file that anybody may read along.

The file is locked for as long as the process that writes it lives, so `zbench.locks.is_held(path)` says
whether a cell is at work. It is about the present process only: the next one begins it anew.

| kind | more |
|---|---|
| `start` | `pid`, `host`, `device` |
| `stage` | `label` |
| `progress` | `done`, `total`; a few a second at most |
| `stage_end` | `label`, `seconds` |
| `say` | `line` |
| `memory` | `bytes`, `of`: `host` (resident memory) or `device` (what torch took from it) |
| `waiting` | none: the stage that has just begun is one of waiting for another process |
| `refused` | `message`: what the user must mend first, for any cell |
| `end` | `status`: `done`, `skipped`, `failed`, `stopped`, `refused`, `device lost` or `broken` |

Each also has `at`, seconds since the epoch: for people, since clocks jump.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zbench.locks import try_lock
from zbench.runner.display.progress import Advance, Plain, Reporter
from zbench.runner.launchers.stopping import StopFlag

PROGRESS_EVERY = 0.2
"""Least seconds between two events of progress."""

MEMORY_EVERY = 2.0
"""Least seconds between two looks at the memory."""

_TRIES, _BETWEEN_TRIES = 5, 0.02


class EventWriter:
    """Writes a cell's events; never fails the cell, whatever the disk says.

    Where another process writes the file already (two runs over one folder), this one keeps silent until
    that one is gone: what it tells is this cell's progress all the same.

    Attributes:
        path: The event file; its folder is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._opening: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        for _ in range(_TRIES):  # `is_held` holds the lock for a moment, too
            if self._acquire():
                break
            time.sleep(_BETWEEN_TRIES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def owns(self) -> bool:
        """Whether it is this process whose events the file holds."""
        return self._descriptor is not None

    def start(self, device: str) -> None:
        """The first event; it is told later, too, should the file be another's for now."""
        self._opening = {"pid": os.getpid(), "host": socket.gethostname(), "device": device}
        if self.owns:
            self.write("start", **self._opening)

    def write(self, kind: str, **fields: Any) -> None:
        """One event."""
        if not self.owns and self._acquire() and kind != "start" and self._opening:
            self.write("start", **self._opening)
        if self._descriptor is None:
            return
        line = json.dumps({"kind": kind, "at": round(time.time(), 3), **fields}, ensure_ascii=False) + "\n"
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line.encode("utf-8", "replace"))  # one write: lines are never mixed

    def _acquire(self) -> bool:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            if try_lock(descriptor):
                os.ftruncate(descriptor, 0)
                self._descriptor = descriptor
                return True
            os.close(descriptor)
        return False


class EventReporter(Reporter):
    """Tells a cell's stages as events and, in plain lines, on standard error.

    It is also where a cell that was asked to stop does so: before a stage and between two steps of one, where
    no file is half written.

    Attributes:
        events: Where to.
        stop: Says whether the cell was asked to stop.
        clock: Seconds from any origin, monotonic.
    """

    def __init__(
        self, events: EventWriter, stop: StopFlag, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.events, self.stop, self.clock = events, stop, clock
        self._plain = Plain(clock=clock)
        self._told = self._measured = -float("inf")

    @contextlib.contextmanager
    def stage(self, label: str) -> Iterator[Advance]:
        """Announces a stage, and says how long it took.

        Raises:
            Stopped: The cell was asked to stop; `advance` raises it, too.
        """
        self.stop.check()
        self.events.write("stage", label=label)
        self._told, start = -float("inf"), self.clock()
        with self._plain.stage(label) as told:
            yield lambda done, total: self._advance(told, done, total)
        self._measure_again()
        self.events.write("stage_end", label=label, seconds=round(self.clock() - start, 3))

    def say(self, line: str) -> None:
        """Tells the line."""
        self._plain.say(line)
        self.events.write("say", line=line)

    @contextlib.contextmanager
    def waiting(self, label: str) -> Iterator[Advance]:
        """Announces that nothing can be done for a while, which no time limit counts.

        Raises:
            Stopped: The cell was asked to stop; `advance` raises it, too.
        """
        with self.stage(label) as advance:
            self.events.write("waiting")
            yield advance

    def note(self, line: str) -> None:
        """Tells the line in the log alone."""
        self._plain.say(line)

    def _advance(self, told: Advance, done: int, total: int) -> None:
        self.stop.check()
        told(done, total)
        now = self.clock()
        if now - self._told >= PROGRESS_EVERY or done >= total:
            self._told = now
            self.events.write("progress", done=done, total=total)
        self._measure_again()

    def _measure_again(self) -> None:
        if self.clock() - self._measured < MEMORY_EVERY:
            return
        self._measured = self.clock()
        for of, count in memory().items():
            self.events.write("memory", bytes=count, of=of)


def memory() -> dict[str, int]:
    """Bytes that this process has now: `host`, resident, and `device`, where it uses one."""
    found = {}
    resident = _resident()
    if resident is not None:
        found["host"] = resident
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["device"] = int(torch.cuda.memory_reserved())
    return found


def _resident() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return _most_resident()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _most_resident() -> int | None:
    """The most that it ever had: all that systems other than Linux say without another package."""
    try:
        import resource
    except ImportError:
        return None
    # The unit of Linux and the BSDs is a kibibyte, that of macOS a byte.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
