"""Tables over several groups: one for each family, and the index of all tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from zbench.report.measuring import told_apart
from zbench.report.names import file_name, without_repeats
from zbench.report.tables import latex, markdown
from zbench.report.tables.overview import Entry, family_document
from zbench.report.tables.sheet import Document
from zbench.report.values import WORLD_NOTE

FAMILIES = "families"
"""Folder of the tables of whole families, in that of their model."""

INDEX = "README.md"

BEGINNING = "# Tables\n\nMade by `zbench table"
"""Of every index: a folder with another README is somebody else's."""


@dataclass(frozen=True)
class _Family:
    """Groups that share a table.

    Attributes:
        place: Of the table, without suffix.
        setting: What tells it from tables that were measured otherwise; empty where there are none.
        members: The groups.
    """

    place: str
    setting: str
    members: tuple[Entry, ...]


def shared_tables(entries: Sequence[Entry]) -> dict[str, str]:
    """Tables of families, and the index.

    Args:
        entries: Of all groups.

    Raises:
        StoreError: Two tables have the same place.
    """
    families = list(_families(entries))
    tables = (forms(each.place, family_document(each.members, each.setting)) for each in families)
    places = {entry.place: each.place for each in families for entry in each.members}
    index = {INDEX: "\n".join(_index(entries, places)) + "\n"}
    return without_repeats([*tables, index])


def forms(place: str, made: Document) -> dict[str, str]:
    """A document in the forms that people read, by their places.

    Args:
        place: Without suffix.
        made: The document.
    """
    return {f"{place}.md": markdown.render([made]), f"{place}.tex": latex.render([made])}


def _families(entries: Iterable[Entry]) -> Iterator[_Family]:
    """Groups of one model, family, protocol and setting."""
    found: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.model, entry.family, entry.slug), []).append(entry)
    for alike in found.values():
        names = told_apart(entry.setting for entry in alike)
        for setting, words in names.items():
            members = tuple(entry for entry in alike if entry.setting == setting)
            more = f".{setting.key}" if len(names) > 1 else ""
            yield _Family(_family_place(members[0], more), words, members)


def _family_place(entry: Entry, more: str) -> str:
    name = f"{file_name(entry.family)}.{entry.slug}{more}"
    return str(PurePosixPath(file_name(entry.model), FAMILIES, name))


def _index(entries: Iterable[Entry], families: Mapping[str, str]) -> Iterator[str]:
    yield from f"{BEGINNING} RESULTS --out DIR` from the result files; not to be edited.".split("\n")
    by_model: dict[str, list[Entry]] = {}
    for entry in entries:
        by_model.setdefault(entry.model, []).append(entry)
    for members in by_model.values():
        yield from _index_of_model(members, families)


def _index_of_model(entries: Sequence[Entry], families: Mapping[str, str]) -> Iterator[str]:
    first, labels = entries[0], {entry.model_label for entry in entries}
    heading = first.model_label if len(labels) == 1 else first.model
    yield from ["", f"## {markdown.escaped(heading)}", ""]
    if first.domain == "world":
        yield from [WORLD_NOTE, ""]
    yield "| Family | Concept | Protocol | Methods | Results | Tables |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for entry in entries:
        family = f"[{markdown.escaped(entry.family)}]({families[entry.place]}.md)"
        links = " ".join(f"[{form}]({entry.place}.{form})" for form in ("md", "csv", "tex"))
        protocol = entry.slug if len(labels) == 1 else f"{entry.slug}, {entry.model_label}"
        names = [family, markdown.escaped(entry.concept), markdown.escaped(protocol)]
        yield f"| {' | '.join(names)} | {entry.methods} | {entry.results} | {links} |"
