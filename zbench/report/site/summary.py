"""What the pages of all results need to know of one part of the tree: small, and kept between builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zbench.report.measuring import Setting, setting_of
from zbench.report.site.cells import Cell, Column
from zbench.report.site.places import RESULTS
from zbench.report.tables.overview import Entry
from zbench.results.schema import MethodFacts
from zbench.results.tree import Problem

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from zbench.report.site.group_page import GroupPage
    from zbench.results.schema import PublishedResult


@dataclass(frozen=True)
class RowSummary:
    """A row of a group's table, for tables over several groups.

    Attributes:
        key: Its fragment on the group's page.
        label: What it is called.
        method: Name of the method.
        kind: ``original``, ``done``, ``undone`` or ``broken``.
        marks: † and ‡.
        remark: Why it is broken, or has no figures.
        cells: One for each column of the group.
        files: Its result files in the site.
        on_front: Whether it stands on the front of the leading plane.
        settings: Hyper-parameters without the training seed, as text.
    """

    key: str
    label: str
    method: str
    kind: str
    marks: str
    remark: str
    cells: tuple[Cell, ...]
    files: tuple[str, ...]
    on_front: bool
    settings: dict[str, str]


@dataclass(frozen=True)
class GroupSummary:
    """A group.

    Attributes:
        model: Name of the model.
        model_label: Name with revision.
        setting: What was measured with.
        domain: ``world`` or ``photograph``.
        family: Of the concept.
        concept: Name of the concept.
        title: The concept as a heading.
        protocol: Label of the protocol.
        conditions: What was asked for instead of the protocol's own choice.
        place: Of its page in the site.
        results: Result files.
        attacks: Names of the attacks that were made.
        columns: Figures of its table.
        rows: Rows of its table.
        preservation: Machine name of the figure up the leading plane; None without one.
        plane: The leading plane as SVG; empty without one.
    """

    model: str
    model_label: str
    setting: Setting
    domain: str
    family: str
    concept: str
    title: str
    protocol: str
    conditions: str
    place: str
    results: int
    attacks: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[RowSummary, ...]
    preservation: str | None
    plane: str

    @property
    def variant(self) -> str:
        """Protocol and conditions, which tell groups of one concept apart."""
        return f"{self.protocol}, {self.conditions}" if self.conditions else self.protocol

    @property
    def methods(self) -> list[RowSummary]:
        """All rows but the original."""
        return [row for row in self.rows if row.kind != "original"]

    def cell(self, row: RowSummary, name: str | None) -> Cell | None:
        """A figure of a row; None where the group has no such column."""
        names = [column.name for column in self.columns]
        return row.cells[names.index(name)] if name in names and row.cells else None

    def column(self, name: str | None) -> Column | None:
        """The column of a figure; None where there is none."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def leading(self) -> Column | None:
        """The first column."""
        return self.columns[0] if self.columns else None

    @property
    def front(self) -> list[RowSummary]:
        """Rows on the front of the leading plane, best erasure first."""
        found = [row for row in self.rows if row.on_front]
        return sorted(found, key=lambda row: (float(row.cells[0].value or "inf"), row.key))


@dataclass(frozen=True)
class PartSummary:
    """A part of the tree.

    Attributes:
        groups: Its groups.
        tables: What tables over several parts need.
        methods: Name -> what its card says.
        problems: Files that were skipped.
        files: Every file of the site that the part has made, with its SHA-256.
    """

    groups: tuple[GroupSummary, ...]
    tables: tuple[Entry, ...]
    methods: dict[str, MethodFacts]
    problems: tuple[Problem, ...]
    files: dict[str, str]


def summary_of(page: GroupPage) -> GroupSummary:
    """What other pages need to know of a group's page."""
    group, plane = page.group, page.planes[0] if page.planes else None
    best = {key for key, _ in plane.front} if plane else set()
    return GroupSummary(
        model=group.model.name,
        model_label=group.model.label,
        setting=setting_of(group),
        domain=group.model.domain,
        family=group.concept.family,
        concept=group.concept.name,
        title=page.title,
        protocol=group.protocol,
        conditions=", ".join(f"{name} {value}" for name, value in group.conditions.items()),
        place=str(page.place),
        results=page.results,
        attacks=page.standings.attack_names,
        columns=page.table.columns,
        rows=tuple(_rows(page, best)),
        preservation=plane.preservation if plane else None,
        plane=plane.svg if plane else "",
    )


def _rows(page: GroupPage, best: set[str]) -> Iterator[RowSummary]:
    results = {result.id: result for result in page.group.results}
    for row, standing in zip(page.table.rows, page.standings.rows, strict=True):
        first = results[standing.sources[0].id]
        yield RowSummary(
            key=row.key,
            label=row.label,
            method=row.method,
            kind=row.kind,
            marks=row.marks,
            remark=row.remark,
            cells=row.cells,
            files=tuple(_file(source.place) for source in standing.sources),
            on_front=row.key in best,
            settings=_settings(first),
        )


def _file(place: PurePosixPath) -> str:
    return str(RESULTS / place)


def _settings(result: PublishedResult) -> dict[str, str]:
    fields = result.result.spec.hyperparameters.items()
    return {name: _written(value) for name, value in sorted(fields) if name != "training_seed"}


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_written(each) for each in value)
    return "none" if value is None else str(value)
