"""What changed between two versions of a tree: new cells, removed ones, and figures that moved.

A figure of a cell never changes by itself: its id names everything that it follows from; nor does anything
else that its file states. A change that is intended is explained in ``allowed_changes.toml`` at the root of
the tree, by an entry that comes with it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import ConfigurationError, StoreError
from zbench.prompts.sets import first_problem
from zbench.results.differences import FACT, Difference, differences, measured_otherwise, stated
from zbench.results.groups import measurement_key, supersedes
from zbench.results.tree import Part, parts
from zbench.results.upgrade import Unreadable
from zbench.store import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.results.differences import Content
    from zbench.results.schema import PublishedResult

ALLOWED_FILE = "allowed_changes.toml"
REMOVED = "removed"
"""Stands for a figure's name where a whole cell goes."""

_MOST_LETTERS = 48
"""Of what is no figure, so much is shown."""


class Allowed(BaseModel):
    """An intended change.

    Attributes:
        cell: Id or place of a cell, with ``*`` for any text.
        figure: Name of a figure, ``ATTACK/FIGURE`` for an attack's, ``outcomes/FIGURE``, ``spec`` or what
            else a file states, likewise; ``removed`` for a whole cell.
        reason: Why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(min_length=1)
    figure: str = Field(min_length=1)
    reason: str = Field(min_length=10)

    def explains(self, cell: str, place: str, figure: str) -> bool:
        """Whether it speaks of this change."""
        named = _fits(cell, self.cell) or _fits(place, self.cell)
        return named and (_fits(figure, self.figure) if figure != REMOVED else self.figure == REMOVED)


def _fits(text: str, pattern: str) -> bool:
    """Whether a text is what a pattern says; only ``*`` stands for other text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


@dataclass(frozen=True)
class FigureChange:
    """A figure that moved, appeared or went.

    Attributes:
        cell: Id of the cell.
        place: Of its file.
        figure: Name, ``ATTACK/NAME`` for an attack's, or of what else the file states.
        old: As plain data (see `Difference`); None where it was not there.
        new: Likewise.
        reason: Why it may; None where nobody says.
    """

    cell: str
    place: str
    figure: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    reason: str | None = None


@dataclass(frozen=True)
class Removal:
    """A cell that went.

    Attributes:
        cell: Id of the cell.
        place: Of its file.
        reason: Why it may; None where nobody says.
    """

    cell: str
    place: str
    reason: str | None = None


@dataclass(frozen=True)
class Changes:
    """What changed.

    Attributes:
        added: New results.
        removed: Cells that went.
        figures: Figures that moved.
        unused: New entries of the list of intended changes that explain nothing.
    """

    added: tuple[PublishedResult, ...] = ()
    removed: tuple[Removal, ...] = ()
    figures: tuple[FigureChange, ...] = ()
    unused: tuple[Allowed, ...] = ()

    @property
    def unexplained(self) -> tuple[str, ...]:
        """What nobody has explained, each in one line."""
        gone = (
            f"{each.place}: the cell was removed; explain it in {ALLOWED_FILE}"
            for each in self.removed
            if each.reason is None
        )
        moved = (
            f"{each.place}: {each.figure} was {shown(each.old)} and is {shown(each.new)};"
            f" explain it in {ALLOWED_FILE}"
            for each in self.figures
            if each.reason is None
        )
        idle = (
            f"{ALLOWED_FILE}: the new entry for {each.figure} of {each.cell} explains nothing: remove it"
            for each in self.unused
        )
        return (*gone, *moved, *idle)


def shown(figure: Mapping[str, Any] | None) -> str:
    """A figure for a person: value, n of N and interval; of anything else its beginning and a hash."""
    if figure is None:
        return "not there"
    if "value" not in figure:
        return _shortened(canonical_json(figure.get(FACT, figure)))
    if figure["value"] is None:
        return "not measured"
    value, count = f"{figure['value']:.4g}", "" if figure["n"] is None else f" ({figure['n']}/{figure['N']})"
    ends = [f"{end:.3g}" for end in (figure["low"], figure["high"]) if end is not None]
    bounds = f" [{', '.join(ends)}]" if ends else ""
    return f"{value}{count}{bounds}"


def _shortened(text: str) -> str:
    if len(text) <= _MOST_LETTERS:
        return text
    return f"{text[:_MOST_LETTERS]}… ({sha256_bytes(text.encode())[:8]})"


