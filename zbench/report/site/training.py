"""Training traces of a group: a block for each method, a panel for each traced figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.site.charts.trace import Series, draw_trace
from zbench.report.trace_plot import NOT_SHOWN

if TYPE_CHECKING:
    from zbench.report.site.table import Results, Row
    from zbench.report.standing import Standing
    from zbench.results.schema import Trace

TITLES = {
    "loss": "Loss",
    "erase": "Erasure loss",
    "attention": "Attention loss",
    "preserve": "Preservation loss",
    "preserve_after": "Preservation loss after the step",
    "multiplier": "Multiplier λ",
    "gradient_norm": "Gradient norm, whole objective",
    "direction_norm": "Norm of the step taken",
    "erase_gradient_norm": "Gradient norm, erasure",
    "preserve_gradient_norm": "Gradient norm, preservation",
    "gradient_cosine": "Cosine of both gradients",
    "constraint": "Constraint (broken below 0)",
    "constraint_proxy": "Proxy of the constraint",
    "violation": "Constraint violation",
}
"""Titles of traced figures; any other is shown under its own name."""

_WATCHED = frozenset(
    {"gradient_norm", "direction_norm", "erase_gradient_norm", "preserve_gradient_norm", "gradient_cosine"}
)


@dataclass(frozen=True)
class Panel:
    """One traced figure.

    Attributes:
        title: Of the figure.
        svg: A line for each training.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class Training:
    """All traced figures of a row.

    Attributes:
        row: Its row of the main table.
        labels: Of the trainings, in the order of the styles of lines.
        panels: One for each figure, the leading one first.
    """

    row: Row
    labels: tuple[str, ...]
    panels: tuple[Panel, ...]


def trainings_of(rows: Sequence[tuple[Row, Standing]], results: Results) -> list[Training]:
    """Rows of which anything was traced."""
    found = (_training(row, standing, results) for row, standing in rows)
    return [training for training in found if training.panels]


def _training(row: Row, standing: Standing, results: Results) -> Training:
    traces = [
        ("" if source.training_seed is None else f"seed {source.training_seed}", results[source.id].trace)
        for source in standing.sources
        if results[source.id].trace.steps
    ]
    names = dict.fromkeys(name for _, trace in traces for name in trace.series)
    panels = tuple(_panels(traces, [name for name in names if name not in NOT_SHOWN], row.label))
    return Training(row, tuple(label for label, _ in traces), panels)


def _panels(traces: Sequence[tuple[str, Trace]], names: Sequence[str], label: str) -> Iterator[Panel]:
    for name in _ordered(names):
        series = [(of, points) for of, trace in traces if (points := _series(trace, name))[0]]
        if series:
            title = TITLES.get(name, name.replace("_", " "))
            yield Panel(title, draw_trace(series, f"{label}: {title}"))


def _ordered(names: Sequence[str]) -> list[str]:
    """Losses first, those that only one method knows among them, what merely watches the training last."""
    losses = [name for name in TITLES if name in names and name not in _WATCHED]
    watched = [name for name in TITLES if name in names and name in _WATCHED]
    return [*losses, *sorted(set(names) - set(TITLES)), *watched]


def _series(trace: Trace, name: str) -> Series:
    values = trace.series.get(name, ())
    points = [(step, value) for step, value in zip(trace.steps, values, strict=False) if value is not None]
    return [float(step) for step, _ in points], [value for _, value in points]
