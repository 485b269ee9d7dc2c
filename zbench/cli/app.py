"""Commands that run and look; each parses, calls one function of the library, and prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from zbench.cli import catalogue
from zbench.cli.attack_cards import attacks
from zbench.cli.check import check
from zbench.cli.compare import compare
from zbench.cli.detectors import app as detectors_app
from zbench.cli.options import Plugins
from zbench.cli.prompts import app as prompts_app
from zbench.cli.score import score
from zbench.cli.study import study
from zbench.cli.sweep import sweep
from zbench.cli.trace import trace
from zbench.errors import ConfigurationError, ZbenchError

RUN, LOOK, EXTEND = "Run", "Look", "Extend"

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

    Exit codes: 0 all is well, 1 a cell failed, 2 something must be mended first (one line says what).

    Args:
        arguments: Words after `zbench`; those of the process when None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app(args=[word for word in words if word != "--debug"], prog_name="zbench")
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


Methods = Annotated[
    str, typer.Option(help="Comma-separated names, or `all` of zbench's own; `original` is always run.")
]
ConceptName = Annotated[str, typer.Option(help="What to erase; see `zbench concepts`.")]
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


def _flags(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `RunConfig` that a command line gives; the names of options are those of the fields."""
    from zbench.config import parse_settings

    names = _names(parameters["methods"])
    if not names:
        raise ConfigurationError("--methods names no method: give one or more, such as zerase,uce,ac.")
    attacks = None if parameters["attacks"] is None else _names(parameters["attacks"])
    if attacks == ():
        raise ConfigurationError("--attacks names no attack: give one or more, or leave the option out.")
    settings = parse_settings(parameters["settings"] or [])
    others = {name: value for name, value in parameters.items() if name != "json"}
    # An option that was not given is an empty list, which must not outdo zbench.toml.
    plugins = parameters["plugins"] or None
    return {**others, "methods": names, "attacks": attacks, "settings": settings, "plugins": plugins}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command(rich_help_panel=RUN)
def run(
    context: typer.Context,
    methods: Methods,
    concept: ConceptName,
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
) -> None:
    """Erase a concept with some methods, draw, score, and compare with the unerased model."""
    flags = _flags(context.params)
    from zbench.cli.running import run_and_show

    raise typer.Exit(run_and_show(flags))


@app.command(rich_help_panel=RUN)
def plan(
    context: typer.Context,
    methods: Methods,
    concept: ConceptName,
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
    json: catalogue.AsJson = False,
) -> None:
    """Show what a run would do, and check its settings; nothing is written."""
    flags = _flags(context.params)
    from zbench.cli.running import show_plan

    show_plan(flags, as_json=json)


@app.command(rich_help_panel=LOOK)
def table(
    folder: Annotated[Path, typer.Argument(help="Run folder, or one of its reports/ID folders.")] = Path(
        "runs"
    ),
    form: Annotated[str, typer.Option("--format", help="rich, md or csv.")] = "rich",
) -> None:
    """Render the table of a finished run again; nothing is computed."""
    from zbench.cli.running import show_table

    show_table(folder, form)


app.command(rich_help_panel=LOOK)(compare)
app.command(rich_help_panel=LOOK)(trace)
app.command("methods", rich_help_panel=catalogue.PANEL)(catalogue.methods)
app.command("attacks", rich_help_panel=catalogue.PANEL)(attacks)
app.command("concepts", rich_help_panel=catalogue.PANEL)(catalogue.concepts)
app.add_typer(detectors_app, name="detectors", rich_help_panel=catalogue.PANEL)
app.add_typer(prompts_app, name="prompts", rich_help_panel=catalogue.PANEL)
app.command("models", rich_help_panel=catalogue.PANEL)(catalogue.models)


app.command("check", rich_help_panel=EXTEND)(check)
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
