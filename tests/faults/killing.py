"""Killing processes of a run at points of a cell's work, found in the events that it writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOOK_EVERY = 0.002
_PATIENCE = 60.0
"""Seconds until what should happen at once counts as not happening."""

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Point:
    """A moment of a cell's work.

    Attributes:
        kind: Of the event at which somebody is killed: `stage`, `progress`, `stage_end` or any other.
        label: Of the stage.
        number: Events of any kind that must have come before, where neither kind nor label is given.
        delay: Seconds between the event and the signal.
    """

    kind: str = ""
    label: str = ""
    number: int = 0
    delay: float = 0.0

    def __str__(self) -> str:
        where = f"{self.kind} of {self.label}" if self.kind else f"event {self.number}"
        return f"{where} + {1000 * self.delay:.0f} ms"


Victim = Callable[[int], int]
"""Process id of a cell -> that of the process to be killed."""


def cell_itself(pid: int) -> int:
    """The cell."""
    return pid


def fork_server_of(pid: int) -> int:
    """The parent of the cell."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Killer(threading.Thread):
    """Waits for a point and sends SIGKILL; reads event files as any other program could.

    Attributes:
        killed: (process, the cell of the point) for each kill.
        struck: The point that came.
    """

    def __init__(
        self, root: Path, points: Sequence[Point], victim: Victim = cell_itself, others: bool = False
    ) -> None:
        """Begins to wait.

        Args:
            root: The run folder; its logs are those of this attempt alone.
            points: When: at the first of them that comes.
            victim: Whom.
            others: Whether cells that start afterwards are killed at their start, so that the next attempt
                finds everything as this point left it.
        """
        super().__init__(daemon=True)
        self.root, self.points, self.victim, self.others = root, points, victim, others
        self.killed: list[tuple[int, int]] = []
        self.struck: Point | None = None
        self._over = threading.Event()
        self._seen: dict[Path, int] = {}
        self._stage: dict[Path, str] = {}
        self._count = 0

    def run(self) -> None:
        while not self._over.is_set():
            for path in self.root.glob("logs/*.jsonl"):
                self._look(path)
            time.sleep(_LOOK_EVERY)

    def close(self) -> None:
        """Waits no longer."""
        self._over.set()
        self.join()

    def _look(self, path: Path) -> None:
        events = read_events(path)
        new, self._seen[path] = events[self._seen.get(path, 0) :], len(events)
        for event in new:
            self._count += 1
            if event["kind"] == "stage":
                self._stage[path] = event["label"]
            if self._strikes(event, self._stage.get(path, "")):
                self._kill(events[0]["pid"])
                return

    def _strikes(self, event: dict[str, Any], stage: str) -> bool:
        if self.struck is not None:
            return self.others and event["kind"] == "start"
        here = (event["kind"], stage)
        for point in self.points:
            if here == (point.kind, point.label) if point.kind else self._count > point.number:
                self.struck = point
                time.sleep(point.delay)
                return True
        return False

    def _kill(self, cell: int) -> None:
        with suppress(ProcessLookupError, FileNotFoundError):  # it came to its end by itself
            victim = cell if self.killed else self.victim(cell)
            os.kill(victim, signal.SIGKILL)
            self.killed.append((victim, cell))


@contextmanager
def killing(
    root: Path, points: Sequence[Point], victim: Victim = cell_itself, others: bool = False
) -> Iterator[Killer]:
    """Kills once within a `with` block, unless none of the points comes."""
    shutil.rmtree(root / "logs", ignore_errors=True)
    killer = Killer(root, points, victim, others)
    killer.start()
    try:
        yield killer
    finally:
        killer.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """The whole lines of an event file; none where it is gone."""
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def points_of(events: Sequence[tuple[str, dict[str, Any]]]) -> list[Point]:
    """Start, middle and end of every stage of an undisturbed run, in order."""
    found: dict[Point, None] = {}
    label = ""
    for _, event in events:
        label = event.get("label", label)
        if event["kind"] in ("stage", "progress", "stage_end"):
            found[Point(event["kind"], label)] = None
    return list(found)


# A run in a process of its own ----------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from tests.faults.grid import World, run_noted, statuses
from zbench.runner.launchers.settings import Launch

folder, out, methods, launch, more = sys.argv[1:6]
world = World(Path(folder), Path(folder) / "model", Path(folder) / "methods.py")
grid = world.grid(Path(out), methods.split(","), Launch.model_validate_json(launch), **eval(more))
result, notes = run_noted(grid)
print(*notes.lines, statuses(result), sep="\\n")
"""


def start_run(
    folder: Path, out: Path, methods: str = "fade", launch: str = '{"devices": ["cpu"]}', more: str = "{}"
) -> subprocess.Popen[str]:
    """Starts a run as a program, in a session of its own as a terminal's would be."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(out), methods, launch, more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def wait_until(true: Callable[[], bool], what: str, patience: float = _PATIENCE) -> None:
    """Waits for what other processes do."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
