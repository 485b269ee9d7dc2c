"""The rows of a comparison table: ordered, tested over the whole table, and marked where they are broken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zbench.config import ORIGINAL
from zbench.metrics.collapse import COLLAPSED_FROM
from zbench.protocols import require_one_protocol
from zbench.report.values import SHOWN, TITLES
from zbench.statistics import holm

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        method: Name of the method.
        training_seed: None for `original`.
        status: Of its cell: `done`, `skipped`, `failed`.
        figures: Name -> figure, with `p_holm` added, and `corrected` where a corrected rate is beside it.
        collapsed: Whether too many pictures look like no picture of the unerased model.
        destroyed: Whether the generator draws unrelated objects hardly better than chance.
        remark: Why a row has no figures.
    """

    method: str
    training_seed: int | None
    status: str
    figures: dict[str, dict[str, Any]]
    collapsed: bool = False
    destroyed: bool = False
    remark: str = ""

    @property
    def label(self) -> str:
        """Name with seed, and the marks of a broken row."""
        seed = "" if self.training_seed is None else f" (seed {self.training_seed})"
        marks = "".join(mark for mark, set_ in (("†", self.collapsed), ("‡", self.destroyed)) if set_)
        return f"{self.method}{seed}{' ' if marks else ''}{marks}"

    @property
    def broken(self) -> bool:
        """Whether the row is marked and ranked last: a broken generator cannot win."""
        return self.collapsed or self.destroyed

    @property
    def rank(self) -> int:
        """`original` first, broken rows last."""
        if self.method == ORIGINAL:
            return 0
        return 3 if self.broken else {"done": 1}.get(self.status, 2)


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes:
        header: Lines that name model, protocol, prompts, repetitions and training seeds.
        rows: In the order in which they are shown.
        wanted: Figures that a person reads.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    wanted: tuple[str, ...] = SHOWN

    @property
    def figure_names(self) -> list[str]:
        """All figures that any row has, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row.figures))

    @property
    def shown(self) -> list[str]:
        """The figures of the readable table: those that were measured for any row."""
        measured = {name for row in self.rows for name, f in row.figures.items() if f["value"] is not None}
        return [name for name in TITLES if name in self.wanted and name in measured]


def build_table(
    cells: Iterable[CellResult], header: Sequence[str], ties: Mapping[str, Sequence[str]] | None = None
) -> Table:
    """Orders results, corrects p-values over the methods (Holm) and marks broken rows.

    Args:
        cells: Results of one protocol.
        header: See `Table`.
        ties: Figure -> ids of the cells that are best or tied with the best.

    Raises:
        ConfigurationError: The results are of different protocols, or of different versions of one.
    """
    cells = list(cells)
    require_one_protocol(cell.provenance["protocol"] for cell in cells if "protocol" in cell.provenance)
    rows = _corrected([row_of(cell, ties) for cell in cells])
    wanted = next((cell.shown for cell in cells if cell.shown), SHOWN)
    return Table(tuple(header), tuple(sorted(rows, key=lambda row: row.rank)), wanted)


def row_of(cell: CellResult, ties: Mapping[str, Sequence[str]] | None = None) -> Row:
    """A cell's row, before its p-values are corrected over the table.

    Args:
        cell: The result.
        ties: See `build_table`.
    """
    figures = {figure["name"]: dict(figure) for figure in cell.figures}
    for name, figure in figures.items():
        if ties and cell.id in ties.get(name, ()):
            figure["tied"] = True
        beside = figures.get(f"{name}_corrected", {}).get("value")
        if beside is not None:
            figure["corrected"] = beside
    verdict, original = cell.verdict or _plain_verdict(figures), cell.spec.is_original
    return Row(
        method=cell.spec.method,
        training_seed=cell.spec.training_seed,
        status=cell.status,
        figures=figures,
        collapsed=bool(verdict.get("collapsed")) and not original,
        destroyed=bool(verdict.get("destroyed")) and not original,
        remark=cell.reason,
    )


def _plain_verdict(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """For results that hold no verdict: the flag rate alone."""
    low = figures.get("collapse_rate", {}).get("low")
    return {"collapsed": low is not None and low > COLLAPSED_FROM}


def _corrected(rows: list[Row]) -> list[Row]:
    """Adds `p_holm`: each figure's paired tests against `original`, corrected over all rows that have one."""
    figures = [dict(row.figures) for row in rows]
    for name in {name for each in figures for name in each}:
        tested = [each for each in figures if each.get(name, {}).get("p_value") is not None]
        for each, p_holm in zip(tested, holm([each[name]["p_value"] for each in tested]), strict=True):
            each[name] = {**each[name], "p_holm": p_holm}
    return [replace(row, figures=each) for row, each in zip(rows, figures, strict=True)]
