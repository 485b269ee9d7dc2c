"""Tables as LaTeX for papers: booktabs, and siunitx columns that line up the decimal points.

Below each number stand its interval and its counts, smaller. Names of any kind come out as text that
pdfLaTeX can set; letters that it has no glyph for are named by their code point.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from zbench.report.tables.sheet import Cell, Column, Document, Row, Section, Sheet

PREAMBLE = (
    "% Made by zbench. In the preamble: \\usepackage{booktabs}, \\usepackage{siunitx} and"
    " \\usepackage{graphicx}."
)

_UNUSUAL = re.compile(r"[^A-Za-z0-9 .,:;()\[\]=*/+-]")
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(e[+-]\d+)?")

WRITTEN = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}", "–": "--", "—": "---",
    "≤": r"$\leq$", "≥": r"$\geq$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "×": r"$\times$", "±": r"$\pm$", "’": "'", "‘": "`", "“": "``", "”": "''",
}  # fmt: skip
"""What stands for letters that mean something to LaTeX, or that its fonts have under a name."""

_ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
"""Combining marks that pdfLaTeX can set on any letter."""

_LETTERS = frozenset("ßæœøåÆŒØÅ")


def render(documents: Iterable[Document]) -> str:
    """All tables, one after another, each a `table` of its own.

    Args:
        documents: In the order in which they are shown.
    """
    found = [(_title(document, sheet), sheet) for document in documents for sheet in document.sheets]
    labels = _labels([title for title, _ in found])
    tables = [_table(*each, label) for each, label in zip(found, labels, strict=True)]
    return "\n".join([PREAMBLE, "", "\n\n".join(tables), ""])


def _title(document: Document, sheet: Sheet) -> str:
    return f"{document.title}: {sheet.title.lower()}" if sheet.title else document.title


def _labels(titles: Sequence[str]) -> Iterator[str]:
    """A label for each title, numbered where another table has it: LaTeX would refer to the last of them."""
    seen: Counter[str] = Counter()
    for title in titles:
        key = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        seen[key] += 1
        label = f"{key}--{seen[key]}" if seen[key] > 1 else key
        yield label


def _table(title: str, sheet: Sheet, label: str) -> str:
    caption = ". ".join([title, *(line.rstrip(".") for line in sheet.header)])
    lines = [
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{escaped(caption)}.}}",
        f"\\label{{tab:{label}}}",
        "\\sisetup{detect-weight=true, mode=text}",
        "\\setlength{\\tabcolsep}{3pt}",
        "\\resizebox{\\linewidth}{!}{%",
        *_tabular(sheet),
        "}",
        *_notes(sheet.notes),
        "\\end{table}",
    ]
    return "\n".join(lines)


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield "\\par\\smallskip"
        yield "{\\footnotesize\\raggedright"
        yield from (f"{escaped(line)}\\par" for line in notes)
        yield "}"


def _tabular(sheet: Sheet) -> Iterator[str]:
    rows = list(sheet.rows)
    formats = [_format([row.cells[at] for row in rows]) for at in range(len(sheet.columns))]
    yield f"\\begin{{tabular}}{{l{''.join(f'S[table-format={each}]' for each in formats)}}}"
    yield "\\toprule"
    yield " & ".join([escaped(sheet.label), *map(_heading, sheet.columns)]) + " \\\\"
    for section in sheet.sections:
        yield "\\midrule"
        yield from _section(section, 1 + len(sheet.columns))
    yield "\\bottomrule"
    yield "\\end{tabular}%"


def _heading(column: Column) -> str:
    """In braces, which keep siunitx from reading it; title and unit on lines of their own."""
    lines = " \\\\ ".join(escaped(part) for part in column.heading.split(", "))
    return f"{{\\begin{{tabular}}[b]{{@{{}}c@{{}}}}{lines}\\end{{tabular}}}}"


def _section(section: Section, columns: int) -> Iterator[str]:
    if section.title:
        yield f"\\multicolumn{{{columns}}}{{l}}{{\\itshape {escaped(section.title)}}} \\\\"
    for number, row in enumerate(section.rows):
        if number:
            yield "\\addlinespace"
        yield from _lines(row)


def _lines(row: Row) -> Iterator[str]:
    """The numbers; below them, smaller, the intervals with the marks, and what else belongs to them."""
    # A bracket or a star at the beginning of a line would belong to the line break before it.
    yield " & ".join([f"{{}}{escaped(row.label)}", *map(_number, row.cells)]) + " \\\\"
    for line in zip_longest(*map(_small, row.cells), fillvalue=""):
        if any(line):
            cells = (f"{{\\scriptsize {escaped(text)}}}" if text else "" for text in line)
            yield " & ".join(["", *cells]) + " \\\\"


def _number(cell: Cell) -> str:
    number, bold = cell.shown.number, "\\bfseries " if cell.best else ""
    return f"{bold}{number}" if _NUMBER.fullmatch(number) else f"{{{bold}{escaped(number)}}}"


def _small(cell: Cell) -> list[str]:
    shown = cell.shown
    marked = (shown.counted, shown.mark, "=" if shown.tied else "")
    lines = (
        shown.bounds,
        " ".join(part for part in marked if part),
        f"{{{cell.seeds}}}" if cell.seeds else "",
        f"corrected {shown.corrected}" if shown.corrected else "",
        *cell.beside,
    )
    return [line for line in lines if line]


def _format(cells: Sequence[Cell]) -> str:
    """The `table-format` that all numbers of a column fit in."""
    found = [_NUMBER.fullmatch(cell.shown.number) for cell in cells]
    numbers = [each.groups() for each in found if each is not None]
    if not numbers:
        return "1.0"
    sign = "-" if any(number[0] for number in numbers) else ""
    whole = max(len(number[1]) for number in numbers)
    decimals = max(len(number[2] or "") for number in numbers)
    exponent = "e-2" if any(number[3] for number in numbers) else ""
    return f"{sign}{whole}.{decimals}{exponent}"


def escaped(text: str) -> str:
    """Text as LaTeX that sets it, on one line.

    Args:
        text: Anything.
    """
    return _UNUSUAL.sub(lambda found: _letter(found.group()), " ".join(text.split()))


def _letter(letter: str) -> str:
    if letter in WRITTEN:
        return WRITTEN[letter]
    if " " <= letter <= "~" or letter in _LETTERS:
        return letter
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS:
        return letter
    return f"(U+{ord(letter):04X})"
