"""The fork server's own process: imports what cells need, once, and then forks one process for each cell.

It imports and nothing more: a process in which torch's threads have run, or CUDA has started, must not fork.
What its run asks for, and what becomes of the cells, goes over one socket, a JSON object a line:

- to it: `start` (`job`, `file`, `environment`, `path`, `folder`), `signal` (`job`, `number`, `group`),
  `count`;
- from it: `ready`, `started` (`job`, `pid`), `ended` (`job`, `status` as of `os.waitpid`, `word`: the cell's
  `Outcome`, None where it had no time for one), `failed` (`job`, `message`: it could not be forked),
  `counted` (`devices`).

It ends, with all cells and what they have started, when the other end of the socket is closed: when its run
is over, in whatever way.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from zbench.runner.launchers.base import BROKEN
from zbench.runner.launchers.death import adopt_orphans, die_with, live_on
from zbench.runner.launchers.devices import count_cuda
from zbench.runner.launchers.entry import outcome_of

_ROOMS = ("model", "edits", "training", "metrics", "detectors", "stages", "attacks", "runner")
"""Packages of zbench that cells use; their modules bring the libraries with them."""

_LIBRARIES = (
    "open_clip",
    "pandas",
    "pyarrow.parquet",
    "statsmodels.stats.contingency_tables",
    "statsmodels.stats.proportion",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
)
"""Libraries that zbench imports only where they are needed."""

_LAZY = {
    "diffusers": ("ZImagePipeline", "AutoencoderKL", "FlowMatchEulerDiscreteScheduler"),
    "transformers": ("Qwen3Model", "PreTrainedTokenizerFast"),
}
"""Classes that libraries import only when a saved model names them."""

_READ = 1 << 16
_LONGEST = 4096
"""Characters of a message: a pipe that nobody reads yet holds so much."""


def main(descriptor: int, parent: int) -> None:
    """Serves until the other end is closed.

    Args:
        descriptor: The socket.
        parent: Process id of the run.
    """
    die_with(parent)  # nobody listens to the socket during the imports
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    preload()
    live_on()
    adopt_orphans()
    try:
        Server(connection).serve()
    finally:
        os._exit(0)  # at once: there is nothing to tidy up, and libraries have much to say at their end


def preload() -> None:
    """Imports what cells need; what cannot be imported is left to the cell that wants it."""
    for name in _modules():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for library, names in _LAZY.items():
        for name in names:
            with contextlib.suppress(Exception):
                getattr(importlib.import_module(library), name)
    gc.collect()
    gc.freeze()  # a collection in a cell would otherwise copy every page of what is shared


def _modules() -> Iterator[str]:
    for room in _ROOMS:
        package = importlib.import_module(f"zbench.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield module.name
    yield from _LIBRARIES


@dataclass
class _Child:
    """A process of a cell.

    Attributes:
        job: The run's name of it.
        word: Where it leaves its outcome: what it could write to a full disk would be lost.
    """

    job: str
    word: int


class Server:
    """Forks, signals and buries cells.

    Attributes:
        children: Process id -> cell.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.children: dict[int, _Child] = {}
        self._unread = b""
        self._woken, self._wakes = os.pipe()

    def serve(self) -> None:
        """Works until the run is gone; then ends every cell."""
        for end in (self._woken, self._wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        try:
            self._send({"is": "ready"})
            self._listen()
        finally:
            for pid in self.children:
                self._kill(pid, signal.SIGKILL, group=True)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._woken in ready:
                    os.read(self._woken, _READ)
                    self._bury()
                if self.connection in ready and not self._hear():
                    return

    def _hear(self) -> bool:
        """Does what is asked; False when nobody is there to ask any more."""
        data = self.connection.recv(_READ)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            getattr(self, f"_do_{message.pop('do')}")(**message)
        return bool(data)

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next read says that it is over
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    # What is asked --------------------------------------------------------------------------------------

    def _do_start(self, job: str, **cell: Any) -> None:
        reading, writing = os.pipe()
        try:
            pid = self._forked(lambda: _cell(writing, **cell))
        except OSError as error:
            os.close(reading)
            self._send({"is": "failed", "job": job, "message": error.strerror or str(error)})
        else:
            self.children[pid] = _Child(job, reading)
            self._send({"is": "started", "job": job, "pid": pid})
        finally:
            os.close(writing)

    def _do_signal(self, job: str, number: int, group: bool) -> None:
        for pid, child in self.children.items():
            if child.job == job:
                self._kill(pid, number, group)

    def _do_count(self) -> None:
        """Counts the CUDA devices in a process of its own: one that has started CUDA must not fork."""
        reading, writing = os.pipe()
        pid = self._forked(lambda: _count(writing))
        os.close(writing)
        os.waitpid(pid, 0)
        self._send({"is": "counted", "devices": int(_emptied(reading) or 0)})

    def _forked(self, work: Callable[[], int]) -> int:
        """A child that does the work and ends with its exit code, in a process group of its own."""
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            self._become(work, parent)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # by whichever of the two comes first
        return pid

    # What becomes of it ---------------------------------------------------------------------------------

    def _become(self, work: Callable[[], int], parent: int) -> NoReturn:
        """The rest of a child's life."""
        code = BROKEN
        try:
            os.setpgid(0, 0)
            self._let_go()
            die_with(parent)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _let_go(self) -> None:
        """What is the server's alone: its end must be seen while its children live."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self.connection.close()
        for descriptor in (self._woken, self._wakes, *(child.word for child in self.children.values())):
            os.close(descriptor)

    def _bury(self) -> None:
        """Reports the dead and ends what they started, while their number is still theirs."""
        while (dead := _dead()) is not None:
            pid, status = dead
            child = self.children.pop(pid, None)
            if child is not None:
                self._kill(pid, signal.SIGKILL, group=True)
            if status is None:
                _, status = os.waitpid(pid, 0)
            if child is not None:
                word = _emptied(child.word)
                told = json.loads(word) if word else None
                self._send({"is": "ended", "job": child.job, "status": status, "word": told})

    def _kill(self, pid: int, number: int, group: bool) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if group else os.kill)(pid, number)


def _dead() -> tuple[int, int | None] | None:
    """A child that is over, and its status; None for that where it is still to be waited for."""
    try:
        if not hasattr(os, "waitid"):  # macOS, where its number may be given away a moment too early
            pid, status = os.waitpid(-1, os.WNOHANG)
            return (pid, status) if pid else None
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else (found.si_pid, None)


def _emptied(reading: int) -> bytes:
    """What is in a pipe now; it is closed."""
    os.set_blocking(reading, False)
    try:
        return os.read(reading, _READ)
    except BlockingIOError:
        return b""
    finally:
        os.close(reading)


def _count(word: int) -> int:
    os.write(word, str(count_cuda()).encode())
    return 0


def _cell(word: int, file: str, environment: dict[str, str], path: list[str], folder: str) -> int:
    """One cell, in the surroundings of its run, which may have changed since the server began."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    importlib.invalidate_caches()
    with contextlib.suppress(OSError):  # a folder that was removed: nothing in a spec is relative to it
        os.chdir(folder)
    outcome = outcome_of(Path(file))
    told = replace(outcome, message=outcome.message[:_LONGEST])
    os.write(word, json.dumps(asdict(told)).encode())
    return outcome.code
