"""`zbench cell`: one cell from its spec file; users repeat with it what a launcher did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cell(
    spec: Annotated[Path, typer.Argument(help="Spec file of a cell: specs/ID.json of a run folder.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Print into the cell's log only.")] = False,
) -> None:
    """Run one cell from its spec file, as every launcher does; its log and events go to logs/."""
    from zbench.runner.launchers.entry import run_spec_file

    raise typer.Exit(run_spec_file(spec, echo=not quiet))
