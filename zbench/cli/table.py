"""`zbench table`: the tables of a run folder, or of a tree of published results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zbench.errors import ConfigurationError, StoreError, UnknownNameError

if TYPE_CHECKING:
    from zbench.report.tables.choosing import Wish
    from zbench.report.tables.sheet import Document

FORMS = ("rich", "md", "csv", "latex", "html", "json")
_OF_RUNS = ("rich", "md", "csv")
"""Forms that a run folder has had from its first day, and has to the byte."""
WANTED = "give the folder of `zbench run --out`, or a results tree that `zbench collect` filled"
"""What the command shows, for those who gave something else."""

Results = Annotated[
    Path,
    typer.Argument(metavar="RESULTS", help="Run folder, one of its reports/ID folders, or a results tree."),
]
Form = Annotated[str, typer.Option("--format", help=f"{', '.join(FORMS[:-1])} or {FORMS[-1]}.")]
Columns = Annotated[
    str | None, typer.Option(help="Comma-separated names, such as asr_explicit,strongest_text,seconds.")
]
Sort = Annotated[
    str | None, typer.Option(metavar="[-]NAME", help="Column to sort by; - from the largest down.")
]
RowsOf = Annotated[
    Literal["methods", "trainings"] | None,
    typer.Option(help="A row for each.  [methods; of a run: trainings]"),
]
Concept = Annotated[str | None, typer.Option(help="Only this concept.")]
Model = Annotated[str | None, typer.Option(help="Only this model.")]
Protocol = Annotated[str | None, typer.Option(help="Only this protocol.")]
Paper = Annotated[bool, typer.Option("--paper", help="With what the paper printed, set apart.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write every table of a results tree here, as files.")
]
Cache = Annotated[Path | None, typer.Option(metavar="DIR", help="With --out: what is kept between calls.")]


def table(
    results: Results = Path("runs"),
    form: Form = "rich",
    columns: Columns = None,
    sort: Sort = None,
    rows: RowsOf = None,
    concept: Concept = None,
    model: Model = None,
    protocol: Protocol = None,
    paper: Paper = False,
    out: Out = None,
    cache: Cache = None,
) -> None:
    """Show the tables of results; nothing is measured."""
    from zbench.report.tables.choosing import Wish

    if form not in FORMS:
        raise UnknownNameError.of("format", form, FORMS)
    wish = Wish(_names(columns), sort, rows, concept, model, protocol, paper)
    if out is not None:
        _write_all(results, out, cache, plain=wish == Wish())
    else:
        _show(results, form, wish)


def _names(columns: str | None) -> tuple[str, ...] | None:
    if columns is None:
        return None
    names = tuple(name.strip() for name in columns.split(",") if name.strip())
    if not names:
        raise ConfigurationError(
            "--columns names no column: give names such as asr_explicit,fid, or leave the option out."
        )
    return names


def _show(results: Path, form: str, wish: Wish) -> None:
    from zbench.report.tables.choosing import Wish, documents, is_run

    of_run = is_run(results) or not _is_tree(results)
    if wish == Wish() and form in _OF_RUNS and of_run:
        from zbench.cli.running import show_table

        show_table(results, form)
        return
    made, problems = documents(results, wish)
    for problem in problems:
        print(f"skipped {problem}", file=sys.stderr)
    _print(made, form)


def _is_tree(folder: Path) -> bool:
    """Whether to read a folder as results; one of a run that never finished is told so as that.

    Raises:
        StoreError: There is nothing here that could be either.
    """
    from zbench.store import MARKER

    if not folder.is_dir():
        raise StoreError(f"There is no folder {folder}: {WANTED}.")
    if not any(folder.iterdir()):
        raise StoreError(f"{folder} holds no finished run and no published results: {WANTED}.")
    return not (folder / MARKER).exists()


def _print(made: list[Document], form: str) -> None:
    from zbench.report.tables import html, latex, machine, markdown, terminal

    if form == "rich":
        from rich.console import Console

        console = Console()
        console.print(terminal.render(made, console.width))
        return
    forms = {
        "md": markdown.render,
        "csv": machine.render_csv,
        "latex": latex.render,
        "html": html.render,
        "json": machine.render_json,
    }
    print(forms[form](made), end="")


def _write_all(results: Path, out: Path, cache: Path | None, *, plain: bool) -> None:
    """Writes the tables that a repository keeps beside its results."""
    from zbench.report.tables.render import render_all
    from zbench.report.tables.writing import write_tables

    if not plain:
        raise ConfigurationError(
            "--out writes every table whole: leave out the options that choose from them."
        )
    rendered = render_all(results, cache=cache)
    for problem in rendered.problems:
        print(f"skipped {problem}", file=sys.stderr)
    changed = write_tables(rendered, out)
    print(f"{out}: {len(rendered.files)} files, {changed} of them changed.")
