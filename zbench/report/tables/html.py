"""Tables as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from zbench.report.tables.sheet import Cell, Document, Section, Sheet, said_once

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid; }
tbody + tbody { border-top: 1px solid; }
small { display: block; opacity: .75; }
.broken { opacity: .7; }
.scroll { overflow-x: auto; }
"""

_VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def render(documents: Iterable[Document]) -> str:
    """A page with all tables.

    Args:
        documents: In the order in which they are shown.
    """
    found = list(documents)
    title = found[0].title if len(found) == 1 else "zbench"
    body = "\n".join(line for document in found for line in _document(document))
    head = f'<meta charset="utf-8">\n{_VIEWPORT}\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _document(document: Document) -> Iterator[str]:
    yield f"<h1>{escape(document.title)}</h1>"
    for sheet in said_once(document.sheets):
        yield from _sheet(sheet)


def _sheet(sheet: Sheet) -> Iterator[str]:
    if sheet.title:
        yield f"<h2>{escape(sheet.title)}</h2>"
    yield from (f"<p>{escape(line)}</p>" for line in sheet.header)
    heads = "".join(f'<th scope="col">{escape(column.heading)}</th>' for column in sheet.columns)
    name = escape(sheet.title or "Results", quote=True)
    yield f'<div class="scroll" tabindex="0" role="group" aria-label="{name}">'
    yield f'<table>\n<thead><tr><th scope="col">{escape(sheet.label)}</th>{heads}</tr></thead>'
    for section in sheet.sections:
        yield from _section(section, 1 + len(sheet.columns))
    yield "</table>\n</div>"
    yield from (f"<p><small>{escape(line)}</small></p>" for line in sheet.notes)


def _section(section: Section, columns: int) -> Iterator[str]:
    yield '<tbody class="broken">' if section.pale else "<tbody>"
    if section.title:
        yield f'<tr><th colspan="{columns}" scope="rowgroup"><em>{escape(section.title)}</em></th></tr>'
    for row in section.rows:
        cells = "".join(map(_cell, row.cells))
        yield f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>'
    yield "</tbody>"


def _cell(cell: Cell) -> str:
    number = escape(cell.shown.number)
    details = " ".join(cell.details)
    small = f"<small>{escape(details)}</small>" if details else ""
    return f"<td>{f'<strong>{number}</strong>' if cell.best else number}{small}</td>"
