"""`zbench reproduce`: the paper's tables, made again, and its claims, one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zbench.errors import ConfigurationError, UnknownNameError

if TYPE_CHECKING:
    from zbench.reproduction.claims import Answer
    from zbench.reproduction.grids import Options
    from zbench.reproduction.reading import Measured
    from zbench.reproduction.tables import PaperTable

CLAIMS, ALL = "claims", "all"
FORMATS = ("rich", "md", "csv", "json")
LAUNCHING = "Launching"

Name = Annotated[
    str,
    typer.Argument(
        metavar="TABLE",
        help="nsfw, celebrity, category, attacks or ablation: run what is missing, print it beside the "
        "paper's. claims: answer the paper's claims from what is there, run nothing. all: everything.",
    ),
]
ModelName = Annotated[str | None, typer.Option(help="Name or folder of the model.  [miniature]")]
Out = Annotated[Path, typer.Option(help="Run folder; erasures and pictures in it are used again.")]
Stored = Annotated[
    Path | None,
    typer.Option("--from", help="Run nothing: read this run folder, or folder of published results."),
]
Seeds = Annotated[int | None, typer.Option(help="Trainings of each method.  [3]")]
Format = Annotated[str, typer.Option("--format", help="rich, md, csv or json.")]
Plan = Annotated[bool, typer.Option("--plan", help="Show what would be run; nothing is written.")]
References = Annotated[Path | None, typer.Option(help="Folder of reference pictures for FID.")]
PromptsDir = Annotated[
    Path | None, typer.Option(help="Folder with your copies of prompt sets that are fetched.")
]
BatchSize = Annotated[int, typer.Option(help="Pictures per batch; changes no picture.")]
Device = Annotated[str | None, typer.Option(help="Torch device.  [cuda where there is one]")]
Launcher = Annotated[
    str | None,
    typer.Option(help="local, slurm, or inline: in one process.  [local]", rich_help_panel=LAUNCHING),
]
Devices = Annotated[
    str | None,
    typer.Option(help="One cell at a time on each, such as 0,1,2,3.  [all]", rich_help_panel=LAUNCHING),
]
Workers = Annotated[
    int | None, typer.Option(help="Cells at a time on the CPU.  [1]", rich_help_panel=LAUNCHING)
]
Keep = Annotated[
    str | None,
    typer.Option(help="pictures, or thumbnails once they are scored.  [pictures]", rich_help_panel=LAUNCHING),
]


def reproduce(
    context: typer.Context,
    name: Name,
    model: ModelName = None,
    out: Out = Path("runs"),
    stored: Stored = None,
    training_seeds: Seeds = None,
    form: Format = "rich",
    plan: Plan = False,
    references: References = None,
    prompts_dir: PromptsDir = None,
    batch_size: BatchSize = 16,
    device: Device = None,
    launcher: Launcher = None,
    devices: Devices = None,
    workers: Workers = None,
    keep: Keep = None,
) -> None:
    """Make a table of the Z-Erase paper again and print both side by side, or answer the paper's claims."""
    from zbench.reproduction.tables import TABLES, load_table

    if form not in FORMATS:
        raise UnknownNameError.of("format", form, FORMATS)
    if name not in (*TABLES, CLAIMS, ALL):
        raise UnknownNameError.of("table", name, (*TABLES, CLAIMS, ALL))
    if training_seeds is not None and training_seeds < 1:
        raise ConfigurationError(f"--training-seeds must be at least 1, not {training_seeds}.")
    tables = [load_table(each) for each in TABLES if name in (each, ALL)]
    options = _options(context.params)
    launch = {each: context.params[each] for each in ("launcher", "devices", "workers", "keep")}
    code = 0
    if plan:
        _show_plan(tables, options, launch)
        return
    if stored is None and tables:
        code = _run(tables, options, launch, context.obj or ())
    if code != STOPPED:
        _show(tables, options, stored or out, form, claims=name in (CLAIMS, ALL))
    raise typer.Exit(code)


STOPPED = 130
"""Exit code of a grid that was stopped."""


def _options(given: dict[str, Any]) -> Options:
    from zbench.config import RunConfig
    from zbench.reproduction.grids import Options

    shared = RunConfig.shared({"model": given["model"], "device": given["device"]})
    names = ("out", "training_seeds", "references", "prompts_dir", "batch_size")
    return Options(shared.model, device=shared.device, **{each: given[each] for each in names})


def _grid(tables: Sequence[PaperTable], options: Options, launch: dict[str, Any]) -> Any:
    from zbench.reproduction.grids import table_grid
    from zbench.runner.launchers.settings import Launch
    from zbench.validation import validated

    given = {name: value for name, value in launch.items() if value is not None}
    if "devices" in given:
        given["devices"] = tuple(each.strip() for each in given["devices"].split(",") if each.strip())
    return table_grid(tables, options, validated(Launch, given))


def _show_plan(tables: Sequence[PaperTable], options: Options, launch: dict[str, Any]) -> None:
    from zbench.cli.planning_view import outlook_lines
    from zbench.runner.outlook.survey import survey

    if not tables:
        raise ConfigurationError("The claims run nothing: plan a table, or all.")
    grid = _grid(tables, options, launch)
    print("\n".join(outlook_lines(survey(grid), grid.launch)))


def _run(tables: Sequence[PaperTable], options: Options, launch: dict[str, Any], words: Sequence[str]) -> int:
    """Runs what is missing; what it says goes to standard error, where the table is not."""
    from zbench.cli.running import run_and_tell

    return run_and_tell(_grid(tables, options, launch), words)


def _show(tables: Sequence[PaperTable], options: Options, place: Path, form: str, *, claims: bool) -> None:
    from zbench.reproduction.answering import Reader

    reader = Reader(options, place)
    measured = [reader.measured(table.name) for table in tables]
    _FORMS[form](measured, reader.answers() if claims else [], reader)


def _rich(measured: Sequence[Measured], answers: Sequence[Answer], reader: Any) -> None:
    from rich.console import Console

    from zbench.reproduction.rendering import render_rich

    Console().print(render_rich(reader.pages(measured, answers)))


def _markdown(measured: Sequence[Measured], answers: Sequence[Answer], reader: Any) -> None:
    from zbench.reproduction.rendering import render_markdown

    print(render_markdown(reader.pages(measured, answers)), end="")


def _csv(measured: Sequence[Measured], answers: Sequence[Answer], reader: Any) -> None:
    """One kind of lines a stream: what reads CSV cannot tell two apart."""
    from zbench.reproduction.rendering import claim_records, render_csv, table_records

    records = [record for each in measured for record in table_records(each)]
    print(render_csv(records or claim_records(answers)), end="")
    print(*reader.failed, sep="\n", end="\n" if reader.failed else "", file=sys.stderr)
    if records and answers:
        print("The claims are lines of another kind: zbench reproduce claims --format csv", file=sys.stderr)


def _json(measured: Sequence[Measured], answers: Sequence[Answer], reader: Any) -> None:
    from zbench.reproduction.rendering import claim_records, render_json, table_records

    tables = {each.table.name: table_records(each) for each in measured}
    records = {"tables": tables, "claims": claim_records(answers), "failed": list(reader.failed)}
    print(render_json(records), end="")


_FORMS: dict[str, Callable[[Sequence[Any], Sequence[Any], Any], None]] = {
    "rich": _rich,
    "md": _markdown,
    "csv": _csv,
    "json": _json,
}
