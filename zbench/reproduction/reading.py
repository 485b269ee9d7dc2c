"""What was measured for a table: the results of its runs, out of a run folder or out of a tree of results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zbench.report.trainings import Trainings
from zbench.reproduction.grids import Options, TableRun, table_runs
from zbench.reproduction.published import ResultTree
from zbench.reproduction.tables import ORIGINAL, PaperTable
from zbench.runner.planning import plan
from zbench.runner.specs import CellSpec

if TYPE_CHECKING:
    from zbench.reproduction.sources import Find
    from zbench.results.schema import PublishedResult

Place = tuple[str, str, str]
"""Row, concept and variant."""


@dataclass(frozen=True)
class Measured:
    """What was measured for a table.

    Attributes:
        table: The table.
        domain: Domain of the model.
        model: Its label.
        rows: (row, concept, variant) -> its trainings that are done.
        planned: (row, concept, variant) -> how many trainings it is to have.
        wanted: Cells that the table has.
        found: How many of them have figures.
        failed: Cells that failed or were skipped, with the reason, and files that are no results.
        left_out: Results that may not be compared with those that were read.
    """

    table: PaperTable
    domain: str
    model: str
    rows: dict[Place, Trainings]
    planned: dict[Place, int]
    wanted: int
    found: int
    failed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass
class _Found:
    """Results by place, while they are gathered."""

    rows: dict[Place, dict[int | None, PublishedResult]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    wanted: set[tuple[Place, int | None]] = field(default_factory=set)

    def add(self, place: Place, spec: CellSpec, result: PublishedResult | None) -> None:
        """Takes note of a planned cell."""
        self.wanted.add((place, spec.training_seed))
        if result is None:
            return
        if result.result.status != "done":
            how = f"{result.result.status} ({result.result.reason})"
            self.failed.append(f"{spec.label} on {spec.concept}: {how}")
            return
        self.rows.setdefault(place, {})[spec.training_seed] = with_attack_figures(result)

    @property
    def trainings(self) -> dict[Place, Trainings]:
        """By training seed."""
        return {
            place: Trainings([of[seed] for seed in sorted(of, key=lambda seed: seed or 0)])
            for place, of in self.rows.items()
        }


def read_measured(table: PaperTable, options: Options, find: Find) -> Measured:
    """The results of every cell that a table has.

    Args:
        table: The table.
        options: Which model, and how many trainings.
        find: Looks a cell up; see `zbench.reproduction.sources.finder`.
    """
    from zbench.model import load_spec

    model, found = load_spec(options.model), _Found()
    tree = find if isinstance(find, ResultTree) else None
    for run in table_runs(table, options):
        for spec in plan(run.config):
            found.add((_row(run, spec), run.concept, run.variant), spec, find(spec))
            found.left_out += tree.left_out(spec) if tree else ()
    rows = found.trainings
    return Measured(
        table=table,
        domain=model.domain,
        model=model.label,
        rows=rows,
        planned=dict(Counter(place for place, _ in found.wanted)),
        wanted=len(found.wanted),
        found=sum(len(each.results) for each in rows.values()),
        failed=_each_once((*found.failed, *(tree.problems if tree else ()))),
        left_out=_each_once(found.left_out),
    )


def _each_once(lines: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))


def _row(run: TableRun, spec: CellSpec) -> str:
    return ORIGINAL if spec.is_original else run.rows[spec.method]


def with_attack_figures(result: PublishedResult) -> PublishedResult:
    """The result with its attacks' figures among its own, as ``LABEL/FIGURE``, like their outcomes."""
    figures = [
        {**figure, "name": f"{record.label}/{figure['name']}"}
        for record in result.result.attacks
        for figure in record.figures
    ]
    own = result.result.model_copy(update={"figures": (*result.result.figures, *figures)})
    return result.model_copy(update={"result": own})
