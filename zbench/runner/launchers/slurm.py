"""Cells as jobs of a SLURM cluster: arrays through submitit, followed by the files that the cells write.

The run folder must lie where the nodes see it, too. A job that the cluster preempts, or that comes to its
time limit, goes back to the queue and its cell is gone on with; one whose node dies, too. A run that was
killed leaves its jobs to the cluster: the next one over the same folder finds them there and follows them.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zbench.errors import ConfigurationError, MissingExtraError
from zbench.runner.launchers.base import Board, Ended, Job
from zbench.runner.launchers.settings import Launch
from zbench.runner.launchers.slurm_flight import Flight
from zbench.runner.launchers.slurm_queue import Queue, Seen, require_commands
from zbench.runner.launchers.slurm_submit import Submitter, known_jobs, name_of, sweep
from zbench.runner.launchers.spec_file import SpecFile
from zbench.runner.launchers.stopping import StopFlag, handling
from zbench.store import Store

_FILES_EVERY = 0.5
"""Seconds between two looks at the files of running cells."""

_QUEUE_EVERY = (1.0, 15.0)
"""Seconds between two looks at the queue, while it moves and while it does not: asking loads the cluster."""


class Slurm:
    """Runs cells on a cluster.

    Attributes:
        launch: How; its `slurm` is what the cluster is asked for.
        stop: Set by Ctrl-C and SIGTERM while it runs, or by anybody: once to cancel what waits and let
            running cells stop where nothing is half written, twice to end them now.
    """

    def __init__(self, launch: Launch, stop: StopFlag | None = None) -> None:
        """Makes sure that there is a cluster.

        Raises:
            MissingExtraError: submitit is not installed.
            ConfigurationError: SLURM's commands are not on this machine, or devices are chosen as well.
        """
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise MissingExtraError.of("submitit", "slurm") from error
        require_commands()
        self.launch, self.stop = launch, stop or StopFlag()
        self.device = _device(launch)

    def run(self, jobs: Sequence[Job], store: Store, board: Board) -> Generator[Ended, None, None]:
        """Submits the jobs and yields each once it is over; see `Launcher.run`.

        Jobs that did not begin, because it was asked to stop or a cell was refused, are not yielded.

        Raises:
            ConfigurationError: The cluster refuses the jobs; none is left in its queue.
        """
        if not jobs:
            return
        grid = _Grid(Queue(name_of(store.root)), board, self.stop)
        with handling(self.stop):
            try:
                flights = self._flights(jobs, store.root, grid.queue, board)
                grid.flights = {flight.number: flight for flight in flights}
                yield from grid.follow()
            finally:
                grid.abandon()
                sweep(store.root, grid.finished)

    def _flights(self, jobs: Sequence[Job], root: Path, queue: Queue, board: Board) -> list[Flight]:
        """Jobs that are in the queue already, and those that are submitted now."""
        there = _in_queue(jobs, root, queue)
        missing = [job for job in jobs if job.id not in there]
        if there:
            board.say(f"{len(there)} cells are in SLURM's queue already, and are followed.")
        for job in missing:
            device = job.spec.device or self.device
            SpecFile.of(job, root, self.launch.log_limit, device, self.launch.slurm.cpus).write()
        numbers = there | Submitter(self.launch, root, queue, board).submit(missing)
        return [Flight(job, numbers[job.id], root) for job in jobs]


def _in_queue(jobs: Sequence[Job], root: Path, queue: Queue) -> dict[str, str]:
    """Cell -> job, of those that an earlier run submitted and the cluster has not finished."""
    known, seen = known_jobs(root), queue.look() or {}
    alive = {number for number, what in seen.items() if what.state != "COMPLETING"}
    return {job.id: known[job.id] for job in jobs if known.get(job.id) in alive}


def _device(launch: Launch) -> str:
    """What a cell runs on; a GPU that was asked for and is not there is a lost device, not the CPU."""
    if launch.devices and launch.devices != ("cpu",):
        raise ConfigurationError(
            "--devices chooses among this machine's devices; with --launcher slurm the cluster does: "
            "give gpus (0 for the CPU) under [launch.slurm] in run.toml."
        )
    return "cpu" if launch.devices or not launch.slurm.gpus else "cuda"


@dataclass
class _Grid:
    """The jobs of one run, as they are followed."""

    queue: Queue
    board: Board
    stop: StopFlag
    flights: dict[str, Flight] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    _refused: bool = False
    _told: set[str] = field(default_factory=set)
    _seen: Mapping[str, Seen] = field(default_factory=dict)
    _due: float = -float("inf")
    _pause: float = _QUEUE_EVERY[0]
    _heard: int = 0

    def follow(self) -> Iterator[Ended]:
        """Yields jobs as they end."""
        while self.flights:
            looked = self._look()
            for flight in list(self.flights.values()):
                ended = self._step(flight, looked)
                if ended is not None and (flight.has_run or ended.how != "stopped"):
                    self.board.ended(ended)
                    yield ended
            if self.flights:
                time.sleep(_FILES_EVERY)

    def abandon(self) -> None:
        """Leaves nothing in the queue that nobody follows."""
        if self.flights:
            self.queue.end(self.flights)
            self.flights = {}

    def _step(self, flight: Flight, looked: bool) -> Ended | None:
        flight.tell(self.board, self._seen.get(flight.number))
        there = flight.number in self._seen if looked else None
        ended = flight.ended(self.board, self.queue, there, bool(self.stop) or self._refused)
        if ended is not None:
            del self.flights[flight.number]
            self._refused = self._refused or ended.how == "refused"
            self.finished |= {flight.number} if ended.how == "finished" else set()
        return ended

    def _look(self) -> bool:
        """Looks at the queue where that is due; says whether it did and got an answer."""
        if time.monotonic() < self._due and self.stop.times == self._heard:
            return False
        self._give_up()
        seen = self.queue.look()
        moved = seen is not None and seen != self._seen
        self._pause = _QUEUE_EVERY[0] if moved or self.stop else min(2 * self._pause, _QUEUE_EVERY[1])
        self._due = time.monotonic() + self._pause
        if seen is None:
            self._say_once("SLURM does not answer; waiting for it.")
            return False
        self._seen = seen
        self._say_stuck()
        return True

    def _give_up(self) -> None:
        """Does what was asked for: nothing new begins, running cells stop; the second time they are ended."""
        self._heard = self.stop.times
        if self._heard > 1:
            self.queue.end(self.flights)
        elif self.stop or self._refused:
            self.queue.withdraw(self.flights)
        if self._heard == 1:
            self._say_once("Stopping: waiting jobs are cancelled, running cells are asked to stop.")
            self.queue.ask(self.flights)

    def _say_stuck(self) -> None:
        """Tells of jobs that wait for something that does not come by itself."""
        reasons: dict[str, list[str]] = {}
        for number, flight in self.flights.items():
            seen = self._seen.get(number)
            if seen is not None and seen.is_stuck:
                reasons.setdefault(seen.reason, []).append(flight.job.label)
        for reason, labels in reasons.items():
            more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
            self._say_once(f"{labels[0]}{more}: kept waiting in SLURM's queue, which says {reason}.")

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self.board.say(line)
