"""Processes that die together, and what the death of one says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

_DEATH_SIGNAL, _SUBREAPER = 1, 36
"""Names of Linux's settings, from its sys/prctl.h."""

_LOOK_EVERY = 0.5
"""Seconds between two looks at the parent, on systems that do not tell of its death."""

_HINTS = {
    "SIGKILL": "the system may have run out of memory (`dmesg` says so): give the cell more, or a smaller"
    " --batch-size",
    "SIGSEGV": "it crashed in native code: the log shows where",
    "SIGBUS": "it lost a file that it had in memory: the disk may be full",
    "SIGABRT": "a library gave up: the log shows which",
    "SIGILL": "this processor lacks an instruction that a package was built with",
    "SIGTERM": "somebody ended it",
    "SIGXCPU": "it reached this machine's limit of processor time (`ulimit -t`)",
    "SIGXFSZ": "it reached this machine's limit of a file's size (`ulimit -f`)",
}


def die_with(parent: int) -> None:
    """Ends this process, by SIGKILL, as soon as its parent is dead.

    Args:
        parent: Process id of the parent, as it was when this process was made.
    """
    if not _control(_DEATH_SIGNAL, signal.SIGKILL):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    elif os.getppid() != parent:  # it died before this was asked for
        os.kill(os.getpid(), signal.SIGKILL)


def live_on() -> None:
    """Takes `die_with` back where the system ends processes by itself."""
    _control(_DEATH_SIGNAL, 0)


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind, so that it can clear that away."""
    _control(_SUBREAPER, 1)


def _control(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGKILL)


def obituary(status: int, last: Sequence[str], log: object) -> str:
    """What users are told of a cell that died without a result, the cause in the last line.

    Args:
        status: As the system reports it, see `os.waitpid`.
        last: The last lines of its log.
        log: Where all of them are.
    """
    return with_words(f"{cause_of(status)}; its log is {log}", last)


def with_words(cause: str, last: Sequence[str]) -> str:
    """A cause of death below the last words: the last line of a traceback is the reason, too."""
    return "\n".join([*(f"  | {line}" for line in last), cause])


def cause_of(status: int) -> str:
    """How a process ended, as the system reports it, and what that often means."""
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return f"its process ended with exit code {code} before its result was written"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = _HINTS.get(name)
    return f"its process was ended by {name}" + (f" ({hint})" if hint else "")


def killed_by(status: int) -> int | None:
    """The signal that ended a process, None where it ended by itself."""
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
