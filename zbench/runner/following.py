"""Following what a cell tells of itself, from the file that its process appends events to.

The file may not be there yet, may end in the middle of a line that is still being written, and may be
emptied and begun anew when the cell is started again. None of this is an error: whoever follows is told what
is readable, each line once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_HEAD = 256
"""Bytes at the beginning of a file by which it is known again; its first line has a process id and a time."""

_MOST = 1 << 24
"""Bytes that are read at a time: a day of events, and nothing that could fill the memory."""


class Follower:
    """Reads the new lines of one event file.

    Attributes:
        path: The file, there or not.
        restarts: How often it was found begun anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self._offset = 0
        self._head = b""

    def new(self) -> list[dict[str, Any]]:
        """Events since the last call; none where the file is missing or cannot be read at the moment."""
        try:
            with self.path.open("rb") as file:
                lines = self._whole_lines(file)
        except OSError:
            return []
        return [event for line in lines if (event := _event(line)) is not None]

    def _whole_lines(self, file: IO[bytes]) -> list[bytes]:
        if not self._is_same(file):
            self.restarts += 1
            self._offset, self._head = 0, b""
        file.seek(self._offset)
        read = file.read(_MOST)
        text, newline, _ = read.rpartition(b"\n")
        if not newline:
            self._offset += len(read) if len(read) == _MOST else 0  # no event is so long: it is passed over
            return []
        if not self._head:
            self._head = text[:_HEAD]
        self._offset += len(text) + 1
        return text.split(b"\n")

    def _is_same(self, file: IO[bytes]) -> bool:
        """Whether the file still begins with, and still is as long as, what was read of it."""
        if not self._offset:
            return True
        size = os.fstat(file.fileno()).st_size
        return size >= self._offset and file.read(len(self._head)) == self._head


def _event(line: bytes) -> dict[str, Any] | None:
    """An event, None for a line that is none: a disk that was full leaves torn ones in the middle."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def events_of(path: Path) -> Iterator[dict[str, Any]]:
    """All events that are in a file now."""
    follower = Follower(path)
    while events := follower.new():
        yield from events


@dataclass
class Situation:
    """How far a cell is, as its events tell.

    Times are those of the cell's machine and only their differences are used: events of a cluster's nodes
    come late and in bursts, and clocks of two machines differ.

    Attributes:
        host: Machine that the cell runs on; empty before it has started.
        pid: Its process there; 0 before it has started.
        device: Torch device.
        stage: What it is doing; empty between two stages.
        done: Units of the stage that are done.
        total: Units of the stage; 0 where it does not tell.
        memory: `host` or `device` -> bytes, the last that was told.
        status: How it ended: `done`, `failed`, `skipped`, `stopped` or `refused`; empty while it has not.
        refused: What the user must mend first; empty where nothing.
        seconds: Stage -> seconds, of those that have ended.
    """

    host: str = ""
    pid: int = 0
    device: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    memory: dict[str, int] = field(default_factory=dict)
    status: str = ""
    refused: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    _begun: tuple[float, int] | None = None
    _last: float = 0.0

    def note(self, event: Mapping[str, Any]) -> None:
        """Takes an event in; kinds that a newer zbench writes, and values of other types, change nothing."""
        note = getattr(self, f"_note_{event.get('kind')}", None)
        if note is not None:
            note(event)

    @property
    def left(self) -> float | None:
        """Seconds until the stage is done, at the speed so far, as of the last event; None while unknown."""
        if self._begun is None or not self.total:
            return None
        since, before = self._begun
        elapsed, units = self._last - since, self.done - before
        return elapsed / units * max(self.total - self.done, 0) if elapsed > 0 and units > 0 else None

    def _note_start(self, event: Mapping[str, Any]) -> None:
        vars(self).update(vars(Situation()))  # a cell that is started again is at its beginning
        self.host, self.device = _text(event, "host"), _text(event, "device")
        self.pid = int(_number(event, "pid"))

    def _note_stage(self, event: Mapping[str, Any]) -> None:
        self.stage, self.done, self.total = _text(event, "label"), 0, 0
        self._begun = (_number(event, "at"), 0)

    def _note_progress(self, event: Mapping[str, Any]) -> None:
        first = not self.total
        self.done, self.total = int(_number(event, "done")), int(_number(event, "total"))
        self._last = _number(event, "at")
        if first and self.done > 1:  # what was drawn by an earlier run took no time in this one
            self._begun = (self._last, self.done)

    def _note_stage_end(self, event: Mapping[str, Any]) -> None:
        self.seconds[_text(event, "label")] = _number(event, "seconds")
        self.stage, self.done, self.total, self._begun = "", 0, 0, None

    def _note_memory(self, event: Mapping[str, Any]) -> None:
        self.memory[_text(event, "of")] = int(_number(event, "bytes"))

    def _note_refused(self, event: Mapping[str, Any]) -> None:
        self.refused = _text(event, "message")

    def _note_end(self, event: Mapping[str, Any]) -> None:
        self.status = _text(event, "status")
        self.stage, self.done, self.total, self._begun = "", 0, 0, None


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""


def _number(event: Mapping[str, Any], name: str) -> float:
    value = event.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def situation_of(path: Path) -> Situation:
    """How far a cell is, from its event file alone."""
    situation = Situation()
    for event in events_of(path):
        situation.note(event)
    return situation
