"""What a grid's display knows: which cells run and how far they are, which have ended, how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from threading import RLock
from typing import Any

from zbench.config import ORIGINAL
from zbench.runner.following import Situation
from zbench.runner.launchers.base import Job

SHOWN_LINES = 20
"""Lines that one cell may say on the display; all of them are in its log."""


@dataclass(frozen=True)
class Outlook:
    """What is known of a grid before its first cell starts.

    Attributes:
        jobs: Cells that are to be run.
        before: Cells whose results are there already, skipped ones included.
        estimates: Job id -> seconds that it is expected to take, where earlier cells tell.
    """

    jobs: Sequence[Job]
    before: int = 0
    estimates: Mapping[str, float] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        """All cells of the grid."""
        return self.before + len(self.jobs)


@dataclass
class Running:
    """A cell at work.

    Attributes:
        job: The cell.
        device: Where it runs.
        since: Seconds on the tally's clock when it began.
        heard: When it last told something.
        situation: How far it is.
        said: Lines that it said.
    """

    job: Job
    device: str
    since: float
    heard: float
    situation: Situation = field(default_factory=Situation)
    said: int = 0

    @property
    def stage(self) -> str:
        """What it is doing, without its own label."""
        return self.situation.stage.removeprefix(f"{self.job.spec.label}: ")

    def left(self, now: float) -> float | None:
        """Seconds until its stage is done, None while unknown."""
        left = self.situation.left
        return None if left is None else max(left - (now - self.heard), 0.0)


class Tally:
    """Counts a grid's cells; may be told and asked by several threads at once.

    Attributes:
        outlook: What was known before.
        clock: Seconds from any origin, monotonic.
    """

    def __init__(self, outlook: Outlook, clock: Callable[[], float] = time.monotonic) -> None:
        self.outlook, self.clock = outlook, clock
        self._lock = RLock()
        self._begun = clock()
        self._running: dict[str, Running] = {}
        self._waiting = {job.id: job for job in outlook.jobs}
        self._took: dict[str, list[float]] = {}
        self._ends: dict[str, str] = {}
        self._at_once = 1

    def started(self, job: Job, device: str) -> None:
        """A cell begins; one that began before begins anew, on another device."""
        now = self.clock()
        with self._lock:
            self._waiting.pop(job.id, None)
            self._running[job.id] = Running(job, device, now, now)
            self._at_once = max(self._at_once, len(self._running))

    def event(self, job: Job, event: Mapping[str, Any]) -> str | None:
        """Takes in what a cell tells.

        Returns:
            A line that it wants to be seen; of a cell that says too much only the first ones.
        """
        with self._lock:
            running = self._running.get(job.id)
            if running is None:
                return None
            running.situation.note(event)
            running.heard = self.clock()
            return _said(running, event)

    def ended(self, job: Job, outcome: str) -> float:
        """A cell's process is over.

        Args:
            job: The cell.
            outcome: `done`, `failed`, `skipped`, `stopped` or `refused`.

        Returns:
            Seconds since it began.
        """
        now = self.clock()
        with self._lock:
            self._waiting.pop(job.id, None)
            running = self._running.pop(job.id, None) or Running(job, "", now, now)
            self._ends[job.id] = outcome
            if outcome == "done":
                self._took.setdefault(job.spec.method, []).append(now - running.since)
            return now - running.since

    # What can be asked --------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the grid began."""
        return self.clock() - self._begun

    @property
    def finished(self) -> int:
        """Cells that are over, those of earlier runs included; a cell that was stopped is not."""
        with self._lock:
            return self.outlook.before + sum(end not in ("stopped", "refused") for end in self._ends.values())

    def count(self, outcome: str) -> int:
        """Cells that ended so in this run: `done`, `failed`, `skipped`, `stopped` or `refused`."""
        with self._lock:
            return sum(each == outcome for each in self._ends.values())

    @property
    def running(self) -> list[Running]:
        """Cells at work, the one that began first at the front."""
        with self._lock:
            return list(self._running.values())

    @property
    def left(self) -> float | None:
        """Seconds until the grid is done, None while nobody can know.

        Cells are taken to last as long as those of their method did in this run, else as was expected, else
        as those of all methods did on average; and as many to run at once as did so far. The unerased model,
        which is not trained, tells nothing of methods.
        """
        now = self.clock()
        with self._lock:
            expected = self._expectations()
            waiting = [expected(job) for job in self._waiting.values()]
            running = [_rest(expected(each.job), each, now) for each in self._running.values()]
            return _spread([*waiting, *running], self._at_once)

    def _expectations(self) -> Callable[[Job], float | None]:
        means = {method: fmean(took) for method, took in self._took.items()}
        every = [each for method, took in self._took.items() if method != ORIGINAL for each in took]
        usual, planned = fmean(every) if every else None, self.outlook.estimates
        return lambda job: means.get(job.spec.method, planned.get(job.id, usual))


def _rest(whole: float | None, cell: Running, now: float) -> float | None:
    """What is left of a cell at work: not less than of its stage."""
    return None if whole is None else max(whole - (now - cell.since), cell.left(now) or 0.0)


def _spread(work: Sequence[float | None], at_once: int) -> float | None:
    """Time until all work is done when it is spread evenly, but no cell is divided."""
    known = [seconds for seconds in work if seconds is not None]
    if len(known) < len(work):
        return None
    return max(sum(known) / at_once, max(known, default=0.0))


def _said(running: Running, event: Mapping[str, Any]) -> str | None:
    if event.get("kind") != "say" or not isinstance(event.get("line"), str):
        return None
    running.said += 1
    if running.said > SHOWN_LINES:
        return None
    more = " (more is in its log)" if running.said == SHOWN_LINES else ""
    label, line = running.job.label, str(event["line"])
    own = line.removeprefix(f"{running.job.spec.label}: ")
    return f"{label}: {own}{more}"
