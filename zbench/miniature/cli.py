"""`zbench miniature`: make its models again, measure them, write its prompts, draw a sheet of its world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make, measure and look at the embedded miniature.")
Build = Annotated[Path, typer.Option(help="Folder for checkpoints and parts; a stopped run resumes from it.")]


@app.command()
def train(
    build: Build = Path("miniature-build"),
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all by default.")] = None,
) -> None:
    """Train every part (about three hours on two cores; needs a C++ compiler), resumable, and ship them."""
    from zbench.miniature.making import make

    make(build, threads)


@app.command()
def card(build: Build = Path("miniature-build")) -> None:
    """Measure the shipped parts on held-out data and write the model card beside them."""
    from zbench.miniature.making import measure_and_write

    measure_and_write(build)


@app.command()
def prompts(
    out: Annotated[Path, typer.Option(help="The `prompts/` folder to write into.")] = Path("prompts"),
) -> None:
    """Write the world's concepts and prompt sets from its grammar."""
    from zbench.miniature.catalogue import write_catalogue

    write_catalogue(out)
    typer.echo(f"wrote concepts and prompt sets into {out}")


@app.command()
def sheet(
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("world.png"),
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.")] = 0,
) -> None:
    """Draw a sheet of the world: everything it shows, plain and by each painter."""
    from zbench.miniature.sheet import draw_sheet

    draw_sheet(seed).save(out)
    typer.echo(f"wrote {out}")
