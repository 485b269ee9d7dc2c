"""Showing how far a run is: bars with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

Advance = Callable[[int, int], None]
"""Called as `advance(done, total)` from inside a stage."""

_LINE_EVERY = 15.0
"""Seconds between the plain lines of one stage."""


class Reporter(ABC):
    """Where a run tells what it is doing."""

    @abstractmethod
    def stage(self, label: str) -> AbstractContextManager[Advance]:
        """Announces a stage; the callback inside tells how far it is."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Shows one line that is no progress: a stage redone, a cell that failed."""

    def waiting(self, label: str) -> AbstractContextManager[Advance]:
        """Like `stage`, for the time in which another process does what is needed next."""
        return self.stage(label)

    def note(self, line: str) -> None:
        """Shows one line that only who looks at a single cell wants to see."""
        self.say(line)


class Silent(Reporter):
    """Shows nothing; the default of the Python interface."""

    def stage(self, label: str) -> AbstractContextManager[Advance]:
        """Takes no notice."""
        return contextlib.nullcontext(lambda done, total: None)

    def say(self, line: str) -> None:
        """Takes no notice."""


class Plain(Reporter):
    """Lines for log files: start, every few seconds with the time left, end.

    Attributes:
        write: Receives each line.
        clock: Seconds from any origin, monotonic.
    """

    def __init__(
        self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self.clock = clock

    @contextlib.contextmanager
    def stage(self, label: str) -> Iterator[Advance]:
        """Writes a line at the start, at the end, and in between when there is news."""
        start = last = self.clock()

        def advance(done: int, total: int) -> None:
            nonlocal last
            now = self.clock()
            if done and now - last >= _LINE_EVERY:
                last = now
                left = (now - start) / done * (total - done)
                self.write(f"{label}: {done}/{total}, {left:.0f} s left")

        self.write(f"{label} ...")
        yield advance
        self.write(f"{label}: done in {self.clock() - start:.1f} s")

    def say(self, line: str) -> None:
        """Writes the line."""
        self.write(line)


class Bars(Reporter):
    """One bar per stage with its time left, on standard error; finished stages stay as one line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextlib.contextmanager
    def stage(self, label: str) -> Iterator[Advance]:
        """Shows a bar while the stage runs, and a line with its time afterwards."""
        task = self._progress.add_task(label, total=None)
        start = time.monotonic()
        try:
            yield lambda done, total: self._progress.update(task, completed=done, total=total)
            self._progress.console.print(
                f"{label}: {time.monotonic() - start:.1f} s", style="dim", markup=False
            )
        finally:
            self._progress.remove_task(task)

    def say(self, line: str) -> None:
        """Prints the line above the bars."""
        self._progress.console.print(line, markup=False, highlight=False)


class Passing(Reporter):
    """A bar for each stage, no longer there than the stage: something else has the terminal in between."""

    def __init__(self, console: Any) -> None:
        self._console = console

    @contextlib.contextmanager
    def stage(self, label: str) -> Iterator[Advance]:
        """Shows a bar while the stage runs."""
        with _bars(self._console) as progress:
            task = progress.add_task(label, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def say(self, line: str) -> None:
        """Prints the line."""
        self._console.print(line, markup=False, highlight=False)


@contextlib.contextmanager
def reporter_for_terminal(live: bool = True) -> Iterator[Reporter]:
    """Bars when standard error is a terminal, plain lines otherwise.

    Args:
        live: Whether nothing else shows anything meanwhile.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Plain()
    elif not live:
        yield Passing(console)
    else:
        with _bars(console) as progress:
            yield Bars(progress)


def _bars(console: Any) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("left"),
    )
    return Progress(*columns, console=console, transient=True)
