"""Time and memory of a command with all of its processes, read while it runs."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_EVERY = 1.0
"""Seconds between two looks; each walks through all pages of the processes."""


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        status: Its exit status.
        seconds: Wall time.
        processor_seconds: Of all its processes together.
        resident: Peak of the memory of all its processes together, in bytes; shared pages count once, mapped
            files as far as they are in memory.
        anonymous: The part of it, at its own peak, that cannot be dropped and read again from a file.
    """

    status: int
    seconds: float
    processor_seconds: float
    resident: int
    anonymous: int

    def __str__(self) -> str:
        peaks = f"{self.resident / 1e9:.1f} GB resident, {self.anonymous / 1e9:.1f} GB of it not files"
        return f"{self.seconds:.0f} s, {self.processor_seconds:.0f} s of processors, peak {peaks}"


def measured(command: Sequence[str], log: Path | None = None) -> Measured:
    """Runs a command to its end and looks at its memory all the while.

    Args:
        command: Program and arguments.
        log: Where what it prints goes; to this process's own output where None.
    """
    start, used = time.perf_counter(), _used()
    output = None if log is None else log.open("wb")
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT if output else None)
    resident = anonymous = 0
    while process.poll() is None:
        now = _memory(process.pid)
        resident, anonymous = max(resident, now[0]), max(anonymous, now[1])
        time.sleep(_EVERY)
    seconds = time.perf_counter() - start
    return Measured(process.returncode, seconds, _used() - used, resident, anonymous)


def _used() -> float:
    """Processor time of all children that ended, and of their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory(pid: int) -> tuple[int, int]:
    """Proportional shares of a process and its descendants, in bytes: all, and anonymous."""
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0, 0
    shares = [_shares(each.pid) for each in processes]
    return sum(share[0] for share in shares), sum(share[1] for share in shares)


def _shares(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0  # it ended just now
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return values["Pss"], values["Pss_Anon"]
