"""Pages over several groups: the front page, one for each family, one for each method's card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from zbench.config import ORIGINAL
from zbench.report.measuring import told_apart
from zbench.report.site.cells import Cell, Column, columns_over
from zbench.report.site.group_page import FAMILIES
from zbench.report.site.places import GUIDE, INDEX, PLANE, family_page, method_page
from zbench.report.site.rendering import render
from zbench.report.site.standalone import standalone
from zbench.report.site.summary import GroupSummary, PartSummary, RowSummary
from zbench.results.schema import MethodFacts
from zbench.results.tree import Problem

Pages = dict[PurePosixPath, str]
"""Place in the site -> text."""


@dataclass(frozen=True)
class FamilySummary:
    """All groups of a family on a model.

    Attributes:
        name: Of the family.
        title: As headings name it.
        place: Of its page.
        groups: By concept.
    """

    name: str
    title: str
    place: PurePosixPath
    groups: tuple[GroupSummary, ...]

    @property
    def concepts(self) -> list[str]:
        """Titles of its concepts."""
        return list(dict.fromkeys(group.title for group in self.groups))


@dataclass(frozen=True)
class MatrixRow:
    """One method over all groups of a model.

    Attributes:
        label: What it is called.
        method: Name of the method.
        broken: Whether it is broken in every group that has it.
        cells: (page, key, cell) in each group; None where it was not measured.
    """

    label: str
    method: str
    broken: bool
    cells: tuple[tuple[str, str, Cell, bool] | None, ...]


@dataclass(frozen=True)
class Matrix:
    """Methods down, concepts across, the leading figure in the cells; of one protocol and setting.

    Attributes:
        variant: See `by_variant`.
        groups: Columns.
        rows: Rows.
    """

    variant: str
    groups: tuple[GroupSummary, ...]
    rows: tuple[MatrixRow, ...]

    @property
    def leading(self) -> Column | None:
        """The figure in the cells; None where the concepts have different ones."""
        columns = [group.leading for group in self.groups if group.leading is not None]
        return columns[0] if len({(column.name, column.unit) for column in columns}) == 1 else None


@dataclass(frozen=True)
class Comparison:
    """A table over the groups of one protocol and setting.

    Attributes:
        variant: See `by_variant`.
        columns: Every figure that any of the groups shows.
        lines: Group, row, and its cells.
    """

    variant: str
    columns: tuple[Column, ...]
    lines: tuple[tuple[GroupSummary, RowSummary, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class ModelSummary:
    """Everything about one model.

    Attributes:
        name: Of the model.
        label: Name with revision; the name alone where there are several.
        domain: ``world`` or ``photograph``.
        families: In the order of the page.
        matrices: One for each protocol with several concepts.
    """

    name: str
    label: str
    domain: str
    families: tuple[FamilySummary, ...]
    matrices: tuple[Matrix, ...]

    @property
    def groups(self) -> list[GroupSummary]:
        """All groups, family by family."""
        return [group for family in self.families for group in family.groups]


def overview_pages(parts: Sequence[PartSummary]) -> Pages:
    """All pages that show more than one group, and the plane of the front page as a picture."""
    groups = [group for part in parts for group in part.groups]
    methods = _methods(parts)
    problems = [problem for part in parts for problem in part.problems]
    models = models_of(groups)
    hero = _hero(groups)
    pages = {INDEX: _index(models, methods, problems, hero), GUIDE: render("guide.html.j2", GUIDE)}
    if hero is not None:
        pages[PLANE] = standalone(hero.plane)
    for model in models:
        for family in model.families:
            pages[family.place] = _family(model, family)
    for name, facts in methods.items():
        pages[method_page(name)] = _method(name, facts, groups)
    return pages


def models_of(groups: Sequence[GroupSummary]) -> list[ModelSummary]:
    """Groups by model and family, families in their usual order."""
    found = []
    for name in dict.fromkeys(group.model for group in groups):
        own = [group for group in groups if group.model == name]
        families = tuple(_families(name, own))
        ordered = [group for family in families for group in family.groups]
        matrices = tuple(
            Matrix(variant, tuple(of), tuple(_matrix(of)))
            for variant, of in by_variant(ordered).items()
            if len(of) > 1
        )
        labels = {group.model_label for group in own}
        label = labels.pop() if len(labels) == 1 else name
        found.append(ModelSummary(name, label, own[0].domain, families, matrices))
    return found


def _families(model: str, groups: Sequence[GroupSummary]) -> Iterator[FamilySummary]:
    present = dict.fromkeys(group.family for group in groups)
    for name in [*(name for name in FAMILIES if name in present), *sorted(set(present) - set(FAMILIES))]:
        own = by_variant([group for group in groups if group.family == name]).values()
        ordered = tuple(group for of in own for group in of)
        yield FamilySummary(name, FAMILIES.get(name, name), family_page(model, name), ordered)


def by_variant(groups: Sequence[GroupSummary]) -> dict[str, list[GroupSummary]]:
    """Groups by protocol, conditions and what was measured with, the most results first.

    What was measured with is named only where the same protocol and conditions have several such settings.
    """
    alike: dict[str, list[GroupSummary]] = {}
    for group in groups:
        alike.setdefault(group.variant, []).append(group)
    found: dict[str, list[GroupSummary]] = {}
    for variant, of in alike.items():
        words = told_apart(group.setting for group in of)
        for group in of:
            name = ", ".join([variant, *filter(None, [words[group.setting]])])
            found.setdefault(name, []).append(group)
    most = sorted(found, key=lambda name: (-sum(group.results for group in found[name]), name))
    return {name: found[name] for name in most}


def _matrix(groups: Sequence[GroupSummary]) -> list[MatrixRow]:
    """Methods by name, the original first; each group's leading figure."""
    found: dict[str, list[tuple[GroupSummary, RowSummary]]] = {}
    for group in groups:
        for row in group.rows:
            found.setdefault(row.label, []).append((group, row))
    rows = [_matrix_row(label, found[label], groups) for label in found]
    return sorted(rows, key=lambda row: (row.method != ORIGINAL, row.broken, row.label))


