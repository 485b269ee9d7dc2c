"""What changed between two versions of a tree: new cells, removed ones, and figures that moved.

A figure of a cell never changes by itself: its id names everything that it follows from. A change that is
intended is explained in ``allowed_changes.toml`` at the root of the tree.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import ConfigurationError, StoreError
from zbench.prompts.sets import first_problem
from zbench.results.groups import measurement_key, supersedes
from zbench.results.tree import Part, parts

if TYPE_CHECKING:
    from zbench.results.schema import PublishedResult

ALLOWED_FILE = "allowed_changes.toml"
REMOVED = "removed"
"""Stands for a figure's name where a whole cell goes."""

TOLERANCE = 1e-4
"""Difference of a figure, relative to the larger of its size and 1, that another machine may make."""

_PARTS_OF_FIGURE = ("value", "n", "N", "low", "high")


class Allowed(BaseModel):
    """An intended change.

    Attributes:
        cell: Id or place of a cell, with ``*`` for any text.
        figure: Name of a figure, ``ATTACK/FIGURE`` for an attack's, likewise; ``removed`` for a whole cell.
        reason: Why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(min_length=1)
    figure: str = Field(min_length=1)
    reason: str = Field(min_length=10)

    def explains(self, cell: str, place: str, figure: str) -> bool:
        """Whether it speaks of this change."""
        named = fnmatchcase(cell, self.cell) or fnmatchcase(place, self.cell)
        return named and (fnmatchcase(figure, self.figure) if figure != REMOVED else self.figure == REMOVED)


@dataclass(frozen=True)
class FigureChange:
    """A figure that moved, appeared or went.

    Attributes:
        cell: Id of the cell.
        place: Of its file.
        figure: Name, ``ATTACK/NAME`` for an attack's.
        old: As plain data; None where it was not there.
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
    """

    added: tuple[PublishedResult, ...] = ()
    removed: tuple[Removal, ...] = ()
    figures: tuple[FigureChange, ...] = ()

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
        return (*gone, *moved)


def shown(figure: Mapping[str, Any] | None) -> str:
    """A figure for a person: value, n of N and interval."""
    if figure is None:
        return "not there"
    if figure["value"] is None:
        return "not measured"
    value, count = f"{figure['value']:.4g}", "" if figure["n"] is None else f" ({figure['n']}/{figure['N']})"
    bounds = "" if figure["low"] is None else f" [{figure['low']:.3g}, {figure['high']:.3g}]"
    return f"{value}{count}{bounds}"


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
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def changes(old: Path | None, new: Path, allowed: Iterable[Allowed] = ()) -> Changes:
    """Compares two versions of a tree; parts of which no byte changed are not looked into.

    Args:
        old: Root of the older version; None or an empty folder where there was none.
        new: Root of the newer one.
        allowed: Intended changes.
    """
    before, after = _parts(old), _parts(new)
    allowed = tuple(allowed)
    added: list[PublishedResult] = []
    removed: list[Removal] = []
    figures: list[FigureChange] = []
    for place in sorted({*before, *after}):
        if place in before and place in after and before[place].digest == after[place].digest:
            continue
        was, now = _results(before.get(place)), _results(after.get(place))
        added += (result for cell, result in now.items() if cell not in was)
        removed += (_removal(each, now.values(), allowed) for cell, each in was.items() if cell not in now)
        for cell in was.keys() & now.keys():
            figures += _moved(was[cell], now[cell], allowed)
    return Changes(tuple(added), tuple(removed), tuple(sorted(figures, key=lambda c: (c.place, c.figure))))


def _parts(root: Path | None) -> dict[str, Part]:
    if root is None:
        return {}
    try:
        return {str(part.place): part for part in parts(root)}
    except StoreError:
        return {}


def _results(part: Part | None) -> dict[str, PublishedResult]:
    return {} if part is None else {result.id: result for result in part.read().results}


def _removal(result: PublishedResult, now: Iterable[PublishedResult], allowed: Iterable[Allowed]) -> Removal:
    key = measurement_key(result)
    heir = next((o.id for o in now if supersedes(o, result) and measurement_key(o) == key), None)
    place = str(result.place)
    reason = f"superseded by {heir}, which holds its attacks and more" if heir else None
    return Removal(result.id, place, reason or _reason(allowed, result.id, place, REMOVED))


def _reason(allowed: Iterable[Allowed], cell: str, place: str, figure: str) -> str | None:
    return next((each.reason for each in allowed if each.explains(cell, place, figure)), None)


def _moved(old: PublishedResult, new: PublishedResult, allowed: Iterable[Allowed]) -> Iterator[FigureChange]:
    was, now, place = _figures(old), _figures(new), str(new.place)
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if before is None or after is None or _differ(before, after):
            yield FigureChange(new.id, place, name, before, after, _reason(allowed, new.id, place, name))


def _figures(result: PublishedResult) -> dict[str, dict[str, Any]]:
    own = {figure["name"]: figure for figure in result.result.figures}
    attacks = ((f"{a.label}/{f['name']}", f) for a in result.result.attacks for f in a.figures)
    return own | dict(attacks)


def _differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(not _close(old[part], new[part]) for part in _PARTS_OF_FIGURE)


def _close(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
