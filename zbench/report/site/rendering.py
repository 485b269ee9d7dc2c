"""Templates into pages: everything that comes from results is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from zbench import __version__
from zbench.report.names import file_name
from zbench.report.site import places
from zbench.report.site.cells import GONE
from zbench.store import safe_name

if TYPE_CHECKING:
    from zbench.report.site.cells import Cell, Column

_HREF = "HREF"

_MARKS = {
    "*": "differs from the original",
    "ns": "not shown to differ from the original",
    "=": "not surely worse than the best",
}


def render(template: str, place: PurePosixPath, **values: Any) -> str:
    """One page of the site.

    Args:
        template: Name of its template.
        place: Where it will stand, which all its links start from.
        **values: What the template shows.
    """

    def link(target: PurePosixPath | str) -> str:
        return places.reference(target, place)

    text = (
        _environment()
        .get_template(template)
        .render(link=link, version=__version__, place=place, spoken_marks=spoken_marks, **values)
    )
    return "\n".join(line for line in text.split("\n") if line.strip()) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("zbench.report.site", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = lambda text: safe_name(str(text)).lower()
    environment.filters["model_key"] = lambda name: f"model-{file_name(str(name))}"
    environment.filters["zip_titles"] = _titles
    environment.filters["code"] = _code
    environment.filters["soft"] = _soft
    environment.globals["plain_cell"] = _plain_cell
    for name in ("INDEX", "GUIDE", "STYLE", "SCRIPT"):
        environment.globals[name] = getattr(places, name)
    environment.globals["GONE"] = GONE
    environment.globals["family_page"] = places.family_page
    environment.globals["method_page"] = places.method_page
    return environment


def _titles(names: Iterable[str], columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    titles = {column.name: column.title for column in columns}
    yield from ((name, titles[name]) for name in names)


def _code(text: str) -> Markup:
    """Text whose ``names`` are set as code."""
    parts = str(text).split("``")
    if len(parts) % 2 == 0:
        return escape(text)
    tagged = (
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )
    return Markup("").join(tagged)


def _plain_cell(cell: Cell, href: str) -> Markup:
    """A cell of the tables over many groups; the same ones stand on several pages, and there are many."""
    before, after = _around_link(cell)
    return Markup(f"{before}{escape(href)}{after}" if cell.value else before)


@lru_cache(maxsize=1 << 16)
def _around_link(cell: Cell) -> tuple[str, str]:
    rendered = _environment().get_template("plain_cell.html.j2").render(cell=cell, spoken_marks=spoken_marks)
    before, _, after = rendered.strip().partition(_HREF)
    return before, after


def _soft(name: str) -> Markup:
    """A name that may be broken after its underscores."""
    return Markup("_<wbr>").join(escape(part) for part in str(name).split("_"))


def spoken_marks(marks: str) -> str:
    """The signs of a figure in words."""
    return "; ".join(_MARKS.get(mark, mark) for mark in marks.split())
