"""The live display of a grid: how many cells are done above, a row for each one at work below."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zbench.runner.display.board import counts, ending, time_left
from zbench.runner.display.durations import shown_bytes, shown_seconds
from zbench.runner.display.tally import Outlook, Running, Tally
from zbench.runner.launchers.base import Ended, Job

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PER_SECOND = 4
_BAR = 20
_AROUND = 5
"""Lines of a screen that are no cell's."""

_STYLES = {"failed": "red", "skipped": "yellow", "stopped": "yellow", "refused": "red"}


class LiveBoard:
    """One display for the grid; what ends or is said stays above it as a line.

    Attributes:
        root: The run folder.
        tally: What is counted.
    """

    def __init__(
        self,
        root: Path,
        outlook: Outlook,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root, self.tally = root, Tally(outlook, clock)
        self._console, self._clock = console, clock
        self._live = Live(
            console=console, get_renderable=self.render, refresh_per_second=_PER_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, job: Job, device: str) -> None:
        """Gives the cell a row."""
        self.tally.started(job, device)

    def event(self, job: Job, event: dict[str, Any]) -> None:
        """Brings the cell's row up to date; the display is drawn again on its own."""
        line = self.tally.event(job, event)
        if line is not None:
            self.say(line)

    def ended(self, ended: Ended) -> None:
        """Turns the cell's row into a line."""
        outcome, line = ending(self.root, self.tally, ended)
        self._console.print(Text(line, style=_STYLES.get(outcome, "dim")), soft_wrap=True)

    def say(self, line: str) -> None:
        """Prints the line above the display."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    # The picture --------------------------------------------------------------------------------------------

    def render(self) -> RenderableType:
        """The display as it is now."""
        room = max(self._console.height - _AROUND, 1)
        running = self.tally.running
        hidden = len(running) - room
        parts: list[RenderableType] = [self._head(), self._rows(running[:room])]
        if hidden > 0:
            parts.append(Text(f"and {hidden} more at work", style="dim"))
        return Group(*parts)

    def _head(self) -> Table:
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(max(self.tally.outlook.cells, 1), self.tally.finished, width=_BAR)
        elapsed = Text(f"{shown_seconds(self.tally.elapsed)} so far", style="dim")
        head.add_row(Text(counts(self.tally), style="bold"), bar, Text(time_left(self.tally)), elapsed)
        return head

    def _rows(self, running: list[Running]) -> Table:
        rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_header=bool(running))
        for name in ("cell", "stage", "", "", "left", "device", "memory"):
            rows.add_column(name, no_wrap=True, overflow="ellipsis")
        now = self._clock()
        for cell in running:
            rows.add_row(*_row(cell, now))
        return rows


def _row(cell: Running, now: float) -> tuple[RenderableType, ...]:
    situation, left = cell.situation, cell.left(now)
    bar = ProgressBar(situation.total, situation.done, width=_BAR) if situation.total else Text("")
    memory = situation.memory.get("device", situation.memory.get("host"))
    return (
        escape(cell.job.label),
        escape(cell.stage or "starting"),
        bar,
        f"{situation.done}/{situation.total}" if situation.total else "",
        "" if left is None else shown_seconds(left),
        escape(cell.device or situation.device),
        "" if memory is None else shown_bytes(memory),
    )
