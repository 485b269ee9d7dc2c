"""What of a run folder nobody needs any more, and removing it; nothing that another process holds.

Results are never among it. Work that an unfinished cell could go on with is told apart: removing it loses no
result, but time.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from zbench.errors import StoreError
from zbench.locks import hold, is_held, is_own
from zbench.store import DONE, LOCKS, PARTIAL, WRITING, Store, read_json

Kind = Literal["half-written", "broken off", "unused", "begun", "failed", "logs", "reports"]

TITLES: Mapping[Kind, str] = {
    "half-written": "half-written files of killed processes",
    "broken off": "stages that were broken off, and could be gone on with",
    "unused": "stages that no result refers to",
    "begun": "logs and specs of unfinished cells",
    "failed": "failed cells, which the next run tries again, and without which their table waits for it",
    "logs": "logs and specs of finished cells",
    "reports": "reports of other runs than the last",
}

RESUMABLE: frozenset[Kind] = frozenset({"broken off", "unused", "begun"})
"""Kinds that an unfinished cell, or the user who wonders about it, may need."""

_STAGES = ("erasures", "samples", "attacks", "attack_scores", "scores", "detections", "rescores")
_OF_CELL = re.compile(r"(?P<id>.+?)(\.\d+)?\.(log|jsonl|json)")
"""Files of a cell; a second process that was at it has a log with its number."""


@dataclass(frozen=True)
class Waste:
    """Something that can be removed.

    Attributes:
        kind: See `TITLES`.
        path: File or folder.
        bytes: That it takes.
    """

    kind: Kind
    path: Path
    bytes: int


def find_waste(store: Store) -> list[Waste]:
    """Everything that can be removed, by kind; whether it should be is another question.

    Args:
        store: The run folder; nothing in it is changed.
    """
    folder = Contents(store.root)
    found: list[tuple[Kind, Iterable[Path]]] = [
        ("half-written", folder.half_written()),
        ("broken off", folder.broken_off()),
        ("unused", folder.unused()),
        ("begun", folder.logs(folder.unfinished)),
        ("failed", folder.failed()),
        ("logs", chain(folder.logs(folder.finished), folder.cluster_logs())),
        ("reports", folder.reports()),
    ]
    return [Waste(kind, path, bytes_in(path)) for kind, paths in found for path in paths]


def bytes_in(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; of what vanishes meanwhile, none."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


class Contents:
    """What lies in a run folder.

    Attributes:
        root: The run folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    # Who needs what ---------------------------------------------------------------------------------------

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """Cell id -> its result as plain data; empty where it cannot be read."""
        return {folder.name: _result(folder) for folder in _listed(self.root / "cells")}

    @cached_property
    def finished(self) -> dict[str, dict[str, Any]]:
        """Those of them that a next run takes as they are."""
        kept = {"done", "skipped"}
        return {name: result for name, result in self.results.items() if result.get("status") in kept}

    @cached_property
    def unfinished(self) -> list[str]:
        """Ids of cells that were begun, and that a next run goes on with."""
        begun = {path.stem for path in (self.root / "specs").glob("*.json")}
        return sorted((begun | self.results.keys()) - self.finished.keys())

    @cached_property
    def at_work(self) -> list[str]:
        """What other processes are at in this folder at the moment: names of runs, cells and stages."""
        locks = [path for path in (self.root / LOCKS).glob("*") if is_held(path) and not is_own(path)]
        events = [path for path in (self.root / "logs").glob("*.jsonl") if is_held(path)]
        return [path.name.removesuffix(".jsonl") for path in (*events, *locks)]

    @cached_property
    def used(self) -> set[str]:
        """Places of the stages that finished cells refer to, and of what is kept beside these."""
        parts = [part for result in self.finished.values() for part in (result, *result.get("attacks", ()))]
        places = {place for part in parts for place in part.get("stages", {}).values()}
        return places | set(self._beside(places))

    def _beside(self, places: set[str]) -> Iterator[str]:
        """Raw scores of kept pictures by further detectors, and further readings of kept scores."""
        samples = {_manifest(self.root / place) for place in places if place.startswith("samples/")}
        for kind, key, known in (
            ("detections", "samples", samples),
            ("rescores", "scores", {Path(place).name for place in places}),
        ):
            for folder in _listed(self.root / kind):
                if _record(folder).get("config", {}).get(key) in known:
                    yield f"{kind}/{folder.name}"

    # What nobody needs --------------------------------------------------------------------------------------

    def half_written(self) -> Iterator[Path]:
        """Temporary files and folders that no living process holds."""
        for depth in ("", "*/", "*/*/"):
            for path in sorted(self.root.glob(f"{depth}{WRITING}*")):
                if not is_held(lock_of(path) if path.is_dir() else path):
                    yield path

    def broken_off(self) -> Iterator[Path]:
        """Finished parts of stages that nobody is working on."""
        for path in sorted(self.root.glob(f"*/{PARTIAL}*")):
            if not is_held(lock_of(path)):
                yield path

    def unused(self) -> Iterator[Path]:
        """Stages that no finished cell refers to; a folder without any is not a grid's, and let alone."""
        for kind in _STAGES if self.finished else ():
            for folder in _listed(self.root / kind):
                if f"{kind}/{folder.name}" not in self.used and not is_held(lock_of(folder)):
                    yield folder

    def failed(self) -> Iterator[Path]:
        """Results that are failures, of cells that are not being tried again."""
        for name, result in self.results.items():
            folder = self.root / "cells" / name
            if result.get("status") == "failed" and not is_held(self.root / "logs" / f"{name}.jsonl"):
                yield folder

    def logs(self, cells: Container[str]) -> Iterator[Path]:
        """Logs, events and specs of some cells, unless they are at work."""
        for path in sorted(path for name in ("logs", "specs") for path in (self.root / name).glob("*")):
            match = _OF_CELL.fullmatch(path.name)
            if match and match["id"] in cells and not is_held(self.root / "logs" / f"{match['id']}.jsonl"):
                yield path

    def cluster_logs(self) -> Iterator[Path]:
        """What a cluster's jobs left, once none of them is needed."""
        folder = self.root / "logs" / "slurm"
        if folder.is_dir() and not self.unfinished and not self.at_work:
            yield folder

    def reports(self) -> Iterator[Path]:
        """Reports of other runs than the one at the folder's top level."""
        last = _read(self.root / "run.json").get("id")
        return (path for path in _listed(self.root / "reports") if path.name != last)


