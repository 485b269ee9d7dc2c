"""SLURM's own commands: what is in the queue, how a job ended, and taking jobs out again.

Nothing here needs the accounting database, which many clusters do not have: `sacct` is never called.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from zbench.errors import ConfigurationError

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")
_PATIENCE = 60.0
"""Seconds after which a command of a busy cluster is given up; it is tried again later."""

_AT_ONCE = 500
"""Jobs that are named to one command: its line has a greatest length."""

_USUAL_ARRAY = 1000
"""Cells of one array where the cluster does not say how many it takes."""

_ORDINARY = {
    *("", "None", "Priority", "Resources", "Dependency", "JobArrayTaskLimit", "BeginTime", "Cleaning"),
    *("Prolog", "Licenses"),
}
"""Reasons to wait that go away by themselves."""


@dataclass(frozen=True)
class Seen:
    """What the queue says of a job.

    Attributes:
        state: Such as `PENDING`, `RUNNING`, `COMPLETING`.
        reason: Why it waits, in SLURM's word.
    """

    state: str
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.state == "PENDING"

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for something that people have to look at."""
        return self.waits and self.reason not in _ORDINARY


def require_commands() -> None:
    """Makes sure that there is a cluster to talk to.

    Raises:
        ConfigurationError: SLURM's commands are not on this machine.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise ConfigurationError(
            f"--launcher slurm needs SLURM's command {missing[0]}, which is not on this machine: "
            "start zbench on a login node of the cluster, or use --launcher local."
        )


class Queue:
    """The jobs of one run folder in the cluster's queue.

    Attributes:
        name: The name that they all have.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def look(self) -> dict[str, Seen] | None:
        """Job -> what the queue says, for those that wait or run; None where the cluster does not answer."""
        command = ("squeue", "--noheader", "--array", f"--name={self.name}", "--format=%i|%T|%r")
        lines = _output(command)
        if lines is None:
            return None
        rows = (line.split("|", 2) for line in lines.splitlines() if line.count("|") >= 2)
        return {number.strip(): Seen(state.strip(), reason.strip()) for number, state, reason in rows}

    def end_of(self, number: str) -> tuple[str, str]:
        """State and reason of a job that is not in the queue; empty once the cluster has forgotten it."""
        text = _output(("scontrol", "--oneliner", "show", "job", number)) or ""
        state, reason = (re.search(rf"\b{name}=(\S+)", text) for name in ("JobState", "Reason"))
        return state[1] if state else "", reason[1] if reason else ""

    def withdraw(self, numbers: Collection[str]) -> None:
        """Takes jobs that have not begun out of the queue."""
        self._cancel(numbers, "--state=PENDING")

    def ask(self, numbers: Collection[str]) -> None:
        """Sends SIGTERM to the cells of running jobs, and nothing after it."""
        self._cancel(numbers, "--signal=TERM", "--state=RUNNING")

    def end(self, numbers: Collection[str]) -> None:
        """Ends jobs now."""
        self._cancel(numbers)
        self._cancel(numbers, "--signal=KILL", "--full")

    def _cancel(self, numbers: Collection[str], *options: str) -> None:
        for some in _portions(sorted(numbers), _AT_ONCE):
            _output(("scancel", "--quiet", *options, *some))


def largest_array() -> int:
    """How many jobs one array may have on this cluster."""
    found = re.search(
        r"^MaxArraySize\s*=\s*(\d+)", _output(("scontrol", "show", "config")) or "", re.MULTILINE
    )
    return max(1, int(found[1])) if found else _USUAL_ARRAY


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _portions(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
