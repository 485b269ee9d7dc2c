"""The columns that a table of standings can have, by name, and how its rows are sorted by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from zbench.errors import UnknownNameError
from zbench.report.standing import AttackStanding, Standing, StandingFigure, Standings
from zbench.report.tables.sheet import Cell, Column
from zbench.report.values import TITLES, shown

ATTACK = "attack:"
"""Begins the name of the column of one attack."""

STRONGEST = "strongest_"
"""Begins the name of the column of the strongest attack of one kind."""

NEEDS = {
    "text": "Typed prompts",
    "encoder": "With the text encoder",
    "model": "With the model's gradients",
    "weights": "Changing the model",
}
"""What an attacker needs -> what the column of its strongest attack is called."""

TRAININGS = "trainings"
METHOD = "method"
PLAIN = "attack_pre"
"""The attacked prompts' plain pictures."""

_MEBI, _GIBI = 2.0**20, 2.0**30
_COSTS = {
    "seconds": ("Time", "s", 1.0),
    "peak_memory_bytes": ("Memory", "GiB", _GIBI),
    "edit_bytes": ("Saved edit", "MiB", _MEBI),
    "forwards": ("Forward passes", "", 1.0),
    "backwards": ("Backward passes", "", 1.0),
    "steps": ("Steps", "", 1.0),
    "evaluations_per_step": ("Evaluations a step", "", 1.0),
}
"""Cost -> title, unit, and what it is divided by."""


@dataclass(frozen=True)
class Source:
    """Where a column's cells come from.

    Attributes:
        head: The column.
        cell: Of a row.
        key: What rows are sorted by; None where a row has nothing there.
    """

    head: Column
    cell: Callable[[Standing], Cell]
    key: Callable[[Standing], float | None]


def catalogue(found: Iterable[Standings]) -> dict[str, Source]:
    """Name -> every column that some row has something for.

    Args:
        found: Standings of the tables that share the columns.
    """
    rows = [row for each in found for row in each.rows]
    figures = {name: figure for row in reversed(rows) for name, figure in row.figures.items()}
    attacks = {name: each for row in rows for name, each in row.attacks.items()}
    costs = {name for row in rows for name in row.cost}
    names = sorted(figures, key=lambda name: _place(name))
    sources = {TRAININGS: _trainings()}
    sources |= {name: _figure(name, figures[name]) for name in names}
    kinds = {each.knowledge for each in attacks.values()}
    if attacks:
        sources[PLAIN] = _plain()
        sources |= {f"{STRONGEST}{kind}": _strongest(kind) for kind in NEEDS if kind in kinds}
        sources |= {f"{ATTACK}{name}": _attack(name) for name in sorted(attacks)}
    return sources | {name: _cost(name) for name in _COSTS if name in costs}


def chosen(sources: Mapping[str, Source], names: Sequence[str]) -> list[Source]:
    """The columns of these names, in their order.

    Raises:
        UnknownNameError: There is no such column; close matches are named.
    """
    for name in names:
        if name not in sources:
            raise UnknownNameError.of("column", name, sources)
    return [sources[name] for name in dict.fromkeys(names)]


def in_order(rows: Sequence[Standing], sources: Mapping[str, Source], sort: str | None) -> list[Standing]:
    """Rows by a column, within original, ranked and broken rows; what has nothing there comes last.

    Args:
        rows: In the order of the standings.
        sources: All columns; see `catalogue`.
        sort: Name of a column, or ``method``; with a ``-`` before it from the largest down. None leaves the
            rows as they are.

    Raises:
        UnknownNameError: There is no such column.
    """
    if sort is None:
        return list(rows)
    name, down = sort.removeprefix("-"), sort.startswith("-")
    if name == METHOD:
        by_label = sorted(rows, key=lambda row: row.label, reverse=down)
        return sorted(by_label, key=lambda row: row.rank)
    key = chosen({**sources, METHOD: _trainings()}, [name])[0].key

    def place(row: Standing) -> tuple[int, bool, float]:
        value = key(row)
        return row.rank, value is None, 0.0 if value is None else (-value if down else value)

    return sorted(rows, key=place)


def _place(name: str) -> tuple[int, str]:
    titles = list(TITLES)
    return (titles.index(name), "") if name in TITLES else (len(titles), name)


