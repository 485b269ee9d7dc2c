"""All tables of a results tree as files, part by part in processes of their own, and only what changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from zbench.errors import StoreError
from zbench.report.standings import Standings, standings
from zbench.report.tables import latex, machine, markdown
from zbench.report.tables.build import document, record_of
from zbench.report.tables.cache import Cache
from zbench.report.tables.overview import Entry, entry_of, family_document
from zbench.report.tables.sheet import Document
from zbench.report.values import WORLD_NOTE
from zbench.results.each_part import each_part
from zbench.results.groups import Group, groups
from zbench.results.tree import Part, parts
from zbench.store import atomic_write_text, safe_name

FAMILIES = "families"
"""Folder of the tables of whole families, in that of their model."""

INDEX = "README.md"


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
        files: Place below the folder of tables -> content.
        problems: Files of the tree that were skipped, and why.
        fresh: Parts that were read and rendered; the others came from the cache.
    """

    files: dict[str, bytes]
    problems: tuple[str, ...]
    fresh: int


def group_tables(group: Group, found: Standings) -> PartTables:
    """The tables of one group, in every form that is kept.

    Args:
        group: Results that may be compared.
        found: Their standings, a row for each method.
    """
    place = PurePosixPath(safe_name(group.model.name), f"{safe_name(group.concept.name)}.{group.slug}")
    made = document(record_of(group, found), found)
    files = _forms(str(place), made) | {f"{place}.csv": machine.render_csv([made])}
    return PartTables(files, (entry_of(group, found, str(place)),))


def _forms(place: str, made: Document) -> dict[str, str]:
    return {f"{place}.md": markdown.render([made]), f"{place}.tex": latex.render([made])}


def render_all(root: Path | str, *, workers: int | None = None, cache: Path | str | None = None) -> Rendered:
    """Every table of a results tree: a function of its result files and of nothing else.

    Args:
        root: Such as ``results``.
        workers: Processes; None chooses by the number of files and processors.
        cache: Folder of what earlier calls rendered, valid while files and code are the same; None for none.

    Raises:
        StoreError: There is no such folder, or it holds no results.
    """
    found = parts(root)
    store = None if cache is None else Cache.open(Path(cache))
    done = each_part(partial(_part_tables, store), found, workers)
    made = [tables for tables, _ in done]
    files = {place: text for tables in made for place, text in tables.files.items()}
    files |= shared_tables([entry for tables in made for entry in tables.entries])
    return Rendered(
        {place: files[place].encode() for place in sorted(files)},
        tuple(problem for tables in made for problem in tables.problems),
        sum(fresh for _, fresh in done),
    )


def _part_tables(cache: Cache | None, part: Part) -> tuple[PartTables, bool]:
    """The tables of a part, and whether they had to be made."""
    kept = cache.get(part, PartTables) if cache else None
    if kept is not None:
        return kept, False
    tree = part.read()
    made = [group_tables(group, standings(group)) for group in groups(tree.results)]
    tables = PartTables(
        {place: text for each in made for place, text in each.files.items()},
        tuple(entry for each in made for entry in each.entries),
        tuple(map(str, tree.problems)),
    )
    if cache:
        cache.put(part, tables)
    return tables, True


# Over several groups --------------------------------------------------------------------------------------


def shared_tables(entries: Sequence[Entry]) -> dict[str, str]:
    """Tables of families, and the index.

    Args:
        entries: Of all groups.
    """
    files: dict[str, str] = {}
    families: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        families.setdefault((entry.model, entry.family, entry.slug), []).append(entry)
    for members in families.values():
        files |= _forms(_family_place(members[0]), family_document(members))
    return files | {INDEX: "\n".join(_index(entries)) + "\n"}


def _family_place(entry: Entry) -> str:
    return str(PurePosixPath(safe_name(entry.model), FAMILIES, f"{safe_name(entry.family)}.{entry.slug}"))


def _index(entries: Iterable[Entry]) -> Iterator[str]:
    yield "# Tables"
    yield ""
    yield "Made by `zbench table RESULTS --out DIR` from the result files; not to be edited."
    by_model: dict[str, list[Entry]] = {}
    for entry in entries:
        by_model.setdefault(entry.model, []).append(entry)
    for members in by_model.values():
        yield from _index_of_model(members)


def _index_of_model(entries: Sequence[Entry]) -> Iterator[str]:
    first = entries[0]
    yield from ["", f"## {markdown.escaped(first.model_label)}", ""]
    if first.domain == "world":
        yield from [WORLD_NOTE, ""]
    yield "| Family | Concept | Protocol | Methods | Results | Tables |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for entry in entries:
        family = f"[{markdown.escaped(entry.family)}]({_family_place(entry)}.md)"
        forms = " ".join(f"[{form}]({entry.place}.{form})" for form in ("md", "csv", "tex"))
        names = [family, markdown.escaped(entry.concept), markdown.escaped(entry.slug)]
        yield f"| {' | '.join(names)} | {entry.methods} | {entry.results} | {forms} |"


# On disk --------------------------------------------------------------------------------------------------


def write_tables(rendered: Rendered, out: Path | str) -> int:
    """Brings a folder of tables up to date; equal files are left untouched, stale tables removed.

    Args:
        rendered: All tables of a tree.
        out: Such as ``results/tables``.

    Returns:
        Files that were written or removed.

    Raises:
        StoreError: The folder cannot be written.
    """
    out = Path(out)
    changed = 0
    for place, content in rendered.files.items():
        path = out / place
        if not path.is_file() or path.read_bytes() != content:
            _write(path, content.decode())
            changed += 1
    for path in _stale(out, rendered):
        path.unlink()
        changed += 1
    return changed


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot make {path.parent}: {error.strerror or error}.") from error
    atomic_write_text(path, text)


def _stale(out: Path, rendered: Rendered) -> Iterator[Path]:
    """Tables of an earlier tree: files of our forms in folders of models."""
    for path in sorted(out.glob("*/**/*")):
        if (
            path.suffix in (".md", ".csv", ".tex")
            and str(path.relative_to(out).as_posix()) not in rendered.files
        ):
            yield path
