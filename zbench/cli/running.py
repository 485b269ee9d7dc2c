"""What `run`, `plan` and `table` print."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zbench.cli.catalogue import show_json
from zbench.config import RunConfig
from zbench.errors import UnknownNameError


def run_and_show(flags: Mapping[str, Any]) -> int:
    """Runs and prints the table.

    Args:
        flags: Fields of `RunConfig`; None counts as not given.

    Returns:
        Exit code: 0, or 1 where a cell failed.
    """
    from zbench.report.header import machine_hints
    from zbench.runner.progress import reporter_for_terminal
    from zbench.runner.running import run

    config = RunConfig.create(flags)
    with reporter_for_terminal() as reporter:
        result = run(config, reporter=reporter)
    _print_rich(result.table, machine_hints(config))
    print(f"Table, costs and contact sheet are in {result.root}")
    for cell in result.failed:
        print(f"{cell.spec.label} failed; its traceback is in cells/{cell.id}/result.json", file=sys.stderr)
    return 1 if result.failed else 0


def show_plan(flags: Mapping[str, Any], as_json: bool) -> None:
    """Prints the cells of a run, and the hyper-parameters that they resolve to.

    Args:
        flags: Fields of `RunConfig`; None counts as not given.
        as_json: Print the cells' specs for machines.
    """
    from zbench.report.header import header_lines
    from zbench.runner.planning import plan

    config = RunConfig.create(flags)
    cells = plan(config)
    if as_json:
        show_json([cell.model_dump(mode="json") for cell in cells])
        return
    print("\n".join(header_lines(config, cells)))
    for cell in cells:
        values = ", ".join(f"{field}={value}" for field, value in cell.hyperparameters.items())
        problem = "" if cell.problem is None else f"cannot be run: {cell.problem.strip().splitlines()[-1]}"
        print(f"- {cell.label}{': ' if problem or values else ''}{problem or values}")


def show_table(folder: Path, form: str) -> None:
    """Prints the table of a finished run.

    Args:
        folder: Run folder or one of its report folders.
        form: `rich`, `md` or `csv`.
    """
    from zbench.report.run_folder import read_record
    from zbench.report.table import render_csv, render_markdown

    forms = {"rich": _print_rich, "md": _printer(render_markdown), "csv": _printer(render_csv)}
    if form not in forms:
        raise UnknownNameError.of("format", form, forms)
    forms[form](read_record(folder).table)


def _printer(render: Any) -> Any:
    return lambda table: print(render(table), end="")


def _print_rich(table: Any, hints: list[str] | None = None) -> None:
    from rich.console import Console

    from zbench.report.table import render_rich

    console = Console()
    console.print(render_rich(table, hints or [], console.width))
