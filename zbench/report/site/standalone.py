"""A chart as a file of its own, for places that show no page: its style comes along."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from zbench.report.site.charts.plane import SIZE
from zbench.report.site.charts.svg import plain
from zbench.report.site.places import STYLE

_OPENING = "<svg "
_NAMESPACE = 'xmlns="http://www.w3.org/2000/svg" '
_KEPT = (".chart", ".plane")
_PAPER = "svg { background: var(--paper); font-family: var(--sans); }"


def standalone(svg: str) -> str:
    """A chart with the rules of the style sheet that it needs, on the page's own paper.

    Args:
        svg: As a page holds it.
    """
    opening, _, rest = svg.removeprefix(_OPENING).partition(">")
    size = f'width="{plain(SIZE[0])}" height="{plain(SIZE[1])}" '
    return f"{_OPENING}{_NAMESPACE}{size}{opening}><style>{_rules()}</style>{rest}\n"


@cache
def _rules() -> str:
    """The colours of the page, and what its style sheet says of charts."""
    text = files("zbench.report.site").joinpath(*STYLE.parts).read_text("utf-8")
    start = text.index(":root {")
    colours = text[start : text.index("}", start) + 1]
    lines = [line for line in text.splitlines() if line.startswith(_KEPT)]
    return "\n".join([colours, *lines, _PAPER]).replace("&", "&amp;").replace("<", "&lt;")
