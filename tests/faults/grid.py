"""The smallest grid that has every kind of stage, methods that misbehave, and what to compare of two runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zbench.config import RunConfig
from zbench.locks import is_held
from zbench.runner.grid import Grid
from zbench.runner.launchers.base import Ended, Job
from zbench.runner.launchers.settings import Launch
from zbench.runner.running import GridResult, run_grid
from zbench.store import DONE, LOCKS, PARTIAL, WRITING, read_json

METHODS = '''
"""One method that works in several steps, and methods that do what methods should not."""

import ctypes
import os
import sys
import threading
import time

import torch

from zbench.edits import DeltaEdit
from zbench.erasure import Cost, Erasure
from zbench.method import Method, MethodCard

CARD = MethodCard(title="Fade", paper="none", arxiv="", reference_code_licence="none released", rows="text",
                  weights="one projection", needs_training=True, needs_pictures=False)
PATH = "layers.0.attention.to_v"


class Fade(Method):
    """Fits a small update of one projection, step by step."""

    name = "fade"
    card = CARD
    presets = {}
    steps: int = 6
    size: float = 0.5

    def before(self):
        """What goes wrong."""

    def erase(self, model, concept, *, progress=None):
        self.before()
        weight = model.transformer.get_submodule(PATH).weight.detach()
        generator = torch.Generator().manual_seed(self.training_seed)
        delta = torch.randn(weight.shape, generator=generator).mul_(0.01).requires_grad_()
        optimiser = torch.optim.SGD([delta], lr=0.1)
        trace = []
        for step in range(self.steps):
            inputs = torch.randn(64, weight.shape[1], generator=generator)
            loss = ((inputs @ (weight + delta).T - self.size * inputs @ weight.T) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            trace.append({"step": float(step), "loss": float(loss.detach())})
            if progress is not None:
                progress(step + 1, self.steps)
        edit = DeltaEdit({PATH: delta.detach()})
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), Cost(seconds=1.0), trace)


class Hangs(Fade):
    """Waits for what never comes."""

    name = "hangs"

    def before(self):
        threading.Event().wait()


class Crashes(Fade):
    """Reads where nothing is."""

    name = "crashes"

    def before(self):
        ctypes.string_at(0)


class Floods(Fade):
    """Prints more than anybody reads, from Python, from C, and past both."""

    name = "floods"

    def before(self):
        print("the beginning of the flood")
        line = "a line of the flood, %d\\n"
        for number in range(200_000):
            print(line % number, end="")
        sys.stdout.flush()
        os.write(2, b"straight to the descriptor\\n" * 100_000)
        ctypes.CDLL(None).puts(b"printed by C")
        ctypes.CDLL(None).fflush(None)


class Greedy(Fade):
    """Wants more memory than the process may have."""

    name = "greedy"

    def before(self):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 36, resource.RLIM_INFINITY))
        torch.empty(1 << 40, dtype=torch.uint8)


class Tight(Fade):
    """Works, and leaves the process little memory for what follows."""

    name = "tight"
    room: int = 0

    def erase(self, model, concept, *, progress=None):
        import resource

        erasure = super().erase(model, concept, progress=progress)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + self.room
        if self.room:
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        return erasure


class Killed(Fade):
    """Ends its own process, as the system does where memory runs out."""

    name = "killed"

    def before(self):
        os.kill(os.getpid(), 9)


class Slow(Fade):
    """Takes its time, and says so at every step."""

    name = "slow"
    pause: float = 0.2

    def erase(self, model, concept, *, progress=None):
        for number in range(self.steps):
            time.sleep(self.pause)
            if progress is not None:
                progress(number, self.steps)
        return super().erase(model, concept)
'''


@dataclass(frozen=True)
class World:
    """Where a grid is run.

    Attributes:
        folder: Room for run folders.
        model: A saved random pipeline.
        plugin: The methods above.
    """

    folder: Path
    model: Path
    plugin: Path

    @classmethod
    def at(cls, folder: Path) -> World:
        """Saves the model and writes the methods."""
        from tests.tiny import save_smallest_pipeline  # a run as a program does without its libraries

        plugin = folder / "methods.py"
        plugin.write_text(METHODS)
        return cls(folder, save_smallest_pipeline(folder / "model"), plugin)

    def config(self, out: Path, methods: Sequence[str] = ("fade",), **more: Any) -> RunConfig:
        """A run whose cells take a second or two: two sets of two prompts, pictures of 32 x 48."""
        fields: dict[str, Any] = {
            "methods": tuple(methods), "plugins": (self.plugin,), "concept": "nudity", "out": out,
            "model": str(self.model), "protocol": "tuning", "prompts": 2, "steps": 2, "batch_size": 1,
        }  # fmt: skip
        return RunConfig.create({**fields, **more})

    def grid(
        self, out: Path, methods: Sequence[str] = ("fade",), launch: Launch | None = None, **more: Any
    ) -> Grid:
        """The same through the local launcher, on the CPU."""
        launch = launch or Launch(devices=("cpu",))
        return Grid(runs=(self.config(out, methods, **more),), launch=launch)


# Running --------------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """A board, and a reporter's lines, that keep what they were told.

    Attributes:
        lines: What was said.
        events: (cell's label, event).
        ends: How processes ended.
    """

    lines: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)

    def started(self, job: Job, device: str) -> None:
        """Keeps nothing: the cell's own first event says it."""

    def event(self, job: Job, event: dict[str, Any]) -> None:
        self.events.append((job.label, event))
        if event["kind"] == "say":
            self.lines.append(event["line"])

    def ended(self, ended: Ended) -> None:
        self.ends.append(ended)

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def stage(self, label: str) -> Iterator[Any]:
        yield lambda done, total: None

    @contextmanager
    def opened(self, root: Path, outlook: Any) -> Iterator[Notes]:
        """Opens a board."""
        yield self

    @property
    def stages(self) -> list[str]:
        """Labels of the stages that were begun, in order."""
        return [event["label"] for _, event in self.events if event["kind"] == "stage"]

    @property
    def how(self) -> list[str]:
        """How processes ended."""
        return [ended.how for ended in self.ends]


def run_noted(grid: Grid) -> tuple[GridResult, Notes]:
    """Runs a grid in this process (its cells have their own), and what was told of it."""
    notes = Notes()
    return run_grid(grid, reporter=notes, open_board=notes.opened), notes  # type: ignore[arg-type]


# Comparing ------------------------------------------------------------------------------------------------


def products(root: Path) -> dict[str, str]:
    """What must be the same bytes however a grid came to its end: tables, evidence, pictures, adapters."""
    patterns = (
        *("table.csv", "attacks.csv", "cells/*/samples.parquet", "samples/*/manifest.json"),
        *("samples/*/pictures/*.png", "erasures/*/edit/*", "scores/*/*.parquet", "attacks/*/*.jsonl"),
    )
    found = sorted(path for pattern in patterns for path in root.glob(pattern))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def finished_stages(root: Path) -> dict[str, tuple[int, int]]:
    """Stage folder -> when and as what it was put in place, of all that are complete."""
    found = {}
    for path in root.glob(f"*/*/{DONE}"):
        kind = path.parent.parent.name
        if kind not in ("cells", "reports") and not path.parent.name.startswith((WRITING, PARTIAL)):
            status = os.stat(path)
            found[f"{kind}/{path.parent.name}"] = (status.st_ino, status.st_mtime_ns)
    return found


def left_behind(root: Path) -> list[str]:
    """What no finished run leaves: half-written files and folders, partial stages, locks that are held.

    The file of a lock that nobody holds may stay until the next run: the process may have been dying still
    when this one looked.
    """
    names = [path for path in root.rglob("*") if path.name.startswith((WRITING, PARTIAL))]
    held = [path for path in root.glob(f"{LOCKS}/*") if is_held(path)]
    return [str(path.relative_to(root)) for path in (*names, *held)]


def statuses(result: GridResult) -> dict[str, str]:
    """Label of a cell -> how it stands."""
    return {end.label: end.status for end in result.ends}


def reason_of(root: Path, label: str) -> str:
    """Why a cell failed, from its result."""
    results = [read_json(path) for path in root.glob("cells/*/result.json")]
    [error] = [each["error"] for each in results if _label(each) == label]
    return str(error)


def _label(result: dict[str, Any]) -> str:
    spec = result["spec"]
    seed = spec["hyperparameters"].get("training_seed")
    return spec["method"] if seed is None else f"{spec['method']} s{seed}"
