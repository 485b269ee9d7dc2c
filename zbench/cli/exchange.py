"""`zbench export` and `zbench import`: erasures for those without zbench, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Cell = Annotated[
    str, typer.Argument(help="Id of a cell (cells/ID in the run folder), its beginning, or `zerase s0`.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Where to; must not hold anything yet.")]
Out = Annotated[Path, typer.Option(help="Run folder.")]
Place = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="A LoRA of diffusers or peft, a folder of a transformer or of a saved ZImagePipeline, a single "
        "safetensors checkpoint, or what `zbench export` wrote.",
    ),
]
ConceptName = Annotated[str, typer.Option(help="What it is said to have erased; see `zbench concepts`.")]
Name = Annotated[str | None, typer.Option(help="What its row is called.  [name of the file or folder]")]
Rows = Annotated[
    str | None, typer.Option(help="Rows that a LoRA acts on, text or all.  [as its file says, or all]")
]
Alpha = Annotated[float | None, typer.Option(help="Alpha of a LoRA whose file does not say it.  [its rank]")]
Partial = Annotated[bool, typer.Option("--partial", help="The checkpoint holds only changed tensors.")]
ModelName = Annotated[str | None, typer.Option(help="The unerased model, name or folder.  [miniature]")]
RunFolder = Annotated[Path | None, typer.Option(help="Run folder.  [runs]")]
Prompts = Annotated[int | None, typer.Option(help="Only the first N prompts of each set.")]
ProtocolName = Annotated[str | None, typer.Option("--protocol", help="Evaluation protocol.  [zbench]")]
Device = Annotated[str | None, typer.Option(help="Torch device.  [cuda where there is one]")]


def export(cell: Cell, folder: Folder, out: Out = Path("runs")) -> None:
    """Write an erasure as a folder with a model card, for diffusers and peft where they can do it."""
    from zbench.exchange.export import export_erasure

    done = export_erasure(cell, folder, out)
    print(f"{done.cell}: {done.kind.what}, {done.kind.rows} rows; README.md is its card.")
    if done.kind.adapter and not done.kind.exact:
        print("Stock loaders would put it on the picture's rows too: load it like this, or with zbench.")
    if done.kind.nearest:
        print(f"It needs zbench. Nearest without: {done.kind.nearest}")
    print(f"\nDIR = {done.folder}\n")
    print("\n".join(done.lines))


def import_(
    place: Place,
    concept: ConceptName,
    name: Name = None,
    rows: Rows = None,
    alpha: Alpha = None,
    partial: Partial = False,
    model: ModelName = None,
    out: RunFolder = None,
    prompts: Prompts = None,
    protocol: ProtocolName = None,
    device: Device = None,
) -> None:
    """Score an erased model made elsewhere; `zbench run --methods import:PATH,...` compares it."""
    from zbench.cli.running import run_and_show

    flags = {"concept": concept, "model": model, "out": out, "prompts": prompts, "protocol": protocol}
    said = {"rows": rows, "alpha": alpha, "partial": partial or None}
    raise typer.Exit(run_and_show({**flags, "device": device, **import_flags(place, name, said)}))


def import_flags(place: Path, name: str | None, said: dict[str, Any]) -> dict[str, Any]:
    """The fields of `RunConfig` that run an import.

    Args:
        place: File or folder.
        name: What its row is called; that of the file or folder when None.
        said: What the user says about it; None counts as not given.

    Raises:
        ConfigurationError: A name that cannot name a row, or nothing that can be read.
        WeightsError: It is truncated or altered.
    """
    from zbench.exchange.names import IMPORT, ImportName

    method = f"{IMPORT}{name}={place}" if name is not None else f"{IMPORT}{place}"
    settings = {field: value for field, value in said.items() if value is not None}
    flags: dict[str, Any] = {"methods": (method,)}
    return {**flags, "settings": {ImportName.parse(method).method: settings}} if settings else flags
