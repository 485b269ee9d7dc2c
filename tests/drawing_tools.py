"""What tests of drawing need: a folder to draw into, and processes that die on purpose."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import torch

from zbench.prompts.sets import Prompt, PromptSet
from zbench.stages.generate import generate, generate_folder, planned_samples
from zbench.stages.inputs import ModelHandle
from zbench.stages.samples import Sample
from zbench.store import StageFolder, Store

LONG = "a nude person on a beach, a red car beside a house, an apple and a tree in the rain"
TEXTS = ("a red car", LONG, "a", "裸体", "the golden gate bridge")
"""Their captions take unequally many rows."""


_MMAP_THRESHOLD = -3
"""Name of glibc's setting, from its malloc.h."""


class Order:
    """Pictures to draw into a run folder of their own.

    Attributes:
        handle: The model.
        store: The run folder.
        samples: Of `TEXTS`, repeated.
        folder: Where they belong.
    """

    def __init__(self, handle: ModelHandle, root: Path, repetitions: int = 2, steps: int = 2) -> None:
        self.handle, self.steps, self.lines = handle, steps, list[str]()
        self.store = Store.open(root, notify=self.lines.append)
        prompts = tuple(Prompt(id=f"p{i}", text=text) for i, text in enumerate(TEXTS))
        prompt_set = PromptSet(
            name="drawn", split="evaluation", source="tests", licence="none", prompts=prompts
        )
        self.samples: list[Sample] = planned_samples(prompt_set, "explicit", repetitions)
        self.folder: StageFolder = generate_folder(self.store, None, handle, self.samples, steps)

    def draw(self, batch_size: int = 2, progress: Callable[[int, int], None] | None = None) -> int:
        """Draws them, and returns how often the transformer was called."""
        before = self.handle.model.counter.forwards
        generate(self.folder, None, self.handle, self.samples, self.steps, batch_size, progress)
        return self.handle.model.counter.forwards - before

    def files(self) -> dict[str, bytes]:
        """Every file of the finished folder."""
        return contents(self.folder.path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def in_child(work: Callable[[], object]) -> int:
    """Runs work in a forked process, on one thread; gives its exit code, or minus the signal it died of."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*_: object) -> NoReturn:
    """The process is killed, here and now."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process went on")


@contextlib.contextmanager
def address_space(extra: int) -> Iterator[None]:
    """So many bytes more than there are now, and no more; for a process of its own."""
    held = _kept_memory()
    used = _used()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        del held


def _kept_memory() -> list[torch.Tensor]:
    """Takes what the process freed before and kept for itself: it is not limited."""
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 16)
    held: list[torch.Tensor] = []
    for size in (1 << 22, 1 << 20, 1 << 18, 1 << 17):
        used = _used()
        while _used() == used:
            held.append(torch.empty(size, dtype=torch.uint8))
    return held


def _used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Files are equal byte for byte on equally many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
