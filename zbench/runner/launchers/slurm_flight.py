"""One cell on the cluster, as seen from outside: by its files, and by what the queue says of its job."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zbench.errors import StoreError
from zbench.runner.following import Follower
from zbench.runner.launchers.base import DEVICE_LOST, DONE, FAILED, REFUSED, STOPPED, Board, Ended, How, Job
from zbench.runner.launchers.death import obituary
from zbench.runner.launchers.logs import last_lines
from zbench.runner.launchers.slurm_queue import Queue, Seen
from zbench.runner.launchers.slurm_submit import end_file, folder_of
from zbench.store import read_json

_LOOKS = 2
"""How often a job must be missing in the queue before it counts as gone without a word."""

_CANCELLED = ("CANCELLED", "PREEMPTED", "REVOKED")
_OUT_OF_TIME = ("TIMEOUT", "DEADLINE")

_HINTS = {
    "OUT_OF_MEMORY": "ask for more memory_gb under [launch.slurm] in run.toml",
    "NODE_FAIL": "the node broke down; run again",
    "BOOT_FAIL": "the node broke down; run again",
}


class Flight:
    """A cell that was submitted.

    Attributes:
        job: The cell.
        number: Its job, such as `12_3`.
        has_run: Whether there ever was a process of it.
    """

    def __init__(self, job: Job, number: str, root: Path) -> None:
        self.job, self.number, self.root = job, number, root
        self.has_run = False
        self._follower = Follower(job.events(root))
        self._missed = 0
        self._begun = self._is_told = False

    def tell(self, board: Board, seen: Seen | None) -> None:
        """Passes on what the cell wrote; of cells that wait nobody reads the files."""
        waits = seen is not None and seen.waits
        if waits and self._begun:
            board.say(f"{self.job.label}: taken back by the cluster; it goes on when its turn comes again.")
            self._is_told = True
        self._begun = not waits and (self._begun or seen is not None)
        if self._begun:
            self._pass_on(board)

    def ended(self, board: Board, queue: Queue, there: bool | None, stopping: bool) -> Ended | None:
        """How the cell ended; None while it has not.

        Args:
            board: Is told the cell's last words.
            queue: Is asked about a job that ended without a word.
            there: Whether the job is in the queue; None where nobody has looked since the last time.
            stopping: Whether the run was asked to stop, and jobs are taken out of the queue.
        """
        if there is not None:
            self._missed = 0 if there else self._missed + 1
        told = self._told() if self._begun or there is not None else None
        # A cell that was stopped goes on in the same job where it was the cluster that stopped it. A warning
        # and a preemption may meet, and the queue then takes only one of the two requests.
        over = told is not None and not _is_stopped(told) and not told["problem"]
        if not over and self._missed < (_LOOKS if told is None else 1):
            return None
        self._pass_on(board)
        how, message = self._gone(queue) if told is None else self._judged(told)
        # What was asked to stop needs no reason, whatever ended it in the end.
        mute = stopping and how in ("stopped", "died")
        return Ended(self.job, "stopped") if mute else Ended(self.job, how, message)

    def _pass_on(self, board: Board) -> None:
        for event in self._follower.new():
            if event["kind"] == "start":
                self._start(board)
                board.started(self.job, f"{event.get('device')} of {event.get('host')}")
            board.event(self.job, event)

    def _start(self, board: Board) -> None:
        if self.has_run and not self._is_told:  # between two looks at the queue
            board.say(f"{self.job.label}: taken back by the cluster; it goes on now.")
        self.has_run, self._is_told = True, False

    def _told(self) -> dict[str, Any] | None:
        """What the job wrote about its end; None where it has not yet."""
        path = end_file(self.job, self.root)
        try:
            told = read_json(path) if path.exists() else None
        except StoreError:
            return None
        return told if isinstance(told, dict) and isinstance(told.get("status"), int) else None

    def _judged(self, told: Mapping[str, Any]) -> tuple[How, str]:
        """What the end of a process means; only one that left a word ended as it should."""
        code, message = (told["word"]["code"], told["word"]["message"]) if told["word"] else (None, "")
        if code in (DONE, FAILED):
            return "finished", ""
        if told["timed_out"]:
            return "timed out", f"it was ended at its time limit; its log, with the place, is {self._log}"
        if told["problem"]:
            return "timed out", f"its job {self.number} was to be queued again: {told['problem']}"
        if _is_stopped(told):
            return "stopped", f"its job {self.number} was cancelled"
        if code == REFUSED:
            return "refused", message
        if code == DEVICE_LOST:
            return "died", f"{message}: give gpus under [launch.slurm] in run.toml (0 for the CPU)"
        status = told["status"]
        return "died", obituary(-status if status < 0 else status << 8, last_lines(self._log), self._log)

    def _gone(self, queue: Queue) -> tuple[How, str]:
        """What is to be said of a job that left no word."""
        state, reason = queue.end_of(self.number)
        if state.startswith(_CANCELLED):
            return "stopped", f"its job {self.number} was cancelled on the cluster"
        if state.startswith(_OUT_OF_TIME):
            return "timed out", f"its job {self.number} came to the time limit of the cluster"
        why = f" ({state}{f', {reason}' if reason != 'None' else ''})" if state else ""
        hint = _HINTS.get(state, f"see {folder_of(self.root) / self.number}_0_log.out")
        last = (f"  | {line}" for line in last_lines(self._log))
        return "died", "\n".join([*last, f"its job {self.number} ended without a word{why}: {hint}"])

    @property
    def _log(self) -> Path:
        return self.job.log(self.root)


def _is_stopped(told: Mapping[str, Any]) -> bool:
    """Whether a cell was asked to stop and did, or was asked before it could listen."""
    if told["timed_out"] or told["problem"]:
        return False
    return told["word"]["code"] == STOPPED if told["word"] else told["status"] in (STOPPED, -signal.SIGTERM)
