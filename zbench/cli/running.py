"""What `run` and `table` print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import UnknownNameError

if TYPE_CHECKING:
    from zbench.report.run_folder import RunRecord
    from zbench.runner.grid import Grid
    from zbench.runner.running import RunResult


def run_and_show(flags: Mapping[str, Any], file: Path | None = None, words: Sequence[str] = ()) -> int:
    """Runs a grid, and prints the table of each concept and that of the attacks where some were made.

    Args:
        flags: Settings of the grid; None counts as not given.
        file: A grid in a file.
        words: The command line after `zbench`: what goes on where this ends.

    Returns:
        Exit code; see `run_and_tell`.
    """
    from zbench.runner.grid import Grid

    grid = Grid.create(flags, file)
    return run_and_tell(grid, words, lambda each: _print_run(each, grid))


def run_and_tell(
    grid: Grid, words: Sequence[str] = (), finished: Callable[[RunResult], None] | None = None
) -> int:
    """Runs a grid, and says on standard error what is to do, what is done, and how it went.

    Args:
        grid: The grid.
        words: The command line after `zbench`: what goes on where this ends.
        finished: Told each run whose cells all have results, before it is said how it went.

    Returns:
        Exit code: 0; 1 where a cell or an attack failed; 130 where it was stopped.
    """
    from zbench.cli.planning_view import outlook_lines
    from zbench.runner.display.closing import closing_lines, resume_command
    from zbench.runner.display.opening import open_board
    from zbench.runner.display.progress import reporter_for_terminal
    from zbench.runner.outlook.survey import survey
    from zbench.runner.running import run_grid

    inline, found = grid.launch.launcher == "inline", survey(grid)
    _tell(outlook_lines(found, grid.launch))
    with reporter_for_terminal(live=inline) as reporter:
        board = None if inline else open_board
        result = run_grid(grid, reporter=reporter, open_board=board, expected=found.estimates)
    for each in result.runs:
        if finished is not None:
            finished(each)
    _tell(closing_lines(result.ends, result.seconds, resume_command(words)))
    if result.stopped:
        return 130
    return 1 if any(end.status == "failed" or end.attacks for end in result.ends) else 0


def _tell(lines: Iterable[str]) -> None:
    print("\n".join(lines), file=sys.stderr, flush=True)


def _print_run(result: RunResult, grid: Grid) -> None:
    from zbench.report.header import machine_hints

    _print_rich(result.record, machine_hints(grid.runs[0]))
    place = result.root / "reports" / result.record.id if len(grid.runs) > 1 else result.root
    print(f"Table, costs and contact sheet are in {place}")
    if result.record.attack_table is not None:
        print(
            "Attacks: attacks.md has every figure, attacks.png success by budget, attacks_sheet.png pictures"
        )


def show_table(folder: Path, form: str) -> None:
    """Prints the table of a finished run, and that of its attacks.

    Args:
        folder: Run folder or one of its report folders.
        form: `rich`, `md` or `csv`.
    """
    from zbench.report.run_folder import read_record

    forms = {"rich": _print_rich, "md": _print_markdown, "csv": _print_csv}
    if form not in forms:
        raise UnknownNameError.of("format", form, forms)
    forms[form](read_record(folder))


def _print_markdown(record: RunRecord) -> None:
    from zbench.report import attack_table, table

    print(table.render_markdown(record.table), end="")
    if record.attack_table is not None:
        print(f"\n{attack_table.render_markdown(record.attack_table)}", end="")


def _print_csv(record: RunRecord) -> None:
    """One table a stream: what reads CSV cannot tell two apart."""
    from zbench.report.table import render_csv

    print(render_csv(record.table), end="")
    if record.attack_table is not None:
        print("What the attacks found is in the run folder's attacks.csv", file=sys.stderr)


def _print_rich(record: RunRecord, hints: Sequence[str] = ()) -> None:
    from rich.console import Console

    from zbench.report import attack_table, table

    console = Console()
    console.print(table.render_rich(record.table, hints, console.width))
    if record.attack_table is not None:
        console.print(attack_table.render_rich(record.attack_table, console.width))
