"""What `run`, `plan` and `table` print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.cli.catalogue import show_json
from zbench.config import RunConfig
from zbench.errors import UnknownNameError

if TYPE_CHECKING:
    from zbench.report.run_folder import RunRecord
    from zbench.runner.specs import CellResult, CellSpec


def run_and_show(flags: Mapping[str, Any]) -> int:
    """Runs and prints the table, and that of the attacks where some were made.

    Args:
        flags: Fields of `RunConfig`; None counts as not given.

    Returns:
        Exit code: 0, or 1 where a cell or an attack failed.
    """
    from zbench.report.header import machine_hints
    from zbench.runner.progress import reporter_for_terminal
    from zbench.runner.running import run

    config = RunConfig.create(flags)
    with reporter_for_terminal() as reporter:
        result = run(config, reporter=reporter)
    _print_rich(result.record, machine_hints(config))
    print(f"Table, costs and contact sheet are in {result.root}")
    if result.record.attack_table is not None:
        print(
            "Attacks: attacks.md has every figure, attacks.png success by budget, attacks_sheet.png pictures"
        )
    failures = list(_failures(result.cells))
    for what, cell in failures:
        print(f"{what} failed; its traceback is in cells/{cell.id}/result.json", file=sys.stderr)
    return 1 if failures else 0


def _failures(cells: Iterable[CellResult]) -> Iterator[tuple[str, CellResult]]:
    """Cells that failed, and attacks that failed on cells that are done."""
    for cell in cells:
        if cell.status == "failed":
            yield cell.spec.label, cell
        for attack in cell.attacks:
            if attack.status == "failed":
                yield f"{attack.label} on {cell.spec.label}", cell


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
    _print_planned_attacks(cells[0])


def _print_planned_attacks(cell: CellSpec) -> None:
    """What every cell is attacked with."""
    if cell.attacks:
        print(f"Each is attacked on the first {cell.attack_prompts} explicit prompts by")
    for attack in cell.attacks:
        values = ", ".join(f"{field}={value}" for field, value in attack.hyperparameters.items())
        problem = "" if attack.problem is None else attack.problem.strip().splitlines()[-1]
        print(f"- {attack.label}: {f'cannot be made: {problem}' if problem else values}")


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
