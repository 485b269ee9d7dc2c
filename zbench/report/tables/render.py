"""All tables of a results tree as files, part by part in processes of their own, and only what changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from zbench.report.names import file_name, of_several_families, with_own_slugs, without_repeats
from zbench.report.standings import Standings, standings
from zbench.report.tables import machine
from zbench.report.tables.build import document, record_of
from zbench.report.tables.cache import Cache
from zbench.report.tables.overview import Entry, entry_of
from zbench.report.tables.shared import forms, shared_tables
from zbench.results.each_part import each_part
from zbench.results.groups import Group, groups
from zbench.results.tree import Part, parts


@dataclass(frozen=True)
class PartTables:
    """The tables of a part of the tree.

    Attributes:
        files: Place below the folder of tables -> content.
        entries: What tables over several parts need.
        problems: Files that were skipped, and why.
    """

    files: dict[str, str]
    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """All tables of a tree.

    Attributes:
        root: The tree.
        files: Place below the folder of tables -> content.
        problems: Files of the tree that were skipped, and why.
        fresh: Parts that were read and rendered; the others came from the cache.
    """

    root: Path
    files: dict[str, bytes]
    problems: tuple[str, ...]
    fresh: int


def part_groups(found: Collection[Group], apart: bool) -> list[tuple[Group, bool]]:
    """The groups of a part with slugs of their own, and whether their tables stand in their family's folder.

    Args:
        found: Groups of a part.
        apart: Whether another family of the model has a concept of this name.
    """
    apart = apart or len({group.concept.family for group in found}) > 1
    return [(group, apart) for group in with_own_slugs(found)]


def group_tables(group: Group, found: Standings, *, in_family: bool = False) -> PartTables:
    """The tables of one group, in every form that is kept.

    Args:
        group: Results that may be compared.
        found: Their standings, a row for each method.
        in_family: Whether they stand in a folder of their family, since other families have such a concept.
    """
    model, concept = group.model.name, group.concept
    folder = PurePosixPath(file_name(model), *([file_name(concept.family)] if in_family else []))
    place = str(folder / f"{file_name(concept.name)}.{group.slug}")
    made = document(record_of(group, found), found)
    files = forms(place, made) | {f"{place}.csv": machine.render_csv([made])}
    return PartTables(files, (entry_of(group, found, place),))


def render_all(root: Path | str, *, workers: int | None = None, cache: Path | str | None = None) -> Rendered:
    """Every table of a results tree: a function of its result files and of nothing else.

    Args:
        root: Such as ``results``.
        workers: Processes; None chooses by the number of files and processors.
        cache: Folder of what earlier calls rendered, valid while files and code are the same; None for none.

    Raises:
        StoreError: There is no such folder, it holds no results, or two tables have the same place.
    """
    found = parts(root)
    store = None if cache is None else Cache.open(Path(cache))
    done = each_part(partial(_part_tables, store, of_several_families(found)), found, workers)
    made = [tables for tables, _ in done]
    shared = shared_tables([entry for tables in made for entry in tables.entries])
    files = without_repeats([*(tables.files for tables in made), shared])
    return Rendered(
        Path(root),
        {place: files[place].encode() for place in sorted(files)},
        tuple(problem for tables in made for problem in tables.problems),
        sum(fresh for _, fresh in done),
    )


def _part_tables(cache: Cache | None, apart: frozenset[PurePosixPath], part: Part) -> tuple[PartTables, bool]:
    """The tables of a part, and whether they had to be made."""
    in_family = part.place in apart
    kept = cache.get(part, PartTables, in_family=in_family) if cache else None
    if kept is not None:
        return kept, False
    tree = part.read()
    made = [
        group_tables(group, standings(group), in_family=own)
        for group, own in part_groups(groups(tree.results), in_family)
    ]
    tables = PartTables(
        without_repeats(each.files for each in made),
        tuple(entry for each in made for entry in each.entries),
        tuple(map(str, tree.problems)),
    )
    if cache:
        cache.put(part, tables, in_family=in_family)
    return tables, True
