"""`zbench collect`: finished cells of run folders into a tree of published results, and why others stay out.

A cell is published whole or not at all; what stands in the tree already is left as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from zbench.errors import ConfigurationError, StoreError, ZbenchError
from zbench.results.groups import attacked_alike, measurement_key, supersedes
from zbench.results.publish import outline, publish
from zbench.results.refusals import refusals
from zbench.results.same import same_measurement
from zbench.results.schema import PublishedResult
from zbench.results.tree import Problem, read_file
from zbench.results.upgrade import Unreadable, upgraded_cell
from zbench.results.writing import remove, write
from zbench.runner.specs import CellResult
from zbench.store import MARKER, Store

if TYPE_CHECKING:
    from zbench.results.pictures import Flagged

Tell = Callable[[str], None]


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


@dataclass(frozen=True)
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


class _Collector:
    def __init__(self, out: Path, wish: Wish, tell: Tell) -> None:
        self.out, self.wish, self.tell = out, wish, tell
        self.collected = Collected()
        self.cells: list[_Cell] = []
        self.stored: dict[str, list[PublishedResult]] = {}

    # Reading ------------------------------------------------------------------------------------------------

    def read(self, root: Path) -> None:
        """Takes in the cells of a run folder that may be published by what they say of themselves."""
        folders = sorted(path.parent for path in (root / "cells").glob("*/result.json"))
        if not folders:
            raise StoreError(f"{root} holds no finished cells: give the folder of `zbench run --out`.")
        for folder in folders:
            try:
                self._take(root, folder)
            except (ZbenchError, Unreadable) as error:
                self._refuse(f"{root.name}/{folder.name}", str(error))

    def _take(self, root: Path, folder: Path) -> None:
        result = read_cell(folder)
        if self.wish.protocols and result.spec.protocol not in self.wish.protocols:
            return
        reasons = refusals(result, shortened=self.wish.shortened)
        if reasons:
            self._refuse(f"{root.name}/{result.id}", *reasons)
            return
        _require_whole(root, result)
        self.cells.append(_Cell(root, result, outline(result, root)))

    def _refuse(self, cell: str, *reasons: str) -> None:
        self.collected.refused.append(Refusal(cell, reasons))

    # What stands against what -------------------------------------------------------------------------------

    def sort_out(self) -> None:
        """Of several results of one measurement leaves out those whose attacks another one holds, too."""
        kept: defaultdict[str, list[_Cell]] = defaultdict(list)
        for cell in sorted(self.cells, key=lambda cell: -len(cell.result.attacks)):
            key = measurement_key(cell.outline)
            rivals = [*(each.outline for each in kept[key]), *self._stored_rivals(cell, key)]
            others = [each for each in rivals if each.id != cell.outline.id]
            whole = next((each for each in others if supersedes(each, cell.outline)), None)
            twin = next((each for each in others if attacked_alike(each, cell.outline)), None)
            if whole is not None:
                reason = f"{whole.id} is the same measurement with more attacks"
                self.collected.covered.append(Refusal(cell.name, (reason,)))
            elif twin is not None:
                self._refuse(cell.name, f"{twin.id} is the same measurement under another name")
            else:
                kept[key].append(cell)
        found = (cell for same in kept.values() for cell in same)
        self.cells = sorted(found, key=lambda cell: (str(cell.outline.place), str(cell.root)))

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
            try:
                self._publish(cell)
            except (ZbenchError, KeyError) as error:
                self._refuse(cell.name, str(error))

    def _publish(self, cell: _Cell) -> None:
        place = cell.outline.place
        before = self._before(place)
        if isinstance(before, PublishedResult) and not self.wish.replace:
            self._leave(cell, before)
            return
        if isinstance(before, Problem) and not self.wish.replace:
            self._refuse(cell.name, f"{before}; --replace writes it anew")
            return
        published = publish(cell.result, cell.root, flagged=self.wish.flagged)
        changed = write(published, self.out, dry_run=self.wish.dry_run)
        into = (
            self.collected.unchanged
            if not changed
            else self.collected.replaced
            if before
            else self.collected.written
        )
        into.append(place)
        self._remove_superseded(published.result)

    def _before(self, place: PurePosixPath) -> PublishedResult | Problem | None:
        return read_file(self.out, place) if (self.out / place).exists() else None

    def _leave(self, cell: _Cell, before: PublishedResult) -> None:
        if same_measurement(before, cell.outline):
            self.collected.unchanged.append(before.place)
        else:
            self._refuse(
                cell.name, f"{before.place} holds another result of this cell: --replace overwrites it"
            )

    def _remove_superseded(self, result: PublishedResult) -> None:
        key = measurement_key(result)
        for other in self._beside(result):
            if other.place in self.collected.removed or measurement_key(other) != key:
                continue
            if supersedes(result, other):
                self.collected.removed.append(other.place)
                if not self.wish.dry_run:
                    remove(other, self.out)


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


def _require_whole(root: Path, result: CellResult) -> None:
    """Makes sure that result, scores and attacks' outcomes are as they were written."""
    store = Store(root)
    attacks = (record.stages["score"] for record in result.attacks if "score" in record.stages)
    for place in (f"cells/{result.id}", result.stages["score"], *attacks):
        folder = store.stored(place)
        if not folder.is_complete():
            raise StoreError(f"files of {place} are missing or were altered: run the same command again")
