"""Reading `results/`: every file that is a published result, and what is wrong with those that are not.

A tree is read part by part: a part is the folder of one concept, results of different parts never compare.
Ten thousand results take more memory than a small machine has; a part of them does not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from zbench.errors import StoreError
from zbench.results.each_part import each_part
from zbench.results.schema import KIND, SCHEMA_VERSION, PublishedResult
from zbench.results.upgrade import Unreadable, is_current, upgraded
from zbench.store import sha256_bytes

RESERVED = frozenset({"studies", "sweeps", "performance", "reproduction", "seasons", "tables"})
"""Folders of `results/` that hold other things than published results."""

DEPTH = 5
"""Names in a result's place: model, family, concept, method, file."""


@dataclass(frozen=True)
class Problem:
    """A file that was skipped.

    Attributes:
        path: Below the root of the tree.
        reason: What is wrong with it, in one line.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Tree:
    """What a tree, or a part of it, holds.

    Attributes:
        results: By path.
        problems: By path.
    """

    results: tuple[PublishedResult, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Part:
    """The files of one concept: what can be read, and shown, without the rest.

    Attributes:
        root: Of the tree.
        place: Folder below it, ``model/family/concept``; of files that lie elsewhere the folder they are in.
        files: Places of the files below the root, sorted.
    """

    root: Path
    place: PurePosixPath
    files: tuple[PurePosixPath, ...] = field(repr=False)

    @property
    def digest(self) -> str:
        """Hash over the places and contents of the files: equal parts are shown alike.

        Raises:
            Unreadable: A file cannot be read.
        """
        lines = (f"{sha256_bytes(_bytes(self.root / file))} {file}\n" for file in self.files)
        return sha256_bytes("".join(lines).encode())

    def read(self) -> Tree:
        """The results, and the files that are none."""
        found = [(str(file), read_file(self.root, file)) for file in self.files]
        return _without_twins(found)


def parts(root: Path | str) -> tuple[Part, ...]:
    """The parts of a tree, by place.

    Raises:
        StoreError: There is no such folder, or it holds no file that could be a result.
    """
    root = Path(root)
    grouped: dict[PurePosixPath, list[PurePosixPath]] = {}
    for file in _files(root):
        grouped.setdefault(PurePosixPath(*file.parts[:-1][: DEPTH - 2]), []).append(file)
    if not grouped:
        raise StoreError(
            f"{root} holds no published results: `zbench collect RUNS {root}` publishes the cells of a run"
            " folder."
        )
    return tuple(Part(root, place, tuple(sorted(grouped[place]))) for place in sorted(grouped))


def read_tree(root: Path | str, *, workers: int | None = None) -> Tree:
    """Reads all of a tree.

    Args:
        root: Such as ``results``.
        workers: Processes; None chooses by the number of files and processors.

    Raises:
        StoreError: There is no such folder, or it holds no file that could be a result.
    """
    found = parts(root)
    return merged(each_part(Part.read, found, workers))


def merged(trees: Iterable[Tree]) -> Tree:
    """Several trees as one; of results with one id the first by path is kept."""
    trees = list(trees)
    results = sorted((result for tree in trees for result in tree.results), key=lambda each: str(each.place))
    problems = [problem for tree in trees for problem in tree.problems]
    kept = _without_twins([(str(result.place), result) for result in results])
    return Tree(kept.results, tuple(sorted({*problems, *kept.problems}, key=str)))


def read_file(root: Path, file: PurePosixPath) -> PublishedResult | Problem:
    """Reads one result.

    Args:
        root: Of the tree.
        file: Place below it.
    """
    try:
        result = read_bytes(_bytes(root / file))
    except Unreadable as error:
        return Problem(str(file), str(error))
    if result.place != file:
        return Problem(str(file), f"its content belongs at {result.place}: move it there")
    return result


def read_bytes(content: bytes) -> PublishedResult:
    """A result from the content of its file, upgraded where it was written by an older zbench.

    Raises:
        Unreadable: It is none; says why in one line.
    """
    # The usual file is read in one go; why another cannot be is found out slowly.
    if b"NaN" not in content and b"Infinity" not in content:  # the fast reader takes them for numbers
        with contextlib.suppress(ValidationError):
            result = PublishedResult.model_validate_json(content)
            if is_current(result.schema_version, result.result.schema_version):
                return result
    record = upgraded(content)
    try:
        return PublishedResult.model_validate(record)
    except ValidationError as error:
        raise Unreadable(f"not a published result: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return " ".join((f"{place}: {reason}" if place else reason).split())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from error


def folders_of_models(root: Path) -> list[PurePosixPath]:
    """The folders of a tree in which published results stand: all at its top level but `RESERVED` ones.

    Raises:
        StoreError: There is no such tree.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise StoreError(
            f"Cannot read {root}: {error.strerror or error}; give the folder that `zbench collect` filled."
        ) from error
    return [PurePosixPath(name) for name in names if name not in RESERVED and not name.startswith(".")]


def _files(root: Path) -> Iterator[PurePosixPath]:
    """Every JSON file of a tree but those of reserved folders and those at its top level."""
    for folder in folders_of_models(root):
        yield from _below(root, folder)


def _below(root: Path, folder: PurePosixPath) -> Iterator[PurePosixPath]:
    for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, folder / entry.name)
        elif entry.name.endswith(".json"):
            yield folder / entry.name


def duplicate_of(cell: str, first: PurePosixPath) -> str:
    """Why a second result of a cell is skipped."""
    return f"a duplicate: the cell {cell} stands at {first} too"


def _without_twins(found: Iterable[tuple[str, PublishedResult | Problem]]) -> Tree:
    """Keeps the first of several results with one id."""
    results: dict[str, PublishedResult] = {}
    problems: list[Problem] = []
    for path, each in found:
        if isinstance(each, Problem):
            problems.append(each)
        elif each.id in results:
            problems.append(Problem(path, duplicate_of(each.id, results[each.id].place)))
        else:
            results[each.id] = each
    return Tree(tuple(results.values()), tuple(problems))


__all__ = ["KIND", "RESERVED", "SCHEMA_VERSION", "Part", "Problem", "Tree", "parts", "read_tree"]
