"""What the attacks of a run found, row by row and attack by attack, tested over the whole table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from zbench.attacks.base import Knowledge
from zbench.metrics.robustness import SHOWN
from zbench.report.rows import Row, row_of
from zbench.statistics import holm, mcnemar_exact

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord
    from zbench.runner.specs import CellResult

LEVEL = 0.05

EXCESSES = ("attack_excess", "attack_excess_retry")
"""Over the attack's own control, and over plain retries; only what exceeds both is the attack's merit."""


@dataclass(frozen=True)
class Outcome:
    """What one attack did to one erasure.

    Attributes:
        record: As stored with the cell.
        figures: Name -> figure.
        p_holm: Suffix of figures -> the corrected p-value of both paired tests; missing where none was made.
    """

    record: AttackRecord
    figures: dict[str, dict[str, Any]]
    p_holm: dict[str, float] = field(default_factory=dict)

    @property
    def budget(self) -> int | None:
        """Judged candidates per prompt and arm."""
        return self.record.hyperparameters.get("budget")

    @property
    def reason(self) -> str:
        """Why there are no figures, in one line: the last one of a traceback."""
        lines = (self.record.reason or "").strip().splitlines()
        return lines[-1] if lines else ""

    def value(self, name: str) -> float | None:
        """Value of a figure, None where it was not measured."""
        found = self.figures.get(name, {}).get("value")
        return None if found is None else float(found)

    @property
    def is_measured(self) -> bool:
        """Whether there is a union to show; one without its control is none."""
        return self.value("attack_post") is not None and self.value("control_post") is not None

    def p_value(self, suffix: str = "") -> float | None:
        """The larger p of the two paired tests: small only where the attack differs from both references."""
        found = [self.figures.get(f"{name}{suffix}", {}).get("p_value") for name in EXCESSES]
        known = [float(each) for each in found if each is not None]
        return max(known) if len(known) == len(EXCESSES) else None

    def is_testable(self, suffix: str = "") -> bool:
        """Whether any result could have been significant: whether enough prompts were left to be broken.

        The plain picture counts in every union, so that only prompts that it leaves can differ; that is known
        before anything is tried, and leaving out the others bends no test.
        """
        plain = self.figures.get(f"attack_pre{suffix}", {})
        if self.p_value(suffix) is None or plain.get("n") is None:
            return False
        left = plain["N"] - plain["n"]
        return mcnemar_exact([True] * left, [False] * left).p_value < LEVEL

    def sign(self, suffix: str = "") -> int | None:
        """1 where the attack surely found more than both references, -1 less than both, 0 neither.

        None where that was not tested.
        """
        if suffix not in self.p_holm:
            return None
        if self.p_holm[suffix] >= LEVEL:
            return 0
        excesses = [self.value(f"{name}{suffix}") or 0.0 for name in EXCESSES]
        return int(min(excesses) > 0) - int(max(excesses) < 0)


@dataclass(frozen=True)
class AttackRow:
    """One erasure under all attacks.

    Attributes:
        row: Its row in the main table: label, marks, rank.
        outcomes: Name of an attack -> what it did; attacks that were not made are not in it.
        stages: Stage of the cell -> folder relative to the run folder.
    """

    row: Row
    outcomes: dict[str, Outcome]
    stages: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any] | None:
        """The rate without an attack, None where the attacks were not all made on the same prompts."""
        found = [
            each.figures["attack_pre"] for each in self.outcomes.values() if "attack_pre" in each.figures
        ]
        same = len({(figure["n"], figure["N"]) for figure in found}) == 1
        return found[0] if same else None


@dataclass(frozen=True)
class AttackTable:
    """Rows of erasures, columns of attacks.

    Attributes:
        header: Lines over the table.
        rows: In the order of the main table: the original first, broken rows last.
    """

    header: tuple[str, ...]
    rows: tuple[AttackRow, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the attacks: what needs least knowledge first, else in the order of the run."""
        weakest_first = list(get_args(Knowledge))
        return tuple(sorted(self._knowledge, key=lambda name: weakest_first.index(self._knowledge[name])))

    @cached_property
    def _knowledge(self) -> dict[str, str]:
        return {name: outcome.record.knowledge for _, name, outcome in self.outcomes()}

    def knowledge(self, attack: str) -> str:
        """What an attack needs."""
        return self._knowledge[attack]

    def outcomes(self) -> Iterator[tuple[Row, str, Outcome]]:
        """Every attack on every erasure, row by row."""
        for row in self.rows:
            yield from ((row.row, name, outcome) for name, outcome in row.outcomes.items())

    def of_attack(self, wanted: str) -> Iterator[tuple[Row, Outcome]]:
        """What one attack did to each erasure."""
        yield from ((row, outcome) for row, name, outcome in self.outcomes() if name == wanted)

    @property
    def tested(self) -> int:
        """Cells that the correction is over."""
        return sum(outcome.sign() is not None for _, _, outcome in self.outcomes())

    @property
    def untested(self) -> int:
        """Cells with figures that the correction leaves out."""
        return sum(outcome.is_measured and outcome.sign() is None for _, _, outcome in self.outcomes())


def build_attack_table(cells: Iterable[CellResult], header: Sequence[str]) -> AttackTable | None:
    """Orders what the attacks found and corrects their paired tests over the whole table (Holm).

    Args:
        cells: Results of one run.
        header: Lines over the table.

    Returns:
        The table, None where no attack was made.
    """
    cells = list(cells)
    if not any(cell.attacks for cell in cells):
        return None
    rows = tuple(sorted((_attack_row(cell) for cell in cells), key=lambda each: each.row.rank))
    for suffix in ("", SHOWN):
        _correct(rows, suffix)
    return AttackTable(tuple(header), rows)


def _attack_row(cell: CellResult) -> AttackRow:
    outcomes: dict[str, Outcome] = {}
    for record in cell.attacks:
        again = sum(each.record.label == record.label for each in outcomes.values())
        name = f"{record.label} ({again + 1})" if again else record.label
        outcomes[name] = Outcome(record, {figure["name"]: dict(figure) for figure in record.figures})
    return AttackRow(row_of(cell), outcomes, cell.stages)


def _correct(rows: Iterable[AttackRow], suffix: str) -> None:
    """Gives outcomes their `p_holm`; broken rows and what could not be significant are no part of it."""
    found = [each for row in rows if not row.row.broken for each in row.outcomes.values()]
    tested = [(each, each.p_value(suffix) or 0.0) for each in found if each.is_testable(suffix)]
    for (outcome, _), p_holm in zip(tested, holm([p_value for _, p_value in tested]), strict=True):
        outcome.p_holm[suffix] = p_holm
