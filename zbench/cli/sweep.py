"""`zbench sweep`: the erasure-preservation curve of one hyper-parameter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zbench.cli.options import Plugins
from zbench.errors import ConfigurationError

MethodName = Annotated[str, typer.Argument(help="See `zbench methods`.", show_default=False)]
FieldName = Annotated[str, typer.Argument(help="Hyper-parameter.", show_default=False)]
Values = Annotated[str, typer.Argument(help="Comma-separated, such as 0.5,1,2.", show_default=False)]
ConceptName = Annotated[str, typer.Option(help="What to erase; its tuning prompts are used.")]
ModelName = Annotated[
    str | None, typer.Option(help="Name (see `zbench models`) or folder of a pipeline.  [miniature]")
]
Device = Annotated[str | None, typer.Option(help="Torch device.  [cuda where there is one]")]
Prompts = Annotated[int | None, typer.Option(help="Only the first N prompts of each tuning set.", min=1)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Other hyper-parameter; repeatable.")
]
Out = Annotated[Path | None, typer.Option(help="Folder.  [sweeps/METHOD-FIELD-CONCEPT]")]


def sweep(
    method: MethodName,
    field: FieldName,
    values: Values,
    concept: ConceptName = "violence",
    model: ModelName = None,
    prompts: Prompts = None,
    settings: Settings = None,
    plugins: Plugins = None,
    device: Device = None,
    out: Out = None,
) -> None:
    """Draw how one hyper-parameter trades erasure against preservation, on tuning prompts."""
    from rich.console import Console
    from rich.table import Table

    from zbench.config import RunConfig, parse_fields
    from zbench.runner.display.progress import reporter_for_terminal
    from zbench.store import safe_name
    from zbench.studies.sweep import HEADINGS, rows_of
    from zbench.studies.sweep import sweep as run_sweep

    # The run's own sources of the default model: flag, environment, zbench.toml.
    config = RunConfig.shared({"model": model, "device": device, "plugins": plugins})
    folder = out or Path("sweeps") / safe_name(f"{method}-{field}-{concept}")
    others = parse_fields(method, settings or [])
    with reporter_for_terminal() as reporter, reporter.stage(f"sweep {method} {field}") as advance:
        found = run_sweep(
            method, field, read_values(values), concept=concept, out=folder, model=config.model,
            prompts=prompts, settings=others, plugins=config.plugins, device=config.device, progress=advance,
        )  # fmt: skip
    table = Table(*HEADINGS, title=f"{method}: {field}, concept {concept}, tuning prompts")
    for row in rows_of(found):
        table.add_row(*row)
    Console().print(table)
    print(f"The curve is {folder / 'curve.png'}")


def read_values(text: str) -> list[Any]:
    """Values out of `a,b,c`; each is JSON where it can be, else text. A JSON list is taken as it is.

    Raises:
        ConfigurationError: An entry is empty.
    """
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except ValueError as error:
            raise ConfigurationError(f"{text}: not a JSON list ({error}).") from error
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ConfigurationError(f"{text!r}: write values separated by commas, such as 0.5,1,2.")
    return [_literal(word) for word in words]


def _literal(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
