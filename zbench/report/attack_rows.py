"""What the attacks of a run found, row by row and attack by attack, tested over the whole table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from zbench.attacks.base import Knowledge
from zbench.metrics.robustness import SHOWN
from zbench.report.rows import Row, row_of
from zbench.statistics import holm

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord
    from zbench.runner.specs import CellResult

LEVEL = 0.05


@dataclass(frozen=True)
class Outcome:
    """What one attack did to one erasure.

    Attributes:
        record: As stored with the cell.
        figures: Name -> figure; `attack_excess` has its corrected p-value as `p_holm`.
    """

    record: AttackRecord
    figures: dict[str, dict[str, Any]]

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

    def differs(self, suffix: str = "") -> bool | None:
        """Whether attack and control surely differ; None where that was not tested."""
        p_holm = self.figures.get(f"attack_excess{suffix}", {}).get("p_holm")
        return None if p_holm is None else bool(p_holm < LEVEL)

    @property
    def is_below(self) -> bool:
        """Whether the control surely found more than the attack."""
        return bool(self.differs()) and (self.value("attack_excess") or 0.0) < 0


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
        knowledge = {name: outcome.record.knowledge for _, name, outcome in self.outcomes()}
        weakest_first = list(get_args(Knowledge))
        return tuple(sorted(knowledge, key=lambda name: weakest_first.index(knowledge[name])))

    def outcomes(self) -> Iterator[tuple[Row, str, Outcome]]:
        """Every attack on every erasure, row by row."""
        for row in self.rows:
            yield from ((row.row, name, outcome) for name, outcome in row.outcomes.items())

    def of_attack(self, wanted: str) -> Iterator[tuple[Row, Outcome]]:
        """What one attack did to each erasure."""
        yield from ((row, outcome) for row, name, outcome in self.outcomes() if name == wanted)

    @property
    def tested(self) -> int:
        """Paired tests that the correction is over."""
        return sum(outcome.differs() is not None for _, _, outcome in self.outcomes())


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
        _correct(rows, f"attack_excess{suffix}")
    return AttackTable(tuple(header), rows)


def _attack_row(cell: CellResult) -> AttackRow:
    outcomes: dict[str, Outcome] = {}
    for record in cell.attacks:
        again = sum(each.record.label == record.label for each in outcomes.values())
        name = f"{record.label} ({again + 1})" if again else record.label
        outcomes[name] = Outcome(record, {figure["name"]: dict(figure) for figure in record.figures})
    return AttackRow(row_of(cell), outcomes, cell.stages)


def _correct(rows: Iterable[AttackRow], name: str) -> None:
    """Adds `p_holm` to the figures of this name, which are the rows' own copies."""
    found = [each.figures.get(name, {}) for row in rows for each in row.outcomes.values()]
    tested = [figure for figure in found if figure.get("p_value") is not None]
    for figure, p_holm in zip(tested, holm([figure["p_value"] for figure in tested]), strict=True):
        figure["p_holm"] = p_holm
