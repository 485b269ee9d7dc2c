"""Watching what a method reads and writes: files through Python's audit events, and zbench's own catalogues.

Some libraries open files outside Python; their functions are watched by name. A method that sets out to hide
what it reads can do so: this finds mistakes, and no malice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

from zbench.registry import DETECTORS

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate", "os.rmdir")
_NO_FILES = ("/proc/", "/dev/", "/sys/")

_UNAUDITED = {
    "safetensors.safe_open": "read",
    "safetensors.torch.safe_open": "read",
    "safetensors.torch.serialize_file": "write",
    "torch.save": "write",
}
"""Functions that open files outside Python, and what they do to them."""


@dataclass
class Watch:
    """What was read, written and asked for, in order.

    Attributes:
        read: Absolute paths.
        written: Absolute paths of what was written, made, moved or removed.
        prompt_sets: Names of prompt sets.
        detectors: Names of detectors.
    """

    read: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    prompt_sets: list[str] = field(default_factory=list)
    detectors: list[str] = field(default_factory=list)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Takes down one audit event."""
        if event == "open":
            self._note_open(*arguments)
        elif event in _CHANGING:
            self._note_path(self.written, arguments[0])
        elif event == "zbench.prompt_set":
            self.prompt_sets.append(str(arguments[0]))
        elif event == "zbench.load" and arguments[0] == DETECTORS:
            self.detectors.append(str(arguments[1]))

    def _note_open(self, path: Any, mode: str | None, flags: int) -> None:
        writes = any(letter in mode for letter in "wax+") if mode else bool(flags & _WRITING)
        self._note_path(self.written if writes else self.read, path)

    def _note_path(self, paths: list[str], path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            name = os.path.abspath(os.fsdecode(path))
            # Compiled modules are Python's own affair, and devices are no files.
            if "__pycache__" not in name and not name.startswith(_NO_FILES):
                paths.append(name)

    def call(self, kind: str, arguments: tuple[Any, ...]) -> None:
        """Takes down the call of a function that opens files outside Python."""
        for argument in arguments:
            self._note_path(self.read if kind == "read" else self.written, argument)


_active: list[Watch] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for watch in _active:
        watch.note(event, arguments)


_listening: list[bool] = []


@contextmanager
def watching() -> Iterator[Watch]:
    """Takes down what happens inside a `with` block."""
    if not _listening:
        sys.addaudithook(_hear)  # cannot be taken off again, and costs next to nothing while nobody watches
        _listening.append(True)
    watch = Watch()
    with ExitStack() as stack:
        for name, kind in _UNAUDITED.items():
            stack.enter_context(_noted(watch, name, kind))
        _active.append(watch)
        try:
            yield watch
        finally:
            _active.remove(watch)


def _noted(watch: Watch, name: str, kind: str) -> Any:
    home, _, function = name.rpartition(".")
    module = import_module(home)
    original: Callable[..., Any] = getattr(module, function)

    def noted(*arguments: Any, **named: Any) -> Any:
        watch.call(kind, (*arguments, *named.values()))
        return original(*arguments, **named)

    return patch.object(module, function, noted)


# What a method must not read ------------------------------------------------------------------------------


def forbidden(watch: Watch, payloads: Sequence[str] = ()) -> list[str]:
    """What a method or an attack must not have read: prompt sets, and instruments that judge it.

    Args:
        watch: What it did.
        payloads: Names of fetched sets that it may read: an attack that tries the prompts of others.
    """
    prompts = Path(str(files("zbench_prompts")))
    places = [(prompts / "sets", "prompts that measure erasures")]
    if not payloads:
        places.append((prompts / "external", "prompt sets that are fetched"))
    told = [f"the prompt set {name!r}" for name in watch.prompt_sets if name not in payloads]
    told += instruments_asked(watch) + _read_at(watch, places)
    return list(dict.fromkeys(told))


def instruments_asked(watch: Watch) -> list[str]:
    """The instruments that judge pictures and were asked for, by name or by their weights."""
    told = [f"the detector {name!r}" for name in watch.detectors]
    return list(dict.fromkeys(told + _read_at(watch, _instrument_places())))


def _read_at(watch: Watch, places: list[tuple[Path, str]]) -> list[str]:
    """What was read of some folders, or beginnings of file names, and what lies there."""
    seen = dict.fromkeys(watch.read)
    return [f"{what} ({path})" for path in seen for place, what in places if path.startswith(str(place))]


def _instrument_places() -> list[tuple[Path, str]]:
    from zbench.detectors.q16_prompts import prompts_file

    weights = Path(str(files("zbench.miniature"))) / "weights"
    return [
        (weights / "detector", "weights of a detector"),
        (weights / "clip", "weights of the CLIP model that scores"),
        (prompts_file(), "weights of a detector"),
    ]
