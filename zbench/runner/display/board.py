"""Showing how far a grid is: one display on a terminal, a line now and then elsewhere.

Every cell's own stages stand in its log file; here is what somebody wants to know who waits for all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zbench.runner.display.durations import shown_seconds
from zbench.runner.display.tally import Outlook, Running, Tally
from zbench.runner.launchers.base import Ended, Job
from zbench.runner.summary import read_summary

LINE_EVERY = 60.0
"""Seconds between two lines on how far the grid is, where they are not overwritten."""

_NAMED = 4
"""Running cells that such a line names."""


class PlainBoard:
    """Lines for log files: when a cell starts and ends, and every minute how far the grid is.

    Attributes:
        root: The run folder.
        tally: What is counted.
    """

    def __init__(
        self,
        root: Path,
        outlook: Outlook,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root, self.tally = root, Tally(outlook, clock)
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self._clock, self._last = clock, clock()

    def started(self, job: Job, device: str) -> None:
        """Writes that a cell starts."""
        self.tally.started(job, device)
        self.say(f"{job.label}: starts on {device}")

    def event(self, job: Job, event: dict[str, Any]) -> None:
        """Writes what the cell wants to be seen, and how far the grid is where it is time."""
        line = self.tally.event(job, event)
        if line is not None:
            self.say(line)
        if self._clock() - self._last >= LINE_EVERY:
            self.say(overview(self.tally))

    def ended(self, ended: Ended) -> None:
        """Writes how a cell ended."""
        _, line = ending(self.root, self.tally, ended)
        self.say(line)

    def say(self, line: str) -> None:
        """Writes the line."""
        self._last = self._clock()
        self._write(line)


# What both displays say -----------------------------------------------------------------------------------


def ending(root: Path, tally: Tally, ended: Ended) -> tuple[str, str]:
    """Counts a cell that ended, and says how.

    Args:
        root: The run folder.
        tally: Where it is counted.
        ended: The cell.

    Returns:
        `done`, `failed`, `skipped`, `stopped` or `refused`; and one line, with the log file where it failed.
    """
    job, (outcome, reason) = ended.job, _outcome(root, ended)
    took = shown_seconds(tally.ended(job, outcome))
    log = str(job.log(root))
    where = f" (log: {log})" if outcome == "failed" and log not in reason else ""
    why = f": {reason}" if reason and reason != outcome else ""
    line = f"[{tally.finished}/{tally.outlook.cells}] {job.label}: {outcome} after {took}{why}{where}"
    return outcome, line


def _outcome(root: Path, ended: Ended) -> tuple[str, str]:
    """How a cell ended, and why so in one line."""
    last = (ended.message.strip().splitlines() or [""])[-1]  # of a traceback, too, that is the reason
    if ended.how == "finished":
        summary = read_summary(root / "cells" / ended.job.id)
        return (summary.status, summary.reason) if summary else ("done", last)
    return (ended.how if ended.how in ("stopped", "refused") else "failed"), last or ended.how


def counts(tally: Tally) -> str:
    """How many cells are done, and what else there is to know of them."""
    counted = {name: tally.count(name) for name in ("failed", "skipped", "stopped")}
    told = {"from before": tally.outlook.before, **counted}
    more = ", ".join(f"{number} {name}" for name, number in told.items() if number)
    return f"{tally.finished} of {tally.outlook.cells} cells{f' ({more})' if more else ''}"


def time_left(tally: Tally) -> str:
    """Such as `about 1 h 20 min left`."""
    left = tally.left
    return "time left unknown" if left is None else f"about {shown_seconds(left)} left"


def overview(tally: Tally) -> str:
    """How far the grid and its running cells are, in one line."""
    running = tally.running
    named = "; ".join(_how_far(each, tally.clock()) for each in running[:_NAMED])
    more = f"; and {len(running) - _NAMED} more" if len(running) > _NAMED else ""
    return f"{counts(tally)}, {time_left(tally)}{f'; {named}' if named else ''}{more}"


def _how_far(cell: Running, now: float) -> str:
    stage, situation = cell.stage or "starting", cell.situation
    done = f" {situation.done}/{situation.total}" if situation.total else ""
    left = cell.left(now)
    return f"{cell.job.label} {stage}{done}{'' if left is None else f', {shown_seconds(left)} left'}"
