"""The robustness ladder: success under each attack beside its control, weakest knowledge first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.site.charts.curve import draw_curve
from zbench.report.values import EMPTY, shown

if TYPE_CHECKING:
    from zbench.report.site.table import Row
    from zbench.report.standing import AttackStanding, Standing, StandingFigure, Standings

KNOWLEDGE = {
    "text": "words only",
    "encoder": "the text encoder",
    "model": "the model, through its gradients",
    "weights": "the weights, to change them",
}
"""What an attacker needs, as a heading says it."""

_READ = (
    ("attack_pre", "plain pictures"),
    ("attack_post", "under attack"),
    ("control_post", "control"),
    ("retry_post", "plain retries"),
    ("attack_excess", "over control, points"),
    ("attack_excess_retry", "over retries, points"),
    ("attack_confirmed", "confirmed with fresh noise"),
)


@dataclass(frozen=True)
class Rung:
    """One attack on one row.

    Attributes:
        text: Success under attack in percent, or a dash.
        value: For sorting; empty where there is none.
        beside: What control and retries reached, in percent.
        counted: n of N.
        sign: 1 where it surely found more than both, -1 less, 0 neither, None untested.
        coverage: How many trainings were attacked, where not all were.
        svg: Success against budget.
        lines: Every figure in words.
        reason: Why there is no figure.
    """

    text: str
    value: str = ""
    beside: tuple[tuple[str, str], ...] = ()
    counted: str = ""
    sign: int | None = None
    coverage: str = ""
    svg: str = ""
    lines: tuple[tuple[str, str], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class LadderRow:
    """A row under all attacks.

    Attributes:
        row: Its row of the main table.
        plain: Success without attack, in percent; a dash where attacks saw different prompts.
        plain_value: For sorting.
        rungs: One for each attack.
    """

    row: Row
    plain: str
    plain_value: str
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Ladder:
    """All attacks of a group.

    Attributes:
        attacks: (name, knowledge) of each, what needs least knowledge first.
        rows: Rows that were attacked.
        prompts: Attacked prompts of a training, where they are the same for all; None otherwise.
    """

    attacks: tuple[tuple[str, str], ...]
    rows: tuple[LadderRow, ...]
    prompts: int | None

    @property
    def steps(self) -> list[tuple[str, int]]:
        """What attackers need, and how many attacks need it."""
        needs = [needed for _, needed in self.attacks]
        return [(KNOWLEDGE.get(need, need), needs.count(need)) for need in dict.fromkeys(needs)]


def ladder_of(found: Standings, rows: Sequence[Row]) -> Ladder | None:
    """The ladder of a group; None where nothing was attacked.

    Args:
        found: Standings of the group.
        rows: Rows of the main table, in the same order.
    """
    names = found.attack_names
    if not names:
        return None
    pairs = [(row, standing) for row, standing in zip(rows, found.rows, strict=True) if standing.attacks]
    under = [each for _, standing in pairs for each in standing.attacks.values()]
    needs = {each.name: each.knowledge for each in under}
    prompts = {each.prompts for each in under if each.status == "done"}
    return Ladder(
        tuple((name, needs[name]) for name in names),
        tuple(_row(row, standing, names) for row, standing in pairs),
        prompts.pop() if len(prompts) == 1 else None,
    )


def _row(row: Row, standing: Standing, names: Sequence[str]) -> LadderRow:
    plain = {_percent(each.figures.get("attack_pre")) for each in standing.attacks.values()} - {EMPTY}
    same = plain.pop() if len(plain) == 1 else EMPTY
    rungs = tuple(_rung(standing.attacks.get(name), row.label) for name in names)
    return LadderRow(row, same, "" if same == EMPTY else same, rungs)


def _percent(figure: StandingFigure | None) -> str:
    return shown(None if figure is None else figure.plain()).number


def _rung(attack: AttackStanding | None, label: str) -> Rung:
    if attack is None:
        return Rung(EMPTY)
    post = attack.figures.get("attack_post")
    if post is None or post.value is None:
        return Rung(EMPTY, reason=f"{attack.status}: {attack.reason}" if attack.reason else attack.status)
    beside = tuple(
        (title, _percent(attack.figures.get(name)))
        for name, title in (("control_post", "control"), ("retry_post", "retries"))
        if name in attack.figures
    )
    bounds = None if post.low is None or post.high is None else (post.low, post.high)
    title = f"{attack.name} on {label}"
    return Rung(
        text=_percent(post),
        value=f"{post.value:.8g}",
        beside=beside,
        counted=f"{post.n}/{post.N}" if post.n is not None else "",
        sign=attack.sign,
        coverage=attack.coverage,
        svg=draw_curve(attack.curve, bounds, title) if attack.curve else "",
        lines=tuple(_lines(attack)),
    )


def _lines(attack: AttackStanding) -> list[tuple[str, str]]:
    lines = [(title, _line(attack.figures[name])) for name, title in _READ if name in attack.figures]
    if attack.p_holm is not None:
        lines.append(("both excesses", f"p = {attack.p_holm:.2g}, Holm-corrected over rows and attacks"))
    if attack.coverage:
        lines.append(("attacked", attack.coverage))
    if attack.budget is not None:
        lines.append(("budget", f"{attack.budget} judged candidates a prompt, {attack.prompts} prompts"))
    spent = ", ".join(f"{name} {value:.4g}" for name, value in sorted(attack.spent.items()) if value)
    return [*lines, ("spent a prompt", spent)] if spent else lines


def _line(figure: StandingFigure) -> str:
    if figure.value is None:
        return figure.note or EMPTY
    signed = figure.unit == "points"
    scale = 100 if figure.unit == "rate" else 1
    text = f"{figure.value:+.1f}" if signed else f"{scale * figure.value:.1f} %"
    counted = "" if figure.n is None else f" ({figure.n}/{figure.N})"
    if figure.low is None or figure.high is None:
        return f"{text}{counted}"
    ends = (scale * figure.low, scale * figure.high)
    written = f"{ends[0]:+.1f} to {ends[1]:+.1f}" if signed else f"{ends[0]:.3g} to {ends[1]:.3g}"
    return f"{text}{counted}, 95 % {written}"
