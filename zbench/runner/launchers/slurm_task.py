"""One cell as a job of a SLURM cluster: what submitit runs on the node.

The cell is a process of its own below the job's, so that a word on its end is left whatever it dies of.
SLURM sends SIGUSR2 ahead of a job's time limit, and SIGTERM where the job is preempted or cancelled. Either
way the cell is asked to stop, which it does where nothing is half written; after SIGUSR2 the job then goes
back to the queue and the cell is gone on with.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from zbench.runner.following import Follower
from zbench.runner.launchers.base import STOPPED
from zbench.store import atomic_write_json

_CELL = "import sys; from zbench.runner.launchers.slurm_task import cell; sys.exit(cell(*sys.argv[1:]))"

_POLL = 0.1
_LAST_WORDS = 5.0
"""Seconds that a cell beyond its time limit has to write down where it hangs."""

_LONGEST = 4096
"""Characters of a message that fit through a pipe whose other end is read only afterwards."""


@dataclass(frozen=True)
class Task:
    """What a job of the cluster does.

    Attributes:
        spec: The cell's spec file.
        events: Where the cell tells how far it is.
        end: Where a word on the end of its process is left, as JSON: `status`, as of `subprocess`; `word`,
            the cell's own `Outcome`, None where it had no time for one; `timed_out`; and `problem`, where the
            job should have gone back to the queue and could not.
        time_limit: Seconds after which the cell is ended as hanging; never when None. Waiting for another
            process is not counted.
    """

    spec: Path
    events: Path
    end: Path
    time_limit: float | None = None

    def __call__(self) -> int:
        """Runs the cell to its end, or until the cluster wants the node back."""
        self.end.unlink(missing_ok=True)
        asked = _Asked()
        cell = _Cell(self, asked)
        status = cell.run()
        problem = asked.requeue() if asked.by_usr and cell.stopped else None
        self.end.parent.mkdir(parents=True, exist_ok=True)
        told = {"status": status, "word": cell.word, "timed_out": cell.timed_out, "problem": problem}
        atomic_write_json(self.end, told)
        return status

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue: the same again, since the run folder knows what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Asked:
    """Whether the cluster asked the job to end; the handlers only take note, and act on nothing."""

    def __init__(self) -> None:
        from submitit import JobEnvironment

        self.by_usr = self.by_term = False
        self.usr = JobEnvironment._usr_sig()
        self._submitit = signal.getsignal(self.usr)
        signal.signal(self.usr, self._note_usr)
        signal.signal(signal.SIGTERM, self._note_term)

    def __bool__(self) -> bool:
        return self.by_usr or self.by_term

    def _note_usr(self, number: int, frame: FrameType | None) -> None:
        self.by_usr = True

    def _note_term(self, number: int, frame: FrameType | None) -> None:
        self.by_term = True

    def requeue(self) -> str | None:
        """Lets submitit put the job back into the queue and end it; returns why it could not.

        Not every such job is lost: one that the cluster preempts is on its way back to the queue already.
        """
        if not callable(self._submitit):
            return "submitit is not there to do it"
        try:
            self._submitit(self.usr, None)
        except Exception as error:  # submitit's own, or of the command that it calls
            return str(error)
        return None


class _Cell:
    """The cell's process, as its job sees it."""

    def __init__(self, task: Task, asked: _Asked) -> None:
        self.task, self.asked = task, asked
        self.word: dict[str, Any] | None = None
        self.timed_out = self._told = False
        self._left = float("inf") if task.time_limit is None else task.time_limit

    def run(self) -> int:
        """From its start to its end; returns its exit code, negative for a signal."""
        if self.asked:
            self._told = True
            return STOPPED
        reading, writing = os.pipe()
        process = self._start(writing)
        os.close(writing)
        follower, looked, idle = Follower(self.task.events), time.monotonic(), False
        while process.poll() is None:
            for event in follower.new():
                idle = event["kind"] == "waiting"
            now = time.monotonic()
            self._left, looked = self._left - (0.0 if idle else now - looked), now
            self._mind(process)
            time.sleep(_POLL)
        self.word = _emptied(reading)
        return int(process.returncode)

    @property
    def stopped(self) -> bool:
        """Whether it can be gone on with; one that was asked before it could listen leaves no word."""
        return self._told and not self.timed_out and (self.word is None or self.word["code"] == STOPPED)

    def _start(self, writing: int) -> subprocess.Popen[bytes]:
        """Starts it so that SIGUSR2, which SLURM sends to every process of the job, does not end it."""
        command = [sys.executable, "-c", _CELL, str(self.task.spec), str(os.getpid()), str(writing)]
        signal.pthread_sigmask(signal.SIG_BLOCK, {self.asked.usr})
        try:
            return subprocess.Popen(command, env=_environment(), start_new_session=True, pass_fds=(writing,))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {self.asked.usr})

    def _mind(self, process: subprocess.Popen[bytes]) -> None:
        if self.asked and not self._told:
            self._told = True
            process.terminate()
        if self._left <= 0:
            self.timed_out = True
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a hanging cell with all that it started, its stack in the log where it can still write that."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)


def _emptied(reading: int) -> dict[str, Any] | None:
    """What the cell left in the pipe; what it has started may hold the other end for longer."""
    os.set_blocking(reading, False)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    return dict(json.loads(text)) if text else None


def _environment() -> dict[str, str]:
    """The job's, with as many threads as it was given cores: unbound, it sees those of the whole node."""
    cores = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    return {**os.environ, "OMP_NUM_THREADS": cores} if cores else dict(os.environ)


def cell(spec: str, parent: str, writing: str) -> int:
    """The cell's process itself.

    Args:
        spec: The spec file.
        parent: Process id of the job, with which it dies.
        writing: Descriptor of the pipe for the cell's last word.

    Returns:
        The exit code.
    """
    from zbench.runner.launchers.death import die_with
    from zbench.runner.launchers.entry import outcome_of

    die_with(int(parent))
    outcome = outcome_of(Path(spec))
    told = {**asdict(outcome), "message": outcome.message[:_LONGEST]}
    os.write(int(writing), json.dumps(told).encode())
    return outcome.code
