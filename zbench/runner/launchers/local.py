"""Cells on this machine: each in a process of its own, as many at a time as there are devices.

A cell that dies takes nothing with it; a device that goes away gives its cell to another; the death of the
fork server, which takes the cells that run with it, costs what these had not written yet.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError, ZbenchError
from zbench.locks import is_held
from zbench.runner.following import Follower
from zbench.runner.launchers.base import DEVICE_LOST, DONE, FAILED, REFUSED, STOPPED, Board, Ended, How, Job
from zbench.runner.launchers.death import obituary
from zbench.runner.launchers.devices import Token, absent, tokens
from zbench.runner.launchers.fork_server import ServerDiedError, give_back, lease
from zbench.runner.launchers.logs import last_lines
from zbench.runner.launchers.settings import Launch
from zbench.runner.launchers.spec_file import SpecFile
from zbench.runner.launchers.stopping import StopFlag, handling

if TYPE_CHECKING:
    from zbench.store import Store

_TICK = 0.1
"""Seconds between two looks at event files, time limits and signals; the end of a cell is heard at once."""

_GRACE = 5.0
"""Seconds between the signal that shows where a cell hangs and the one that nothing survives."""

_PATIENCE = 30.0
"""Seconds to wait for the end of cells that were killed; a file system that hangs may keep them."""

_RESTARTS = 1
"""How often a cell is started again that died with the fork server."""

_FALSE_STARTS = 2
"""Fork servers that may die at their imports before it is said that there will be none."""


class Local:
    """Runs jobs on this machine's devices.

    Attributes:
        launch: Devices, workers and limits.
        stop: Set by Ctrl-C and SIGTERM while it runs, or by anybody: once to let running cells stop where
            nothing is half written, twice to end them now.
    """

    def __init__(self, launch: Launch, stop: StopFlag | None = None) -> None:
        self.launch = launch
        self.stop = StopFlag() if stop is None else stop

    def run(self, jobs: Sequence[Job], store: Store, board: Board) -> Generator[Ended, None, None]:
        """Runs every job and yields each once its process is over; see `Launcher.run`.

        Jobs that were not started, because it was asked to stop or a cell was refused, are not yielded.

        Raises:
            ConfigurationError: A device that there cannot be, or a system without processes that fork.
            ZbenchError: No process can be started at all.
        """
        if not jobs:
            return
        if not hasattr(os, "fork"):
            raise ConfigurationError("This system cannot fork processes: run with --launcher inline.")
        with handling(self.stop):
            shift = _Shift(self.launch, self.stop, jobs, store, board)
            try:
                yield from shift.work()
            finally:
                shift.close()


@dataclass
class _Waiting:
    job: Job
    restarts: int = 0


@dataclass
class _Running:
    """A job at work.

    Attributes:
        waiting: The job, as it goes back to the queue.
        token: Where it runs.
        follower: Reads its events.
        since: When it was started, on a monotonic clock; moved on while it waits for another process.
        pid: Its process, 0 until it is known.
        asked: Why it was asked to end; empty where it was not.
        asked_at: When.
        idle: Whether it waits for another process.
    """

    waiting: _Waiting
    token: Token
    follower: Follower
    since: float
    pid: int = 0
    asked: How | None = None
    asked_at: float = 0.0
    idle: bool = False

    @property
    def job(self) -> Job:
        return self.waiting.job


class _Shift:
    """One call of `Local.run`."""

    def __init__(
        self, launch: Launch, stop: StopFlag, jobs: Sequence[Job], store: Store, board: Board
    ) -> None:
        self.launch, self.stop, self.store, self.board = launch, stop, store, board
        first = sorted(jobs, key=lambda job: not job.original)  # the others need its pictures; a stable order
        self.queue = deque(_Waiting(job) for job in first)
        self.running: dict[str, _Running] = {}
        self.over: list[Ended] = []
        self.closing = False
        self._tickets, self._stops_seen, self._looked = count(), 0, time.monotonic()
        self._false_starts = 0
        self.server = lease()
        self.free: list[Token] = []

    def work(self) -> Iterator[Ended]:
        """Until every job is over, or those that run when no other may be started."""
        self.free = self._tokens()
        while self.running or (self.queue and not self.closing):
            self._fill()
            self._hear()
            self._follow()
            self._limit()
            self._mind_stop()
            over, self.over = self.over, []
            for ended in over:
                self.board.ended(ended)
                yield ended

    def _tokens(self) -> list[Token]:
        wanted = sorted({each.job.spec.device for each in self.queue if each.job.spec.device})
        if len(wanted) > 1:
            raise ConfigurationError(f"The cells want several devices ({', '.join(wanted)}): give --devices.")
        names = list(self.launch.devices) or wanted
        if names and all(name == "cpu" for name in names):
            return tokens(names, self.launch.workers)
        found = self._cuda_devices()
        names = names or [str(number) for number in range(found)] or ["cpu"]
        return tokens(self._present(names, found), self.launch.workers)

    def _present(self, names: list[str], found: int) -> list[str]:
        gone = absent(names, found)
        if len(gone) == len(names) and not self.stop:
            raise ConfigurationError(
                f"--devices {','.join(names)}: CUDA devices here: {found}; choose among them, or cpu."
            )
        for name in gone:
            self.board.say(f"The CUDA device {name} is not there, and is not used.")
        return [name for name in names if name not in gone]

    def _cuda_devices(self) -> int:
        """Counts them in a process that may start CUDA; 0 where it was asked to stop meanwhile."""
        self._ask(self.server.ask_count)
        while not self.stop:
            try:
                for message in self.server.messages(_TICK):
                    return int(message["devices"])
            except ServerDiedError as error:
                self._server_died(error)
                self._ask(self.server.ask_count)
        return 0

    def close(self) -> None:
        """Ends what still runs, and waits until it has; an idle server is kept for the next run."""
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(ServerDiedError):
            for ticket in self.running:
                self.server.signal(ticket, signal.SIGKILL, group=True)
            while self.running and time.monotonic() < deadline:
                for message in self.server.messages(_TICK):
                    if message["is"] in ("ended", "failed"):
                        self.running.pop(message["job"], None)
        if self.running or not self.server.ready:
            self.server.close()
        else:
            give_back(self.server)

    # Starting ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self.queue and self.free and not self.closing and not self.stop:
            self._start(self.queue.popleft(), self.free.pop(0))

    def _start(self, waiting: _Waiting, token: Token) -> None:
        root, job, ticket = self.store.root, waiting.job, f"{next(self._tickets)}"
        file = SpecFile.of(job, root, self.launch.log_limit, token.device, token.threads).write()
        follower = Follower(job.events(root))
        if not is_held(follower.path):
            follower.new()  # what an earlier process told
        self.running[ticket] = _Running(waiting, token, follower, time.monotonic())
        self.board.started(job, token.name)
        self._ask(lambda: self.server.start(ticket, file, token.environment))

    def _ask(self, request: Callable[[], None]) -> None:
        try:
            request()
        except ServerDiedError as error:
            self._server_died(error)

    # What became of them ----------------------------------------------------------------------------------

    def _hear(self) -> None:
        try:
            messages = self.server.messages(_TICK)
        except ServerDiedError as error:
            self._server_died(error)
            return
        self._false_starts = 0 if self.server.ready else self._false_starts
        for message in messages:
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        running = self.running[message["job"]]
        if message["is"] == "started":
            running.pid = message["pid"]
            return
        del self.running[message["job"]]
        self._follow_one(running)
        if message["is"] == "failed":
            self._release(running)
            self._end(running, "died", f"its process could not be started: {message['message']}")
        else:
            self._judge(running, message["status"], message["word"])

    def _judge(self, running: _Running, status: int, word: dict[str, Any] | None) -> None:
        """What the end of a process means; only one that left a word ended as it should."""
        code, text = (word["code"], word["message"]) if word else (None, "")
        if code == DEVICE_LOST:
            self._device_lost(running, text)
            return
        self._release(running)
        if code in (DONE, FAILED):
            self._end(running, "finished")
        elif running.asked == "timed out":
            self._end(running, "timed out", self._too_long(running))
        elif running.asked == "stopped" or code == STOPPED:
            self._end(running, "stopped")
        elif code == REFUSED:
            self.closing = True
            self._end(running, "refused", text)
        else:
            self._end(running, "died", self._obituary(running, status, text))

    def _release(self, running: _Running) -> None:
        self.free.append(running.token)

    def _end(self, running: _Running, how: How, message: str = "") -> None:
        self.over.append(Ended(running.job, how, message))

    def _obituary(self, running: _Running, status: int, text: str) -> str:
        log = running.job.log(self.store.root)
        if text:
            return f"it broke down before its result was written ({text}); its log is {log}"
        return obituary(status, last_lines(log), log)

    def _too_long(self, running: _Running) -> str:
        log = running.job.log(self.store.root)
        limit = f"{self.launch.time_limit or 0.0:g}"
        return (
            f"it was ended after {limit} s, its time limit; if it was not hanging, give more with"
            f" --time-limit; its log, with the place where it was, is {log}"
        )

    def _device_lost(self, running: _Running, reason: str) -> None:
        """Retires the device; the job is for another one, where there is any."""
        name = running.token.name
        self.free = [token for token in self.free if token.name != name]
        others = [each.token for each in self.running.values() if each.token.name != name]
        if self.free or others:
            self.board.say(
                f"{name} is not used any more ({reason}): {running.job.label} goes to another one."
            )
            self.queue.appendleft(running.waiting)
            return
        self.closing = True
        message = f"{name} is lost ({reason}) and no device is left; mend it, or choose with --devices"
        self._end(running, "died", f"{message}, and run again.")

    def _server_died(self, error: ServerDiedError) -> None:
        """Begins a new server; cells that died with the old one are started again, each once."""
        self._false_starts += not self.server.ready
        if self._false_starts >= _FALSE_STARTS:
            raise ZbenchError(f"{error} No cell can be started: repair the installation.") from error
        lost, self.running = list(self.running.values()), {}
        self.board.say(f"{error} {len(lost)} cells ended with it; a new one is begun.")
        for running in lost:
            self._release(running)
            _end_group(running.pid)
        for running in reversed(lost):
            self._again(running)
        self.server.close()
        self.server = lease()

    def _again(self, running: _Running) -> None:
        if running.asked is not None:
            self._end(running, running.asked)
        elif running.waiting.restarts < _RESTARTS:
            self.queue.appendleft(_Waiting(running.job, running.waiting.restarts + 1))
        else:
            self._end(running, "died", "the process that starts cells was killed twice with it running")

    # Meanwhile --------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        for running in self.running.values():
            self._follow_one(running)

    def _follow_one(self, running: _Running) -> None:
        for event in running.follower.new():
            running.idle = event["kind"] == "waiting"
            self.board.event(running.job, event)

    def _limit(self) -> None:
        """Ends cells that take too long; waiting for another process is not counted."""
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for ticket, running in list(self.running.items()):
            running.since += elapsed if running.idle else 0.0
            if running.asked == "timed out":
                if now - running.asked_at > _GRACE:
                    self._signal(ticket, signal.SIGKILL, group=True)
            elif self.launch.time_limit is not None and now - running.since > self.launch.time_limit:
                self._ask_to_end(ticket, running, "timed out", signal.SIGABRT)

    def _mind_stop(self) -> None:
        if self.stop.times == self._stops_seen:
            return
        self._stops_seen, self.closing = self.stop.times, True
        if not self.server.ready:
            self._never_began()
        now = self._stops_seen > 1
        if self.running:
            stopping = "Stopping: running cells finish their step; Ctrl-C again ends them now."
            self.board.say("Ending the running cells now." if now else stopping)
        for ticket, running in list(self.running.items()):
            self._ask_to_end(ticket, running, "stopped", signal.SIGKILL if now else signal.SIGTERM)

    def _never_began(self) -> None:
        """A server that is still at its imports has forked no cell yet, and need not be waited for."""
        lost, self.running = list(self.running.values()), {}
        for running in lost:
            self._end(running, "stopped")
        self.server.close()

    def _ask_to_end(self, ticket: str, running: _Running, why: How, number: int) -> None:
        running.asked, running.asked_at = running.asked or why, time.monotonic()
        self._signal(ticket, number, group=number == signal.SIGKILL)

    def _signal(self, ticket: str, number: int, group: bool) -> None:
        self._ask(lambda: self.server.signal(ticket, number, group))


def _end_group(pid: int) -> None:
    """Ends what a cell has started, which does not die with the fork server by itself."""
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
