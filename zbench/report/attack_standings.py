"""What attacks did to the erasures of a row, over all its trainings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from zbench.report.attack_rows import EXCESSES, LEVEL, Outcome
from zbench.report.costs import mean_costs
from zbench.report.pooling import pool, single
from zbench.report.standing import AttackStanding, StandingFigure
from zbench.report.trainings import Trainings
from zbench.statistics import holm, mcnemar_exact

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord

FIGURES = (
    "attack_pre", "attack_post", "attack_new", "control_post", "retry_post", "attack_excess",
    "attack_excess_retry", "attack_confirmed", "control_confirmed",
)  # fmt: skip
"""Over all attacked prompts; those over the prompts that the original shows stand in the result files."""


@dataclass(frozen=True)
class Attacked:
    """One attack on the trainings of one row, on its way into a table.

    Attributes:
        name: Of the attack.
        outcomes: What it did to each training that has figures.
        record: Of the first training, for what is the same for all.
        trainings: How many the row has, attacked or not.
        tested: Whether the row takes part in the correction: broken ones do not.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    record: AttackRecord
    trainings: int
    tested: bool

    @property
    def is_testable(self) -> bool:
        """Whether every attacked training left prompts enough to break for a result to be sure."""
        return self.tested and bool(self.outcomes) and all(map(_testable, self.outcomes))

    @property
    def p_value(self) -> float:
        """Small only where every attacked training differs from both its control and plain retries."""
        return max(outcome.p_value() or 0.0 for outcome in self.outcomes)

    def sign(self, p_holm: float) -> int:
        """See `AttackStanding.sign`."""
        if p_holm >= LEVEL:
            return 0
        excesses = [outcome.value(name) or 0.0 for outcome in self.outcomes for name in EXCESSES]
        return int(min(excesses) > 0) - int(max(excesses) < 0)


def _testable(outcome: Outcome) -> bool:
    plain = outcome.figures.get("attack_pre", {})
    if outcome.p_value() is None or plain.get("n") is None:
        return False
    return _can_show(plain["N"] - plain["n"])


@cache
def _can_show(left: int) -> bool:
    """Whether breaking all prompts that are left would be significant."""
    return mcnemar_exact([True] * left, [False] * left).p_value < LEVEL


def attack_standings(rows: Sequence[tuple[Trainings, bool]]) -> list[dict[str, AttackStanding]]:
    """What the attacks did to each row, tested over the whole table (Holm).

    Args:
        rows: Each row, and whether it is broken.

    Returns:
        For each row the name of an attack -> what it did.
    """
    found = [_attacked(row, broken) for row, broken in rows]
    everything = [each for row in found for each in row]
    tested = [each for each in everything if each.is_testable]
    corrected = holm([each.p_value for each in tested])
    p_holm = {id(each): p for each, p in zip(tested, corrected, strict=True)}
    figures = _all_figures(everything)
    return [
        {each.name: _standing(each, figures[id(each)], p_holm.get(id(each))) for each in row} for row in found
    ]


def _attacked(row: Trainings, broken: bool) -> list[Attacked]:
    records: dict[str, list[AttackRecord]] = {}
    for result in row.results:
        seen: dict[str, int] = {}
        for record in result.result.attacks:
            again = seen[record.label] = seen.get(record.label, 0) + 1
            records.setdefault(f"{record.label} ({again})" if again > 1 else record.label, []).append(record)
    trainings = len(row.results)
    return [
        Attacked(name, tuple(_outcomes(of)), of[0], trainings, tested=not broken)
        for name, of in records.items()
    ]


def _outcomes(records: Iterable[AttackRecord]) -> Iterable[Outcome]:
    for record in records:
        outcome = Outcome(record, {figure["name"]: dict(figure) for figure in record.figures})
        if record.status == "done" and outcome.is_measured:
            yield outcome


def _all_figures(attacked: Sequence[Attacked]) -> dict[int, dict[str, StandingFigure]]:
    """The figures of every attack on every row; the intervals of all rates at once."""
    found: list[tuple[int, list[Mapping[str, Any]]]] = []
    for each in attacked:
        for name in FIGURES:
            measured: list[Mapping[str, Any]] = [
                of.figures[name] for of in each.outcomes if of.value(name) is not None
            ]
            if measured:
                found.append((id(each), measured))
    figures: dict[int, dict[str, StandingFigure]] = {id(each): {} for each in attacked}
    for (owner, _), figure in zip(found, _figures([of for _, of in found]), strict=True):
        figures[owner][figure.name] = figure
    return figures


def _figures(measured: Sequence[Sequence[Mapping[str, Any]]]) -> list[StandingFigure]:
    several = [at for at, found in enumerate(measured) if len(found) > 1]
    pooled = pool([measured[at] for at in several], [None] * len(several))
    made = dict(zip(several, pooled, strict=True))
    plain = [made.get(at) or single(found[0]) for at, found in enumerate(measured)]
    return [figure if figure.p_value is None else replace(figure, p_value=None) for figure in plain]


def _standing(each: Attacked, figures: Mapping[str, StandingFigure], p_holm: float | None) -> AttackStanding:
    budgets = {outcome.budget for outcome in each.outcomes}
    status = "done" if each.outcomes else each.record.status
    lines = (each.record.reason or "").strip().splitlines()
    return AttackStanding(
        name=each.name, knowledge=each.record.knowledge,
        status="failed" if status == "done" and not each.outcomes else status,
        reason="" if each.outcomes else (lines[-1] if lines else "not measured"),
        budget=budgets.pop() if len(budgets) == 1 else None,
        prompts=each.record.prompts, figures=figures,
        attacked=len(each.outcomes), trainings=each.trainings,
        sign=None if p_holm is None else each.sign(p_holm), p_holm=p_holm,
        curve=_curve(each.outcomes), spent=mean_costs(outcome.record.spent for outcome in each.outcomes),
    )  # fmt: skip


def _curve(outcomes: Sequence[Outcome]) -> tuple[Mapping[str, int], ...]:
    """Summed over trainings, as far as all of them went."""
    curves = [outcome.record.curve for outcome in outcomes]
    points = zip(*curves, strict=False)
    return tuple(
        {name: at[0][name] if name == "k" else sum(point[name] for point in at) for name in at[0]}
        for at in points
    )
