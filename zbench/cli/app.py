"""Commands that run and look; each parses, calls one function of the library, and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from zbench.cli import catalogue
from zbench.cli.attack_cards import attacks
from zbench.cli.cell import cell
from zbench.cli.check import check
from zbench.cli.clean import clean
from zbench.cli.collect import collect
from zbench.cli.compare import compare
from zbench.cli.detectors import app as detectors_app
from zbench.cli.exchange import export, import_
from zbench.cli.leaderboard import leaderboard
from zbench.cli.prompts import app as prompts_app
from zbench.cli.reproduce import reproduce
from zbench.cli.run import plan, run
from zbench.cli.score import score
from zbench.cli.status import status
from zbench.cli.study import study
from zbench.cli.sweep import sweep
from zbench.cli.table import table
from zbench.cli.trace import trace
from zbench.errors import ZbenchError

RUN, LOOK, EXTEND, INTERNAL = "Run", "Look", "Extend", "Internal"

app = typer.Typer(
    name="zbench",
    help="A benchmark for concept erasure in single-stream diffusion transformers.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `zbench`; always leaves by SystemExit.

    Exit codes: 0 all is well, 1 a cell failed, 2 something must be mended first (one line says what), 130 it
    was stopped and can be gone on with.

    Args:
        arguments: Words after `zbench`; those of the process when None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app(args=[word for word in words if word != "--debug"], prog_name="zbench", obj=tuple(words))
    except ZbenchError as error:
        if debug:
            raise
        print(f"zbench: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _show_version(wanted: bool) -> None:
    if wanted:
        import zbench

        print(zbench.__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Options of the program itself; `main` reads --debug before the commands are parsed."""


app.command(rich_help_panel=RUN)(run)
app.command(rich_help_panel=RUN)(plan)
app.command(rich_help_panel=RUN)(status)
app.command(rich_help_panel=RUN)(clean)


app.command(rich_help_panel=LOOK)(table)
app.command(rich_help_panel=LOOK)(leaderboard)
app.command(rich_help_panel=LOOK)(reproduce)
app.command(rich_help_panel=LOOK)(compare)
app.command(rich_help_panel=LOOK)(trace)
app.command("methods", rich_help_panel=catalogue.PANEL)(catalogue.methods)
app.command("attacks", rich_help_panel=catalogue.PANEL)(attacks)
app.command("concepts", rich_help_panel=catalogue.PANEL)(catalogue.concepts)
app.add_typer(detectors_app, name="detectors", rich_help_panel=catalogue.PANEL)
app.add_typer(prompts_app, name="prompts", rich_help_panel=catalogue.PANEL)
app.command("models", rich_help_panel=catalogue.PANEL)(catalogue.models)


app.command("check", rich_help_panel=EXTEND)(check)
app.command("collect", rich_help_panel=EXTEND)(collect)
app.command("export", rich_help_panel=EXTEND)(export)
app.command("import", rich_help_panel=EXTEND)(import_)
app.command("score", rich_help_panel=EXTEND)(score)
app.command("sweep", rich_help_panel=EXTEND)(sweep)
app.command("study", rich_help_panel=EXTEND)(study)


@app.command(
    rich_help_panel=EXTEND,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def miniature(context: typer.Context) -> None:
    """Make or inspect the embedded miniature model (`zbench miniature --help`)."""
    from zbench.miniature.cli import app as miniature_app

    miniature_app(args=context.args or ["--help"], prog_name="zbench miniature")


app.command("cell", rich_help_panel=INTERNAL)(cell)