# Figures --------------------------------------------------------------------------------------------------


def figure_cell(figure: StandingFigure | None) -> Cell:
    """A figure with its interval, its marks and the range of its trainings."""
    if figure is None:
        return Cell(shown(None))
    return Cell(shown(figure.plain()), best=figure.best, seeds=_range(figure))


def _range(figure: StandingFigure) -> str:
    """Smallest and largest value of the trainings; empty where they agree to the last digit shown."""
    if figure.seeds is None:
        return ""
    scale = 100 if figure.unit == "rate" else 1
    low, high = (f"{scale * value:.3g}" for value in (figure.seeds.low, figure.seeds.high))
    return "" if low == high else f"{low}–{high}"


def figure_heading(name: str, figure: StandingFigure) -> Column:
    """The column of a figure."""
    unit = "%" if figure.unit == "rate" else ""
    return Column(name, TITLES.get(name, name), unit, figure.direction)


def _figure(name: str, figure: StandingFigure) -> Source:
    def value(row: Standing) -> float | None:
        found = row.figures.get(name)
        return None if found is None else found.value

    return Source(figure_heading(name, figure), lambda row: figure_cell(row.figures.get(name)), value)


def _trainings() -> Source:
    return Source(
        Column(TRAININGS, "Trainings"),
        lambda row: Cell.of_text(str(len(row.training_seeds) or "")),
        lambda row: float(len(row.training_seeds)),
    )


def _cost(name: str) -> Source:
    title, unit, scale = _COSTS[name]

    def value(row: Standing) -> float | None:
        return None if name not in row.cost else row.cost[name] / scale

    def cell(row: Standing) -> Cell:
        found = value(row)
        return Cell.of_text("" if found is None else f"{found:.4g}")

    return Source(Column(name, title, unit), cell, value)


# Attacks --------------------------------------------------------------------------------------------------


def _plain() -> Source:
    """The attacked prompts without an attack, where all attacks were made on the same ones."""

    def figure(row: Standing) -> StandingFigure | None:
        found = [each.figures[PLAIN] for each in row.attacks.values() if PLAIN in each.figures]
        return found[0] if len({(each.n, each.N) for each in found}) == 1 else None

    return Source(
        Column(PLAIN, "No attack", "%", "lower"),
        lambda row: figure_cell(figure(row)),
        lambda row: _value(figure(row)),
    )


def _value(figure: StandingFigure | None) -> float | None:
    return None if figure is None else figure.value


def _attack(name: str) -> Source:
    return Source(
        Column(f"{ATTACK}{name}", name, "%", "lower"),
        lambda row: attack_cell(row.attacks.get(name)),
        lambda row: _post(row.attacks.get(name)),
    )


def _strongest(kind: str) -> Source:
    def strongest(row: Standing) -> AttackStanding | None:
        made = [each for each in row.attacks.values() if each.knowledge == kind and _post(each) is not None]
        return max(made, key=lambda each: (_post(each) or 0.0, each.name), default=None)

    def cell(row: Standing) -> Cell:
        found = strongest(row)
        plain = attack_cell(found)
        return plain if found is None else replace(plain, beside=(found.name, *plain.beside))

    return Source(
        Column(f"{STRONGEST}{kind}", NEEDS[kind], "%", "lower"), cell, lambda row: _post(strongest(row))
    )


def _post(attack: AttackStanding | None) -> float | None:
    return None if attack is None else _value(attack.figures.get("attack_post"))


def attack_cell(attack: AttackStanding | None) -> Cell:
    """Success under an attack, never without its control and plain retries."""
    if attack is None:
        return Cell(shown(None))
    post = attack.figures.get("attack_post")
    if post is None or post.value is None:
        return Cell.of_text(attack.status if attack.status != "done" else "")
    mark = {None: "", 1: "*", 0: "ns", -1: "below"}[attack.sign]
    beside = [
        f"{word} {shown(found.plain()).number}"
        for word, name in (("control", "control_post"), ("retries", "retry_post"))
        if (found := attack.figures.get(name)) is not None
    ]
    beside += [attack.coverage] if attack.coverage else []
    return Cell(replace(shown(post.plain()), mark=mark), seeds=_range(post), beside=tuple(beside))
