"""What tests of launchers need: methods that go wrong in every way, jobs, a board that remembers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zbench.config import RunConfig
from zbench.runner.launchers.base import Ended, Job
from zbench.runner.planning import plan
from zbench.runner.workshop import Workshop
from zbench.store import Store

METHODS = '''
"""Methods that go wrong."""

import ctypes
import os
import subprocess
import sys
import time

from zbench import Method
from zbench.method import MethodCard

CARD = MethodCard(title="Wrong", paper="none", arxiv="", reference_code_licence="none released", rows="text",
                  weights="none", needs_training=False, needs_pictures=False)


class Wrong(Method):
    name = "fails"
    presets = {}
    card = CARD

    def erase(self, model, concept, *, progress=None):
        raise RuntimeError("the sky fell")


class Skips(Wrong):
    name = "skips"

    def supports(self, concept):
        return "only erases styles"


class Crashes(Wrong):
    name = "crashes"

    def erase(self, model, concept, *, progress=None):
        print("the last words", flush=True)
        ctypes.string_at(0)


class Leaves(Wrong):
    name = "leaves"

    def erase(self, model, concept, *, progress=None):
        os._exit(0)


class Hangs(Wrong):
    name = "hangs"

    def erase(self, model, concept, *, progress=None):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
        progress(1, 2)
        while True:
            time.sleep(1)


class Steps(Wrong):
    """Sixty steps of 50 ms, and then a failure; `except Exception` must not keep it from being stopped."""

    name = "steps"

    def erase(self, model, concept, *, progress=None):
        for step in range(60):
            time.sleep(0.05)
            try:
                progress(step + 1, 60)
            except Exception:
                pass
        raise RuntimeError("came to its end")


class Floods(Wrong):
    name = "floods"

    def erase(self, model, concept, *, progress=None):
        os.write(1, b"the first words\\n")
        libc = ctypes.CDLL(None)
        for number in range(200):
            os.write(2, b"x" * 99 * 1000 + b"\\n")
        libc.write(1, b"said by C\\n", 10)
        raise RuntimeError("flooded")
'''


def jobs_for(folder: Path, names: Sequence[str], **settings: Any) -> tuple[Store, list[Job]]:
    """A run folder and a job for each of the methods above."""
    plugin = folder / "wrong.py"
    plugin.write_text(METHODS)
    flags = {"methods": tuple(names), "concept": "nudity", "plugins": (plugin,), "prompts": 1, "steps": 1}
    specs = plan(RunConfig.create({**flags, "out": folder / "run", **settings}))
    store, workshop = Store.open(folder / "run"), Workshop()
    identities = workshop.identities
    jobs = [
        Job(identities.folder(spec, store).id, spec.label, spec, spec.is_original)
        for spec in specs
        if not spec.is_original
    ]
    return store, jobs


class Memory:
    """A board that remembers, and may do something about it."""

    def __init__(self, on_event: Callable[[Job, dict[str, Any]], None] | None = None) -> None:
        self.begun: list[tuple[str, str]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.over: list[Ended] = []
        self.lines: list[str] = []
        self.on_event = on_event

    def started(self, job: Job, device: str) -> None:
        self.begun.append((job.spec.method, device))

    def event(self, job: Job, event: dict[str, Any]) -> None:
        self.events.append((job.spec.method, event))
        if self.on_event is not None:
            self.on_event(job, event)

    def ended(self, ended: Ended) -> None:
        self.over.append(ended)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def pid(self, method: str) -> int:
        """The last process of a method's cell."""
        return [e["pid"] for name, e in self.events if name == method and e["kind"] == "start"][-1]


def at_first_step(deed: Callable[[], None]) -> Callable[[Job, dict[str, Any]], None]:
    """Does something once, when a cell is in the middle of its work."""
    done: list[bool] = []

    def on_event(job: Job, event: dict[str, Any]) -> None:
        if event["kind"] == "progress" and not done:
            done.append(True)
            deed()

    return on_event


def is_gone(pid: int) -> bool:
    """Whether a process is over; one that only waits to be waited for is."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether something comes true in the end; a loaded machine is given its time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def child_of(log: Path) -> int:
    """The process that the method `hangs` started, as it told."""
    assert wait_until(lambda: log.exists() and b"child " in log.read_bytes())
    words = log.read_text().split()
    return int(words[words.index("child") + 1])


def signal_self(number: int) -> Callable[[], None]:
    """Sends this process a signal, as the terminal or the system would."""
    return lambda: os.kill(os.getpid(), number)
