"""What every launcher takes and gives: jobs in, and for each a word on how its process ended."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from zbench.runner.specs import CellSpec
    from zbench.store import Store

How = Literal["finished", "died", "timed out", "refused", "stopped"]
"""`finished`: its result is on disk, be it a failure; `died`: without one; `refused`: something that the user
must mend first, for any cell; `stopped`: on request, to be gone on with."""

DONE, FAILED, REFUSED = 0, 1, 2
BROKEN = 70
"""Exit code of a cell that broke down without a result; its log says how."""
DEVICE_LOST = 75
"""Exit code of a cell whose device is not there (any more): it can be tried on another one."""
STOPPED = 130
"""Exit code of a cell that was asked to stop."""


@dataclass(frozen=True)
class Job:
    """One cell that is not done.

    Attributes:
        id: Identity of the cell, and the name of its folder.
        label: How people are told of it.
        spec: What is to do.
        original: Whether it draws the unerased model's pictures, which other cells need.
    """

    id: str
    label: str
    spec: CellSpec
    original: bool = False

    def log(self, root: Path) -> Path:
        """What the cell's process printed."""
        return root / "logs" / f"{self.id}.log"

    def events(self, root: Path) -> Path:
        """How far the cell is, one JSON object a line; see `zbench.runner.events`."""
        return root / "logs" / f"{self.id}.jsonl"

    def file(self, root: Path) -> Path:
        """The spec that `zbench cell` is given."""
        return root / "specs" / f"{self.id}.json"


@dataclass(frozen=True)
class Ended:
    """How a job's process ended.

    Attributes:
        job: The job.
        how: See `How`.
        message: One or a few lines for the user, the reason in the last one; empty where it finished.
    """

    job: Job
    how: How
    message: str = ""


class Board(Protocol):
    """Where a grid shows how far it is."""

    def started(self, job: Job, device: str) -> None:
        """A job's process begins on a device."""

    def event(self, job: Job, event: dict[str, Any]) -> None:
        """One line of the job's event file."""

    def ended(self, ended: Ended) -> None:
        """A job's process is over."""

    def say(self, line: str) -> None:
        """One line about no job in particular."""


class Launcher(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job], store: Store, board: Board) -> Generator[Ended, None, None]:
        """Runs every job, in order as far as there is room, and yields each once its process is over.

        Jobs of unerased models come first where others wait for their pictures. After a job was refused no
        other is started. Closing the iterator ends what is running.
        """
