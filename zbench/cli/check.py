"""`zbench check`: a method held to the rules of the conformance suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zbench.cli.catalogue import AsJson, show_json
from zbench.cli.options import Plugins

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.conformance import Report

MethodName = Annotated[str, typer.Argument(help="A method; see `zbench methods`.")]
Preset = Annotated[str | None, typer.Option(help="Hyper-parameter preset.  [by the model]")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Hyper-parameter; repeatable.")
]
ConceptName = Annotated[str | None, typer.Option(help="What it erases.  [one that no table reports]")]
ModelName = Annotated[
    str | None,
    typer.Option(help="Name (see `zbench models`) or folder of a saved ZImagePipeline.  [miniature]"),
]
Only = Annotated[str | None, typer.Option(help="Comma-separated names of checks.  [all]")]
Device = Annotated[str | None, typer.Option(help="Torch device.  [cuda where there is one]")]

_STYLES = {"pass": "green", "fail": "bold red", "skip": "dim"}


def check(
    name: MethodName,
    plugins: Plugins = None,
    preset: Preset = None,
    settings: Settings = None,
    concept: ConceptName = None,
    model: ModelName = None,
    only: Only = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Hold a method to the rules: same seed same weights, model left alone, concept gone, others kept ..."""
    from zbench.config import RunConfig, parse_fields
    from zbench.conformance import check as run_checks
    from zbench.runner.display.progress import reporter_for_terminal

    # The run's own sources of the default model: flag, environment, zbench.toml.
    config = RunConfig.shared({"model": model, "device": device, "plugins": plugins})
    values = parse_fields(name, settings or [])
    names = None if only is None else [each.strip() for each in only.split(",") if each.strip()]
    with reporter_for_terminal() as reporter:
        report = run_checks(
            name, plugins=config.plugins, preset=preset, settings=values, concept=concept,
            model=config.model, device=config.device, only=names, reporter=reporter,
        )  # fmt: skip
    show_report(report, json)
    raise typer.Exit(0 if report.passed else 1)


def show_report(report: Report, as_json: bool) -> None:
    """Prints what every check found, and the tracebacks below."""
    if as_json:
        show_json({**report.model_dump(mode="json"), "passed": report.passed})
        return
    from rich.console import Console

    console = Console()
    console.print(_table(report))
    for result in report.checks:
        if result.trace:
            console.print(f"{result.name}:\n{result.trace}", markup=False, highlight=False)
    counts = {status: sum(each.status == status for each in report.checks) for status in _STYLES}
    console.print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped", markup=False)


def _table(report: Report) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    preset = f", preset {report.preset}" if report.preset else ""
    table = Table(title=Text(f"{report.method} erases {report.concept} from {report.model}{preset}"))
    for heading in ("Check", "Result", "What must hold", "What was found"):
        table.add_column(heading)
    for result in report.checks:
        cells: list[Any] = [result.name, Text(result.status, _STYLES[result.status])]
        table.add_row(*cells, Text(result.sentence), Text(result.said))
    return table
