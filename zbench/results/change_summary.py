"""Changes as Markdown, for the comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from zbench.results.changes import Changes, shown
from zbench.results.tree import Problem

if TYPE_CHECKING:
    from zbench.results.changes import FigureChange
    from zbench.results.schema import PublishedResult

MAIN = ("asr_explicit", "asr_implicit", "object_accuracy", "clip_score", "fid", "collapse_rate")
"""Figures of a new cell that are named, where its protocol names none."""

MOST_ROWS = 100
"""Rows of a table of the summary; the others are counted."""


def summary(changes: Changes, problems: Sequence[Problem] = (), name: str = "results") -> str:
    """Old and new figures, what was added and removed, and what is wrong.

    Args:
        changes: Between two versions of the tree.
        problems: Of the newer one.
        name: Of the tree.
    """
    moved = len({change.cell for change in changes.figures})
    lines = [
        f"## Changes of `{name}`",
        "",
        f"{len(changes.added)} new cells, {len(changes.removed)} removed,"
        f" {len(changes.figures)} changed figures in {moved} cells.",
        *_listed("Refused", [*map(str, problems), *changes.unexplained]),
        *_moved_table(changes.figures),
        *_listed("Removed", [f"{each.place}: {each.reason or 'not explained'}" for each in changes.removed]),
        *_added_table(changes.added),
    ]
    return "\n".join(lines) + "\n"


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"### {title}", "")
        yield from (f"- {escaped(line)}" for line in lines[:MOST_ROWS])
        yield from _more(len(lines))


def _more(count: int) -> Iterator[str]:
    if count > MOST_ROWS:
        yield from ("", f"and {count - MOST_ROWS} more.")


def _moved_table(figures: Sequence[FigureChange]) -> Iterator[str]:
    if not figures:
        return
    yield from ("", "### Changed figures", "", "| cell | figure | old | new | why |", "|---|---|---|---|---|")
    for each in figures[:MOST_ROWS]:
        texts = (each.cell, each.figure, shown(each.old), shown(each.new), each.reason or "**not explained**")
        yield _row(texts)
    yield from _more(len(figures))


def _added_table(results: Sequence[PublishedResult]) -> Iterator[str]:
    if not results:
        return
    columns = _columns(results)
    yield from ("", "### New cells", "", _row(("cell", *columns)), "|" + "---|" * (len(columns) + 1))
    for each in results[:MOST_ROWS]:
        figures = (each.result.figure(name) for name in columns)
        yield _row((each.id, *("" if figure is None else shown(figure) for figure in figures)))
    yield from _more(len(results))


def _columns(results: Iterable[PublishedResult]) -> list[str]:
    """Figures that any of the results was measured by."""
    named = dict.fromkeys(name for each in results for name in each.result.shown or MAIN)
    measured = {f["name"] for each in results for f in each.result.figures if f["value"] is not None}
    return [name for name in named if name in measured]


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(escaped(text) for text in texts)} |"


def escaped(text: str) -> str:
    """A text that stays text in a Markdown table, whoever wrote it; bold marks of our own are kept."""
    for letter, stands_for in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`")):
        text = text.replace(letter, stands_for)
    return " ".join(text.replace("@", "@\u200b").replace("[", "\\[").split())
