"""The rows of a run folder as standings, one for each training, so that every form of table can show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from zbench.report.attack_rows import AttackRow, Outcome
from zbench.report.costs import finite_costs
from zbench.report.pooling import single
from zbench.report.standing import AttackStanding, Source, Standing, StandingFigure, Standings
from zbench.report.tables.sheet import Record

if TYPE_CHECKING:
    from zbench.report.rows import Row
    from zbench.report.run_folder import RunRecord
    from zbench.runner.specs import CellResult


def run_standings(record: RunRecord) -> Standings:
    """The rows of a finished run, tested and tied as its own table has them.

    Args:
        record: What the run folder holds.
    """
    table, attacks = record.table, record.attack_table
    attacked = list(attacks.rows) if attacks else []
    cells = {_key(cell): cell for cell in record.cells}
    rows = [_row(row, cells[(row.method, row.training_seed)], attacked) for row in table.rows]
    best = {name: _best(rows, name) for name in table.shown}
    return Standings(record.header, tuple(_marked(row, best) for row in rows), tuple(table.shown))


def run_record(record: RunRecord, found: Standings, names: Sequence[str] | None) -> Record:
    """What tells a run's table from others.

    Args:
        record: What the run folder holds.
        found: Its standings.
        names: Columns that were asked for; None for all.
    """
    first = record.cells[0]
    return Record(
        model=first.spec.model, domain="", family="", concept=first.spec.concept,
        protocol=str(first.provenance.get("protocol", first.spec.protocol)), conditions="", rows=found.rows,
        header=found.header, notes=found.notes, names=None if names is None else tuple(names),
    )  # fmt: skip


def _key(cell: CellResult) -> tuple[str, int | None]:
    return cell.spec.method, cell.spec.training_seed


def _row(row: Row, cell: CellResult, attacked: Sequence[AttackRow]) -> Standing:
    under = next((each for each in attacked if _same(each.row, row)), None)
    seed = "" if row.training_seed is None else f" (seed {row.training_seed})"
    return Standing(
        method=row.method,
        label=f"{row.method}{seed}",
        sources=(Source(cell.id, PurePosixPath("cells", cell.id, "result.json"), row.training_seed),),
        figures={name: _figure(figure) for name, figure in row.figures.items()},
        attacks={} if under is None else {name: _attack(name, of) for name, of in under.outcomes.items()},
        collapsed=int(row.collapsed),
        destroyed=int(row.destroyed),
        remark=row.remark,
        status=row.status,
        cost=finite_costs(cell.cost),
    )


def _same(first: Row, second: Row) -> bool:
    return (first.method, first.training_seed) == (second.method, second.training_seed)


def _figure(figure: Mapping[str, Any]) -> StandingFigure:
    p_holm = figure.get("p_holm")
    return replace(
        single(figure), p_holm=p_holm, differs=None if p_holm is None else p_holm < 0.05,
        tied=bool(figure.get("tied")), corrected=figure.get("corrected"),
    )  # fmt: skip


def _attack(name: str, outcome: Outcome) -> AttackStanding:
    record = outcome.record
    return AttackStanding(
        name=name, knowledge=record.knowledge, status=record.status, reason=outcome.reason,
        budget=outcome.budget, prompts=record.prompts,
        figures={name: single(figure) for name, figure in outcome.figures.items() if outcome.is_measured},
        sign=outcome.sign(), p_holm=outcome.p_holm.get(""), curve=record.curve, spent=record.spent,
    )  # fmt: skip


def _best(rows: Iterable[Standing], name: str) -> float | None:
    """The best value among the rows that compete."""
    found = [row.figures[name] for row in rows if row.rank == 1 and name in row.figures]
    values = [figure.value for figure in found if figure.value is not None and figure.direction != "none"]
    if len(values) < 2:
        return None
    return min(values) if found[0].direction == "lower" else max(values)


def _marked(row: Standing, best: Mapping[str, float | None]) -> Standing:
    figures = {
        name: replace(
            figure, best=row.rank == 1 and figure.value is not None and figure.value == best.get(name)
        )
        for name, figure in row.figures.items()
    }
    return replace(row, figures=figures)