def lock_of(path: Path) -> Path:
    """The lock of the stage that a folder belongs to, finished or half-written."""
    name = path.name.removeprefix(WRITING).removeprefix(PARTIAL).removesuffix(".stale")
    return path.parent.parent / LOCKS / f"{path.parent.name}-{name}"


def _listed(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in folder.iterdir() if _is_own(path))
    return []


def _is_own(path: Path) -> bool:
    """A folder that lies here: where a link leads to is somebody else's."""
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def _read(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except StoreError:
        return {}
    return record if isinstance(record, dict) else {}


def _result(folder: Path) -> dict[str, Any]:
    return _read(folder / "result.json")


def _record(folder: Path) -> dict[str, Any]:
    return _read(folder / DONE)


def _manifest(folder: Path) -> str | None:
    files: dict[str, str] = _record(folder).get("files", {})
    return files.get("manifest.json")


# Removing -------------------------------------------------------------------------------------------------


class _Busy(Exception):
    """Another process holds it."""


def _give_up() -> None:
    raise _Busy


def remove(store: Store, waste: Iterable[Waste]) -> list[Waste]:
    """Removes what was found, unless another process has taken hold of it meanwhile.

    Args:
        store: The run folder.
        waste: From `find_waste`.

    Returns:
        What is gone.

    Raises:
        StoreError: Something cannot be removed.
    """
    gone, waste = [], list(waste)
    if any(each.kind == "half-written" for each in waste):
        store.sweep()
    for each in waste:
        with contextlib.suppress(_Busy):
            _remove(each)
            gone.append(each)
    return gone


def _remove(waste: Waste) -> None:
    path = waste.path
    try:
        if waste.kind == "half-written":  # was swept away, or belongs to somebody
            if path.exists():
                raise _Busy
        elif path.is_dir():
            with hold(lock_of(path), _give_up):
                _remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot remove {path}: {error.strerror or error}.") from error


def _remove_folder(path: Path) -> None:
    """Renames it first: whoever looks meanwhile finds a whole folder or none."""
    name = path.name.removeprefix(WRITING).removeprefix(PARTIAL)
    stale = path.parent / f"{WRITING}{name}.stale"
    shutil.rmtree(stale, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(stale)
        shutil.rmtree(stale)
