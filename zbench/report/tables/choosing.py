"""Which tables of a run folder or a results tree are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.report.run_folder import RUN_FILE, read_record
from zbench.report.standing import Rows, Standings
from zbench.report.standings import standings
from zbench.report.tables.build import document, record_of
from zbench.report.tables.columns import catalogue, chosen
from zbench.report.tables.run_rows import run_record, run_standings
from zbench.report.tables.sheet import Document, Record
from zbench.results.each_part import each_part
from zbench.results.groups import Group, groups
from zbench.results.tree import Part, parts
from zbench.store import safe_name

Found = tuple[Record, Standings]


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        columns: Names of columns; the protocol's choice when None.
        sort: Name of a column, with a ``-`` before it from the largest down; None for the usual order.
        rows: A row for each method or for each training; what the folder can give when None.
        concept: Only this concept.
        model: Only this model.
        protocol: Only this protocol: name, label or slug.
        paper: Whether the paper's rows stand below.
    """

    columns: tuple[str, ...] | None = None
    sort: str | None = None
    rows: Rows | None = None
    concept: str | None = None
    model: str | None = None
    protocol: str | None = None
    paper: bool = False


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder, or one of its report folders."""
    return (folder / RUN_FILE).is_file()


def documents(folder: Path, wish: Wish) -> tuple[list[Document], list[str]]:
    """The tables that are asked for, and files that were skipped.

    Args:
        folder: Run folder or results tree.
        wish: Which tables, and what of them.

    Raises:
        StoreError: Neither of the two is here.
        UnknownNameError: No group, column or sort order has this name.
        ConfigurationError: A run folder was asked for rows of methods.
    """
    found, problems = _of_run(folder, wish) if is_run(folder) else _of_tree(folder, wish)
    if wish.columns is not None or wish.sort is not None:
        _require(found, wish)
    made = [_document(each, wish) for each in found]
    if wish.paper:
        from zbench.report.tables.paper import with_paper

        made = [with_paper(each) for each in made]
    return made, problems


def _document(found: Found, wish: Wish) -> Document:
    """A group's tables, of those columns that it has."""
    known = catalogue([found[1]])
    columns = None if wish.columns is None else [name for name in wish.columns if name in known]
    name = (wish.sort or "").removeprefix("-")
    return document(*found, columns, wish.sort if name in known or name == "method" else None)


def _require(found: Sequence[Found], wish: Wish) -> None:
    """Refuses columns that no group has."""
    known = catalogue([each for _, each in found])
    chosen(known, wish.columns or ())
    name = (wish.sort or "method").removeprefix("-")
    if name != "method":
        chosen(known, [name])


# Where the rows come from ---------------------------------------------------------------------------------


def _of_run(folder: Path, wish: Wish) -> tuple[list[Found], list[str]]:
    if wish.rows == "methods":
        raise ConfigurationError(
            f"{folder} is a run folder, whose rows are trainings: `zbench collect {folder} RESULTS` publishes"
            " it, and `zbench table RESULTS` has a row for each method."
        )
    record = read_record(folder)
    found = run_standings(record)
    return [(run_record(record, found, wish.columns), found)], []


def _of_tree(root: Path, wish: Wish) -> tuple[list[Found], list[str]]:
    wanted = _wanted_parts(_parts(root), wish)
    read = each_part(partial(_read, wish), wanted)
    found = [each for part, _, _ in read for each in part]
    problems = [problem for _, _, skipped in read for problem in skipped]
    if problems and not any(names for _, names, _ in read):
        raise StoreError(f"{root} holds no published result that could be read: {problems[0]}.")
    if wish.protocol is not None and not found:
        raise UnknownNameError.of("protocol", wish.protocol, {name for _, names, _ in read for name in names})
    return found, problems


def _parts(root: Path) -> tuple[Part, ...]:
    try:
        return parts(root)
    except StoreError as error:
        raise StoreError(
            f"{root} holds no finished run and no published results: give the folder of `zbench run"
            " --out`, or a results tree that `zbench collect` filled."
        ) from error


def _wanted_parts(found: Sequence[Part], wish: Wish) -> list[Part]:
    """Parts by the names of their folders, so that the others need not be read."""
    left = list(found)
    for what, name, at in (("model", wish.model, 0), ("concept", wish.concept, 2)):
        if name is None:
            continue
        named = {part.place.parts[at]: part for part in left if len(part.place.parts) > at}
        if safe_name(name) not in named:
            raise UnknownNameError.of(what, name, named)
        left = [part for part in left if part.place.parts[at : at + 1] == (safe_name(name),)]
    return left


def _read(wish: Wish, part: Part) -> tuple[list[Found], list[str], list[str]]:
    """Wanted groups of a part, the protocols that there are, and files that were skipped."""
    tree = part.read()
    known = groups(tree.results)
    found = []
    for group in known:
        if wish.protocol is None or wish.protocol in _names(group):
            rows = standings(group, wish.rows or "methods")
            found.append((record_of(group, rows, wish.columns), rows))
    return found, [group.protocol for group in known], list(map(str, tree.problems))


def _names(group: Group) -> tuple[str, ...]:
    """What a protocol may be asked for as."""
    return group.protocol, group.slug, group.protocol.split()[0]