def _matrix_row(
    label: str, measured: Sequence[tuple[GroupSummary, RowSummary]], groups: Sequence[GroupSummary]
) -> MatrixRow:
    by_place = {group.place: row for group, row in measured}
    cells = tuple(_matrix_cell(group, by_place.get(group.place)) for group in groups)
    broken = all(row.kind == "broken" for _, row in measured)
    return MatrixRow(label, measured[0][1].method, broken, cells)


def _matrix_cell(group: GroupSummary, row: RowSummary | None) -> tuple[str, str, Cell, bool] | None:
    if row is None or not row.cells:
        return None
    return group.place, row.key, row.cells[0], row.kind == "broken"


def _methods(parts: Sequence[PartSummary]) -> Mapping[str, MethodFacts]:
    """Name -> card, the first one that says anything; by name."""
    found: dict[str, MethodFacts] = {}
    for part in parts:
        for name, facts in part.methods.items():
            if name not in found or (found[name].card is None and facts.card is not None):
                found[name] = facts
    return {name: found[name] for name in sorted(found) if name != ORIGINAL}


# Pages ----------------------------------------------------------------------------------------------------


def _index(
    models: Sequence[ModelSummary],
    methods: Mapping[str, MethodFacts],
    problems: Sequence[Problem],
    hero: GroupSummary | None,
) -> str:
    groups = [group for model in models for group in model.groups]
    numbers = (
        (len(methods), "methods"),
        (len({group.concept for group in groups}), "concepts"),
        (len({attack for group in groups for attack in group.attacks}), "attacks"),
        (sum(group.results for group in groups), "result files"),
    )
    return render(
        "index.html.j2", INDEX, models=models, methods=methods, problems=problems, numbers=numbers,
        hero=hero, domains=sorted({model.domain for model in models}),
    )  # fmt: skip


def _hero(groups: Sequence[GroupSummary]) -> GroupSummary | None:
    """The group with most results behind its plane."""
    drawn = [group for group in groups if group.plane]
    return max(drawn, key=lambda group: group.results, default=None)


def _family(model: ModelSummary, family: FamilySummary) -> str:
    lines = [(group, row) for group in family.groups for row in group.rows]
    return render("family.html.j2", family.place, model=model, family=family, comparisons=_comparisons(lines))


def _comparisons(lines: Sequence[tuple[GroupSummary, RowSummary]]) -> list[Comparison]:
    """A table for each protocol and setting."""
    groups = list({group.place: group for group, _ in lines}.values())
    found = []
    for variant, of in by_variant(groups).items():
        columns = columns_over([group.columns for group in of])
        places = {group.place for group in of}
        own = (
            (group, row, tuple(_cell(group, row, column) for column in columns))
            for group, row in lines
            if group.place in places
        )
        found.append(Comparison(variant, tuple(columns), tuple(own)))
    return found


def _cell(group: GroupSummary, row: RowSummary, column: Column) -> Cell:
    return group.cell(row, column.name) or Cell("")


def _method(name: str, facts: MethodFacts, groups: Sequence[GroupSummary]) -> str:
    lines = [(group, row) for group in groups for row in group.rows if row.method == name]
    return render(
        "method.html.j2", method_page(name), name=name, facts=facts, comparisons=_comparisons(lines),
        settings=_settings([row.settings for _, row in lines], lines, facts),
        domains=sorted({group.domain for group, _ in lines}),
    )  # fmt: skip


def _settings(
    settings: Sequence[Mapping[str, str]],
    lines: Sequence[tuple[GroupSummary, RowSummary]],
    facts: MethodFacts,
) -> list[tuple[str, list[tuple[str, str]], str]]:
    """(name, [(value, where)], meaning) of each hyper-parameter; where is empty if it is so everywhere."""
    found = []
    for name in sorted({name for each in settings for name in each}):
        values: dict[str, list[str]] = {}
        for each, (group, _) in zip(settings, lines, strict=True):
            values.setdefault(each.get(name, "–"), []).append(group.title)
        alone = len(values) == 1
        told = [(value, "" if alone else ", ".join(dict.fromkeys(of))) for value, of in values.items()]
        found.append((name, told, facts.fields.get(name, "")))
    return found
