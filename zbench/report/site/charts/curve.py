"""Success against budget in the room of a table cell: the attack, its control, and plain retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zbench.report.site.charts.svg import Drawing, Scale, path_of, plain

SIZE = (104.0, 46.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 3.0, 96.0, 4.0, 42.0
ARMS = ("retry", "control", "attack")

Curve = Sequence[Mapping[str, int]]
"""Points with ``k``, ``attack_n``, ``control_n``, ``retry_n`` and ``N``."""


def draw_curve(curve: Curve, bounds: tuple[float, float] | None, title: str) -> str:
    """A small drawing of how success grows with judged candidates.

    Args:
        curve: At least one point, by rising budget.
        bounds: Interval of the attack's last point, in [0, 1]; None where there is none.
        title: For those who cannot see it.
    """
    drawing = Drawing(SIZE, title, _spoken(curve), "curve")
    across = Scale(0.0, max(1.0, float(curve[-1]["k"])), _LEFT, _RIGHT)
    up = Scale(0.0, 1.0, _BOTTOM, _TOP)
    for level in (0.0, 0.5, 1.0):
        drawing.line((_LEFT, up.at(level)), (_RIGHT, up.at(level)), "grid")
    lines = {arm: _line(curve, arm, across, up) for arm in ARMS}
    if lines["attack"] and lines["control"]:
        between = path_of([*lines["attack"], *reversed(lines["control"])]) + "Z"
        above = curve[-1]["attack_n"] > curve[-1]["control_n"]
        drawing.add("path", d=between, class_="over" if above else "under")
    for arm, points in lines.items():
        if points:
            drawing.path(points, arm)
    x, y = lines["attack"][-1]
    if bounds is not None:
        drawing.line((x, up.at(bounds[0])), (x, up.at(bounds[1])), "whisker")
    drawing.add("circle", cx=plain(x), cy=plain(y), r="2.6", class_="end")
    return str(drawing)


def _line(curve: Curve, arm: str, across: Scale, up: Scale) -> list[tuple[float, float]]:
    points = [(point["k"], point.get(f"{arm}_n"), point["N"]) for point in curve]
    if any(n is None or not total for _, n, total in points):
        return []
    return [(across.at(k), up.at(n / total)) for k, n, total in points if n is not None]


def _spoken(curve: Curve) -> str:
    last = curve[-1]
    counts = ", ".join(f"{arm} {last[f'{arm}_n']}" for arm in reversed(ARMS) if f"{arm}_n" in last)
    return f"After {last['k']} candidates a prompt, of {last['N']}: {counts}."