def read_allowed(root: Path) -> tuple[Allowed, ...]:
    """The intended changes that a tree names; none where it has no such file.

    Raises:
        ConfigurationError: The file is malformed.
    """
    path = root / ALLOWED_FILE
    if not path.is_file():
        return ()
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = sorted(set(record) - {"change"})
        if unknown:
            raise ConfigurationError(f"{path}: {unknown[0]} is unknown; write [[change]] tables.")
        return tuple(Allowed.model_validate(each) for each in record.get("change", ()))
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {first_problem(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text.") from error
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def changes(old: Path | None, new: Path, allowed: Iterable[Allowed] = ()) -> Changes:
    """Compares two versions of a tree; parts of which no byte changed are not looked into.

    Args:
        old: Root of the older version; None or an empty folder where there was none.
        new: Root of the newer one.
        allowed: Intended changes; those that the older version knew are over.
    """
    before, after = _parts(old), _parts(new)
    known = _allowed_before(old)
    leave = tuple(each for each in allowed if each not in known)
    added: list[PublishedResult] = []
    removed: list[Removal] = []
    figures: list[FigureChange] = []
    for place in sorted({*before, *after}):
        if _same_files(before.get(place), after.get(place)):
            continue
        was, now = _results(before.get(place)), _results(after.get(place))
        added += (result for cell, result in now.items() if cell not in was)
        for cell, each in was.items():
            if cell in now:
                figures += _moved(each, stated(each), stated(now[cell]), leave)
            else:
                heir, otherwise = heir_of(each, now.values())
                removed.append(_removal(each, heir, leave))
                figures += (_change(each, difference, leave) for difference in otherwise)
    by_place = sorted(figures, key=lambda change: (change.place, change.figure))
    return Changes(tuple(added), tuple(removed), tuple(by_place), _unused(leave, removed, by_place))


def heir_of(
    result: PublishedResult, others: Iterable[PublishedResult]
) -> tuple[PublishedResult | None, list[Difference]]:
    """The result that stands for another, as it holds its attacks and more, and what it says otherwise.

    Args:
        result: The one that goes, or may stay out.
        others: Among these; of several the one that says the least otherwise is taken.
    """
    key = measurement_key(result)
    heirs = [each for each in others if supersedes(each, result) and measurement_key(each) == key]
    compared = [(each, measured_otherwise(result, each)) for each in heirs]
    return min(compared, key=lambda pair: (len(pair[1]), pair[0].id), default=(None, []))


def _allowed_before(old: Path | None) -> tuple[Allowed, ...]:
    try:
        return () if old is None else read_allowed(old)
    except ConfigurationError:
        return ()  # whoever mends the file need not explain it


def _unused(
    allowed: Iterable[Allowed], removed: Iterable[Removal], figures: Iterable[FigureChange]
) -> tuple[Allowed, ...]:
    changed = [(each.cell, each.place, REMOVED) for each in removed]
    changed += [(each.cell, each.place, each.figure) for each in figures]
    return tuple(each for each in allowed if not any(each.explains(*change) for change in changed))


def _same_files(before: Part | None, after: Part | None) -> bool:
    try:
        return before is not None and after is not None and before.digest == after.digest
    except Unreadable:
        return False  # the checks name the file


def _parts(root: Path | None) -> dict[str, Part]:
    if root is None:
        return {}
    try:
        return {str(part.place): part for part in parts(root)}
    except StoreError:
        return {}


def _results(part: Part | None) -> dict[str, PublishedResult]:
    return {} if part is None else {result.id: result for result in part.read().results}


def _removal(result: PublishedResult, heir: PublishedResult | None, allowed: Iterable[Allowed]) -> Removal:
    place = str(result.place)
    reason = f"superseded by {heir.id}, which holds its attacks and more" if heir else None
    return Removal(result.id, place, reason or _reason(allowed, result.id, place, REMOVED))


def _reason(allowed: Iterable[Allowed], cell: str, place: str, figure: str) -> str | None:
    return next((each.reason for each in allowed if each.explains(cell, place, figure)), None)


def _moved(
    result: PublishedResult, old: Content, new: Content, allowed: Iterable[Allowed]
) -> Iterator[FigureChange]:
    yield from (_change(result, difference, allowed) for difference in differences(old, new))


def _change(result: PublishedResult, difference: Difference, allowed: Iterable[Allowed]) -> FigureChange:
    place, name = str(result.place), difference.name
    reason = _reason(allowed, result.id, place, name)
    return FigureChange(result.id, place, name, difference.old, difference.new, reason)
