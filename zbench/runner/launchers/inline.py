"""Cells in the calling process, one after the other: for debugging, and for Python users."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from zbench.runner.display.progress import Reporter, Silent
from zbench.runner.launchers.base import Board, Ended, Job

if TYPE_CHECKING:
    from zbench.runner.workshop import Workshop
    from zbench.store import Store


class Inline:
    """Runs jobs here. They share loaded models and instruments, and die with any cell that dies.

    Attributes:
        reporter: Shows progress; nobody when None.
        workshop: What is loaded already, and what will be.
    """

    def __init__(self, reporter: Reporter | None = None, workshop: Workshop | None = None) -> None:
        self.reporter = reporter or Silent()
        self.workshop = workshop

    def run(self, jobs: Sequence[Job], store: Store, board: Board) -> Generator[Ended, None, None]:
        """Runs every job and yields each; see `Launcher.run`.

        Raises:
            ZbenchError: Something that the user must mend before any cell can run.
        """
        from zbench.runner.cell import run_cell
        from zbench.runner.workshop import Workshop

        workshop = self.workshop or Workshop()
        for job in sorted(jobs, key=lambda each: not each.original):
            board.started(job, job.spec.device or "this process")
            result = run_cell(job.spec, store, self.reporter, workshop)
            if result.status != "done":
                self.reporter.say(f"{job.label}: {result.status}: {result.reason}")
            ended = Ended(job, "finished")
            board.ended(ended)
            yield ended
