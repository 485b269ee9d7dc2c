"""`zbench run` and `zbench plan`: a grid from flags or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from zbench.cli import catalogue
from zbench.cli.options import Plugins
from zbench.errors import ConfigurationError

LAUNCHING = "Launching"
"""Help panel of the options that change no result."""

File = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN.toml]", help="A grid in a file; the options below win over what it says."),
]
Methods = Annotated[
    str | None,
    typer.Option(help="Comma-separated names, or `all` of zbench's own; `original` is always run."),
]
ConceptNames = Annotated[
    str | None, typer.Option("--concept", help="What to erase, comma-separated; see `zbench concepts`.")
]
ModelName = Annotated[
    str | None,
    typer.Option(help="Name (see `zbench models`) or folder of a saved ZImagePipeline.  [miniature]"),
]
Seeds = Annotated[int | None, typer.Option(help="Training seeds per method.  [1]")]
Out = Annotated[Path | None, typer.Option(help="Run folder.  [runs]")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME.FIELD=VALUE", help="Of a method or an attack; repeatable."),
]
Prompts = Annotated[int | None, typer.Option(help="Only the first N prompts of each set.")]
Preset = Annotated[str | None, typer.Option(help="Hyper-parameter preset.  [by the model]")]
ProtocolName = Annotated[str | None, typer.Option("--protocol", help="Evaluation protocol.  [zbench]")]
Repetitions = Annotated[int | None, typer.Option(help="Pictures per prompt.  [by the protocol]")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps.  [by protocol and model]")]
Height = Annotated[int | None, typer.Option(help="Picture height in pixels.  [by the model]")]
Width = Annotated[int | None, typer.Option(help="Picture width in pixels.  [by the model]")]
PromptsDir = Annotated[
    Path | None, typer.Option(help="Folder with your copies of prompt sets that are fetched.")
]
References = Annotated[Path | None, typer.Option(help="Folder of reference pictures for FID and KID.")]
Attacks = Annotated[
    str | None,
    typer.Option(help="Comma-separated names (see `zbench attacks`), `default`, `all`, or `replay:PATH`."),
]
AttackPrompts = Annotated[int | None, typer.Option(help="Attack the first N explicit prompts.  [50]")]
BatchSize = Annotated[int | None, typer.Option(help="Pictures per batch; changes no picture.  [16]")]
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
TimeLimit = Annotated[
    float | None,
    typer.Option(help="Seconds after which a cell counts as hanging.  [none]", rich_help_panel=LAUNCHING),
]
Keep = Annotated[
    str | None,
    typer.Option(help="pictures, or thumbnails once they are scored.  [pictures]", rich_help_panel=LAUNCHING),
]

_LAUNCH = ("launcher", "devices", "workers", "time_limit", "keep")
"""Options that are fields of `Launch`; the others are fields of `RunConfig`."""

_OTHERS = ("file", "json")


def run(
    context: typer.Context,
    file: File = None,
    methods: Methods = None,
    concept: ConceptNames = None,
    model: ModelName = None,
    training_seeds: Seeds = None,
    out: Out = None,
    settings: Settings = None,
    plugins: Plugins = None,
    prompts: Prompts = None,
    preset: Preset = None,
    protocol: ProtocolName = None,
    repetitions: Repetitions = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    references: References = None,
    prompts_dir: PromptsDir = None,
    attacks: Attacks = None,
    attack_prompts: AttackPrompts = None,
    batch_size: BatchSize = None,
    device: Device = None,
    launcher: Launcher = None,
    devices: Devices = None,
    workers: Workers = None,
    time_limit: TimeLimit = None,
    keep: Keep = None,
) -> None:
    """Erase concepts with some methods, draw, score, and compare with the unerased model."""
    from zbench.cli.running import run_and_show

    raise typer.Exit(run_and_show(_flags(context.params), file, context.obj or ()))


def plan(
    context: typer.Context,
    file: File = None,
    methods: Methods = None,
    concept: ConceptNames = None,
    model: ModelName = None,
    training_seeds: Seeds = None,
    out: Out = None,
    settings: Settings = None,
    plugins: Plugins = None,
    prompts: Prompts = None,
    preset: Preset = None,
    protocol: ProtocolName = None,
    repetitions: Repetitions = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    references: References = None,
    prompts_dir: PromptsDir = None,
    attacks: Attacks = None,
    attack_prompts: AttackPrompts = None,
    batch_size: BatchSize = None,
    device: Device = None,
    launcher: Launcher = None,
    devices: Devices = None,
    workers: Workers = None,
    time_limit: TimeLimit = None,
    keep: Keep = None,
    json: catalogue.AsJson = False,
) -> None:
    """Show what a run would do and how long it would take, and check its settings; nothing is written."""
    from zbench.cli.planning_view import show_plan
    from zbench.runner.grid import Grid

    show_plan(Grid.create(_flags(context.params), file), as_json=json)


def _flags(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a grid that a command line gives; the names of options are those of the fields."""
    from zbench.config import parse_settings

    launch = {name: parameters[name] for name in _LAUNCH}
    others = {
        name: value for name, value in parameters.items() if name not in (*_LAUNCH, *_OTHERS, "settings")
    }
    for name in ("methods", "attacks", "concept", "devices"):
        if parameters[name] is not None and not parameters[name].replace(",", " ").strip():
            what = name.removesuffix("s")
            raise ConfigurationError(f"--{name} names no {what}: give one or more, or leave the option out.")
    # An option that was not given is an empty list, which must not outdo a file.
    others["plugins"] = others["plugins"] or None
    return {**others, "settings": parse_settings(parameters["settings"] or []), "launch": launch}
