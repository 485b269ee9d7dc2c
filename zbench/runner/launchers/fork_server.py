"""The run's end of the fork server: starts its process, asks it for cells, and hears what became of them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zbench.errors import ZbenchError

_BEGIN = (
    "'zbench fork server'; import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from zbench.runner.launchers.serving import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_READ = 1 << 16
_PATIENCE = 2.0
"""Seconds that a server is given to end by itself."""


class ServerDiedError(ZbenchError):
    """The process that starts cells is gone, and every cell with it."""


class ForkServer:
    """A living fork server; see `zbench.runner.launchers.serving` for what is said.

    Attributes:
        pid: Its process.
        ready: Whether its imports are done.
    """

    def __init__(self) -> None:
        self.ready = False
        self._owner = os.getpid()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._unread = b""
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = self._begin(theirs.fileno())
        self.pid = self._process.pid

    def _begin(self, descriptor: int) -> subprocess.Popen[bytes]:
        # In a session of its own, Ctrl-C reaches the run alone, which decides what it means.
        words = [str(descriptor), str(os.getpid()), json.dumps(sys.path)]
        # Asking NVML whether there is a GPU starts no CUDA, whoever of the libraries asks.
        environment = {**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", _BEGIN, *words], pass_fds=[descriptor], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, env=environment,
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether its process lives, and is this process's own: a fork of the run must not share it."""
        return self._owner == os.getpid() and self._process.poll() is None

    def start(self, job: str, file: Path, environment: Mapping[str, str]) -> None:
        """Asks for a cell's process.

        Args:
            job: Names it in what follows.
            file: Its spec file.
            environment: What it finds in its environment besides what this process has in its own.

        Raises:
            ServerDiedError: The server is gone.
        """
        surroundings = {"environment": {**os.environ, **environment}, "path": sys.path, "folder": _folder()}
        self._ask({"do": "start", "job": job, "file": str(file), **surroundings})

    def signal(self, job: str, number: int, group: bool = False) -> None:
        """Sends a signal to a job's process, or to all that it has started; nothing where it is over.

        Raises:
            ServerDiedError: The server is gone.
        """
        self._ask({"do": "signal", "job": job, "number": int(number), "group": group})

    def ask_count(self) -> None:
        """Asks how many CUDA devices there are.

        Raises:
            ServerDiedError: The server is gone.
        """
        self._ask({"do": "count"})

    def messages(self, timeout: float) -> list[dict[str, Any]]:
        """What became of the jobs since the last call; waits so many seconds for the first word.

        Raises:
            ServerDiedError: The server is gone, and all that it said has been told.
        """
        deadline = time.monotonic() + timeout
        while not (messages := self._received(deadline)):
            if time.monotonic() >= deadline:
                break
        return messages

    def last_words(self) -> str:
        """The last line that it printed itself; empty where it said nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._said.seek(0)
            lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""

    def close(self) -> None:
        """Ends it with every cell that it still has; its process is gone afterwards."""
        self._connection.close()
        if self._owner == os.getpid():
            if not self.ready:
                self._process.kill()  # it is at its imports, and has no cells
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()

    def _ask(self, message: dict[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._death() from error

    def _received(self, deadline: float) -> list[dict[str, Any]]:
        """Whole messages of the next packet; that the server is ready is noted here."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return []
        try:
            data = self._connection.recv(_READ)
        except OSError as error:
            raise self._death() from error
        if not data:
            raise self._death()
        *lines, self._unread = (self._unread + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        self.ready = self.ready or any(message["is"] == "ready" for message in messages)
        return [message for message in messages if message["is"] != "ready"]

    def _death(self) -> ServerDiedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        words = self.last_words()
        return ServerDiedError(f"The process that starts cells is gone{f': {words}' if words else ''}.")


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


_idle: list[ForkServer] = []


def lease() -> ForkServer:
    """A fork server for one run alone: one that an earlier run of this process left, or a new one."""
    while _idle:
        server = _idle.pop()
        if server.alive:
            return server
        server.close()
    return ForkServer()


def give_back(server: ForkServer) -> None:
    """Keeps a server, whose cells must be over, for the next run of this process."""
    if server.alive:
        _idle.append(server)
    else:
        server.close()


@atexit.register
def forget() -> None:
    """Ends the fork servers of this process that no run uses."""
    while _idle:
        _idle.pop().close()
