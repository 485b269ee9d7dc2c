"""`zbench collect`: finished cells of run folders into a tree of published results, and why others stay out.

A cell is published whole or not at all; what stands in the tree already is left as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from zbench.errors import ConfigurationError, StoreError, ZbenchError
from zbench.results.changes import heir_of
from zbench.results.checks import fault_of_pictures, faults, too_large
from zbench.results.differences import Difference, measured_otherwise
from zbench.results.evidence import RunEvidence
from zbench.results.form import to_text
from zbench.results.groups import attacked_alike, measurement_key, supersedes
from zbench.results.publish import Published, outline, publish, with_outcomes
from zbench.results.refusals import refusals
from zbench.results.same import same_measurement
from zbench.results.schema import PublishedResult
from zbench.results.tree import Problem, read_bytes, read_file
from zbench.results.upgrade import Unreadable, upgraded_cell
from zbench.results.writing import remove, write
from zbench.runner.specs import CellResult
from zbench.store import MARKER, Store, sha256_bytes

if TYPE_CHECKING:
    from zbench.results.pictures import Flagged

Tell = Callable[[str], None]

_NAMED = 3
"""Differences that are named."""


@dataclass(frozen=True)
class Refusal:
    """A cell that stays out.

    Attributes:
        cell: Its place, run folder and id.
        reasons: Each in one line.
    """

    cell: str
    reasons: tuple[str, ...]


@dataclass
class Collected:
    """What became of the cells.

    Attributes:
        written: Places of new files.
        replaced: Places of files whose content changed.
        unchanged: Places of files that hold the same measurement already.
        removed: Places of files that a result with more attacks supersedes.
        covered: Cells that another one holds as a whole, its attacks included; nothing is lost with them.
        refused: Cells that stay out.
    """

    written: list[PurePosixPath] = field(default_factory=list)
    replaced: list[PurePosixPath] = field(default_factory=list)
    unchanged: list[PurePosixPath] = field(default_factory=list)
    removed: list[PurePosixPath] = field(default_factory=list)
    covered: list[Refusal] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class Wish:
    """How to collect.

    Attributes:
        shortened: Cells of shortened prompt sets too.
        replace: Over a different result of the same cell.
        dry_run: Write nothing.
        flagged: What becomes of delicate pictures.
        protocols: Names of the protocols whose cells are wanted; all where none is named.
    """

    shortened: bool = False
    replace: bool = False
    dry_run: bool = False
    flagged: Flagged = "hide"
    protocols: tuple[str, ...] = ()


def collect(runs: Sequence[Path], out: Path, wish: Wish | None = None, tell: Tell | None = None) -> Collected:
    """Publishes the finished cells of run folders.

    Args:
        runs: Run folders.
        out: Root of the tree; made where it is missing.
        wish: How to.
        tell: Hears of every cell as its turn comes.

    Raises:
        StoreError: A run folder is none or holds no cells, or the tree cannot be written.
        ConfigurationError: The tree would be written into a run folder.
    """
    if (out / MARKER).exists():
        raise ConfigurationError(f"{out} is a run folder: name the folder of published results last.")
    collector = _Collector(out, wish or Wish(), tell or (lambda _: None))
    for run in runs:
        collector.read(Store.open(run, create=False).root)
    collector.sort_out()
    collector.publish()
    return collector.collected


@dataclass
class _Cell:
    """A cell that may be published.

    Attributes:
        root: Its run folder.
        result: As it lies there.
        outline: What will be published, but for what is made of pictures.
    """

    root: Path
    result: CellResult
    outline: PublishedResult

    @property
    def name(self) -> str:
        return f"{self.root.name}/{self.result.id}"

    @cached_property
    def measured(self) -> PublishedResult:
        """The outline with outcomes: what other results are compared with."""
        return with_outcomes(self.outline, self.result, self.root)


class _Collector:
    def __init__(self, out: Path, wish: Wish, tell: Tell) -> None:
        self.out, self.wish, self.tell = out, wish, tell
        self.collected = Collected()
        self.cells: list[_Cell] = []
        self.stored: dict[str, list[PublishedResult]] = {}
        self.evidence: dict[Path, RunEvidence] = {}

    # Reading ------------------------------------------------------------------------------------------------

    def read(self, root: Path) -> None:
        """Takes in the cells of a run folder that may be published by what they say of themselves."""
        folders = sorted(path.parent for path in (root / "cells").glob("*/result.json"))
        if not folders:
            raise StoreError(f"{root} holds no finished cells: give the folder of `zbench run --out`.")
        for folder in folders:
            with self._refusing(f"{root.name}/{folder.name}"):
                self._take(root, folder)

    def _take(self, root: Path, folder: Path) -> None:
        result = read_cell(folder)
        if result.id != folder.name:
            raise StoreError(f"it is the result of {result.id}: run the same command again")
        if self.wish.protocols and result.spec.protocol not in self.wish.protocols:
            return
        reasons = refusals(result, shortened=self.wish.shortened)
        if not reasons:
            evidence = self.evidence.setdefault(root, RunEvidence(root))
            reasons = list(dict.fromkeys(evidence.faults(result)))
        if reasons:
            self._refuse(f"{root.name}/{result.id}", *reasons)
            return
        self.cells.append(_Cell(root, result, outline(result, root)))

    @contextmanager
    def _refusing(self, cell: str) -> Iterator[None]:
        """Whatever is wrong with a cell, it keeps no other one out."""
        try:
            yield
        except (ZbenchError, Unreadable) as error:
            self._refuse(cell, str(error))
        except Exception as error:
            lines = str(error).strip().splitlines() or ["nothing is said of why"]
            reason = f"its result or evidence is damaged ({type(error).__name__}: {lines[0]})"
            self._refuse(cell, f"{reason}: run the same command again")

    def _refuse(self, cell: str, *reasons: str) -> None:
        self.collected.refused.append(Refusal(cell, reasons))

    # What stands against what -------------------------------------------------------------------------------

    def sort_out(self) -> None:
        """Of several results of one measurement leaves out those whose attacks another one holds, too."""
        kept: defaultdict[str, list[_Cell]] = defaultdict(list)
        for cell in sorted(self.cells, key=lambda cell: -len(cell.result.attacks)):
            with self._refusing(cell.name):
                key = measurement_key(cell.outline)
                if self._is_needed(cell, kept[key], self._stored_rivals(cell, key)):
                    kept[key].append(cell)
        found = (cell for same in kept.values() for cell in same)
        self.cells = sorted(found, key=lambda cell: (str(cell.outline.place), str(cell.root)))

    def _is_needed(self, cell: _Cell, beside: Sequence[_Cell], stored: Sequence[PublishedResult]) -> bool:
        """Whether no other result of the same measurement stands for a cell; says which one does."""
        others = [*(each.outline for each in beside), *stored]
        heirs = [each.measured for each in beside if supersedes(each.outline, cell.outline)]
        heirs += [each for each in stored if supersedes(each, cell.outline)]
        twin = next((o for o in others if o.id != cell.outline.id and attacked_alike(o, cell.outline)), None)
        if heirs:
            self._cover(cell, heirs, stored)
        elif twin is not None:
            self._refuse(cell.name, f"{twin.id} is the same measurement under another name")
        return not heirs and twin is None

    def _cover(
        self, cell: _Cell, heirs: Sequence[PublishedResult], stored: Sequence[PublishedResult]
    ) -> None:
        """Leaves a cell out, if nothing is lost with it."""
        heir, otherwise = heir_of(cell.measured, heirs)
        assert heir is not None
        reason = f"{heir.id} is the same measurement with more attacks"
        if otherwise and not self.wish.replace:
            names = said_otherwise(otherwise)
            self._refuse(cell.name, f"{reason}, and says otherwise of {names}: --replace leaves this one out")
            return
        self.collected.covered.append(Refusal(cell.name, (reason,)))
        if any(heir is each for each in stored):
            self._remove(self._superseded(heir))  # a killed collect may have left both

    def _stored_rivals(self, cell: _Cell, key: str) -> list[PublishedResult]:
        """Published results of the same measurement."""
        return [each for each in self._beside(cell.outline) if measurement_key(each) == key]

    def _beside(self, result: PublishedResult) -> list[PublishedResult]:
        """What is published of the same method and concept."""
        folder = result.place.parent
        if str(folder) not in self.stored:
            files = sorted((self.out / folder).glob("*.json"))
            found = [read_file(self.out, folder / path.name) for path in files]
            self.stored[str(folder)] = [each for each in found if isinstance(each, PublishedResult)]
        return self.stored[str(folder)]

    # Writing ------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Writes what is new."""
        for cell in self.cells:
            self.tell(cell.name)
            with self._refusing(cell.name):
                self._publish(cell)

    def _publish(self, cell: _Cell) -> None:
        place = cell.outline.place
        before = self._before(place)
        if isinstance(before, Problem) and not self.wish.replace:
            self._refuse(cell.name, f"{before}; --replace writes it anew")
            return
        published = publish(cell.result, cell.root, flagged=self.wish.flagged)
        reasons = [*unpublishable(published), *self._against_superseded(published.result)]
        if isinstance(before, PublishedResult) and not self.wish.replace:
            if not same_measurement(before, published.result):
                reasons.append(f"{place} holds another result of this cell: --replace overwrites it")
            else:
                published, more = self._as_it_stands(before, published)
                reasons += more
        if reasons:
            self._refuse(cell.name, *reasons)
            return
        changed = write(published, self.out, dry_run=self.wish.dry_run)
        self._into(changed, before).append(place)
        self._remove(self._superseded(published.result))

    def _into(self, changed: bool, before: PublishedResult | Problem | None) -> list[PurePosixPath]:
        if not changed:
            return self.collected.unchanged
        return self.collected.replaced if before else self.collected.written

    def _before(self, place: PurePosixPath) -> PublishedResult | Problem | None:
        path = self.out / place
        return read_file(self.out, place) if path.exists() or path.is_symlink() else None

    def _as_it_stands(self, before: PublishedResult, again: Published) -> tuple[Published, list[str]]:
        """What is in the tree, with its small pictures, which may be lost; and why it cannot be kept."""
        fault = fault_of_pictures(self.out, before)
        drawn = None if again.pictures is None else sha256_bytes(again.pictures)
        pictures = self.out / before.pictures_place
        if fault is None:
            return Published(before, pictures.read_bytes() if before.gallery.sha256 else None), []
        if drawn == before.gallery.sha256:
            return Published(before, again.pictures), []
        return again, [f"{fault}, and other pictures would be drawn now: --replace writes both anew"]

    # What is superseded -------------------------------------------------------------------------------------

    def _superseded(self, result: PublishedResult) -> list[PublishedResult]:
        """What a result in the tree stands for from now on."""
        key = measurement_key(result)
        there = (each for each in self._beside(result) if each.place not in self.collected.removed)
        return [each for each in there if measurement_key(each) == key and supersedes(result, each)]

    def _against_superseded(self, result: PublishedResult) -> Iterator[str]:
        """Superseding is no way to change figures."""
        for other in () if self.wish.replace else self._superseded(result):
            otherwise = measured_otherwise(other, result)
            if otherwise:
                names = said_otherwise(otherwise)
                yield f"it would stand for {other.place}, and says otherwise of {names}: --replace does it"

    def _remove(self, results: Iterable[PublishedResult]) -> None:
        for each in results:
            self.collected.removed.append(each.place)
            if not self.wish.dry_run:
                remove(each, self.out)


def said_otherwise(differences: Sequence[Difference]) -> str:
    """The first names of what two results say differently, and how many more there are."""
    names = [each.name for each in differences]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def unpublishable(published: Published) -> Iterator[str]:
    """What the checks of the tree would say of a result: nothing is written that they refuse.

    Raises:
        Unreadable: Nobody could read its file.
    """
    content = to_text(published.result).encode()
    read_bytes(content)
    yield from faults(published.result)
    yield from too_large(published.result, len(content))
    yield from too_large(
        published.result, len(published.pictures or b""), published.result.pictures_place.name
    )


# Files ----------------------------------------------------------------------------------------------------


def read_cell(folder: Path) -> CellResult:
    """A cell's result as its folder in a run folder holds it.

    Raises:
        StoreError: It cannot be read.
        Unreadable: It is of an unknown schema, or no result.
    """
    path = folder / "result.json"
    try:
        record = upgraded_cell(path.read_bytes())
        return CellResult.model_validate(record)
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise Unreadable("no result of this version of zbench: run the cell again") from error
