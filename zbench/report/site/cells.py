"""Figures as the page shows them: a number, what it was counted on, its interval and its marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zbench.report.site.charts.svg import plain
from zbench.report.values import ARROWS, EMPTY, TITLES, shown

if TYPE_CHECKING:
    from zbench.report.standing import StandingFigure

BETTER = {"lower": "lower is better", "higher": "higher is better"}

GONE, KEPT, SOUND = "Is it gone?", "Is the rest still there?", "Does the model still work?"
"""What figures are about, in the order of a table."""

_GONE = ("asr_", "count_", "acc_e", "acc_g")
_SOUND = ("collapse_", "modes", "diversity", "seed_diversity", "manifold_precision")

Track = tuple[str, str, str]
"""Lower bound, value and upper bound along a column, in percent of its width."""


@dataclass(frozen=True)
class Column:
    """A figure as a column.

    Attributes:
        name: Machine name.
        title: As a person reads it.
        unit: What follows the title: ``%``, or nothing.
        direction: ``lower``, ``higher`` or ``none``.
        about: What it is about.
        span: Values at both ends of the tracks, in the figure's own unit.
        settings: Detector, threshold, extractor: what is the same for all rows.
    """

    name: str
    title: str
    unit: str
    direction: str
    about: str
    span: tuple[float, float]
    settings: str = ""

    @property
    def arrow(self) -> str:
        """Which way is better, as an arrow."""
        return ARROWS.get(self.direction, "")

    @property
    def better(self) -> str:
        """Which way is better, in words."""
        return BETTER.get(self.direction, "")


@dataclass(frozen=True)
class Cell:
    """A figure of a row.

    Attributes:
        text: The number.
        counted: ``12/40``, with the number of pictures that they are worth; empty for what is no count.
        bounds: The interval.
        value: For sorting, in the figure's own unit; empty where there is none.
        marks: Signs of a reader's legend.
        best: Whether nobody has a better value.
        track: Where value and interval lie along the column.
        how: How the interval was computed and what the test says, in words.
        note: Why there is no number, or what to know about it.
    """

    text: str
    counted: str = ""
    bounds: str = ""
    value: str = ""
    marks: str = ""
    best: bool = False
    track: Track | None = None
    how: str = ""
    note: str = ""


def about(name: str) -> str:
    """What a figure is about."""
    if name.startswith(_GONE):
        return GONE
    return SOUND if name.startswith(_SOUND) else KEPT


def columns_of(names: Sequence[str], figures: Iterable[Mapping[str, StandingFigure]]) -> list[Column]:
    """Columns for figures, those about the same side by side.

    Args:
        names: Of the figures.
        figures: Those of every row.
    """
    rows = list(figures)
    found = (_column(name, [row[name] for row in rows if name in row]) for name in names)
    return sorted(
        (each for each in found if each is not None), key=lambda c: (GONE, KEPT, SOUND).index(c.about)
    )


def _column(name: str, figures: Sequence[StandingFigure]) -> Column | None:
    measured = [figure for figure in figures if figure.value is not None]
    if not measured:
        return None
    first = measured[0]
    return Column(
        name=name,
        title=title_of(name),
        unit="%" if first.unit == "rate" else "",
        direction=first.direction,
        about=about(name),
        span=_span(measured),
        settings=described(first.settings),
    )


def title_of(name: str) -> str:
    """A figure's title; those without one are shown under their own name."""
    return TITLES.get(name, name.replace("_", " "))


def _span(figures: Sequence[StandingFigure]) -> tuple[float, float]:
    if figures[0].unit == "rate":
        return 0.0, 1.0
    ends = [end for f in figures for end in (f.low, f.value, f.high) if end is not None]
    return min(ends), max(ends)


def described(settings: Mapping[str, Any]) -> str:
    """Settings of a figure in a line, what it was measured with first, hashes shortened."""
    told = {name: value for name, value in settings.items() if not isinstance(value, dict | list | tuple)}
    ordered = sorted(told, key=lambda name: (name != "name", name))
    lines = (f"{name.replace('_', ' ')} {_short(told[name])}" for name in ordered if told[name] is not None)
    return ", ".join(lines).removeprefix("name ")


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def cell_of(figure: StandingFigure | None, column: Column) -> Cell:
    """A figure as a cell of its column; None gives a dash."""
    if figure is None or figure.value is None:
        return Cell(EMPTY, note="" if figure is None else figure.note)
    parts = shown(figure.plain())
    return Cell(
        text=parts.number,
        counted=parts.counted,
        bounds=parts.bounds,
        value=f"{figure.value:.8g}",
        marks=f"{parts.mark} {'=' if parts.tied else ''}".strip(),
        best=figure.best,
        track=_track(figure, column.span),
        how=_how(figure),
        note=figure.note,
    )


def _track(figure: StandingFigure, span: tuple[float, float]) -> Track | None:
    if figure.value is None or span[1] <= span[0]:
        return None
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    shares = (100 * (end - span[0]) / (span[1] - span[0]) for end in (low, figure.value, high))
    bounded = [plain(min(100.0, max(0.0, share))) for share in shares]
    return bounded[0], bounded[1], bounded[2]


def _how(figure: StandingFigure) -> str:
    parts = [f"95 % interval: {figure.interval}"] if figure.interval else []
    if figure.p_holm is not None:
        parts.append(f"p = {figure.p_holm:.2g} over prompts against the original, Holm-corrected over rows")
    if figure.scatters:
        parts.append("but its trainings scatter too much to say so of the method: ns")
    if figure.seeds is not None:
        ends = (_number(end, figure.unit) for end in (figure.seeds.low, figure.seeds.high))
        parts.append(f"{figure.seeds.count} trainings, from {' to '.join(ends)}")
    if figure.corrected is not None:
        parts.append(f"corrected for the detector's errors {100 * figure.corrected:.1f}")
    return "; ".join(parts)


def _number(value: float, unit: str) -> str:
    return shown({"value": value, "unit": unit, "n": None, "low": None, "high": None}).number


def columns_over(groups: Iterable[Sequence[Column]]) -> list[Column]:
    """The columns of a table over several groups: every figure that any of them shows, once."""
    found: dict[str, Column] = {}
    for columns in groups:
        for column in columns:
            found.setdefault(column.name, column)
    return sorted(found.values(), key=lambda column: (GONE, KEPT, SOUND).index(column.about))
