"""`zbench collect`: publishes finished cells of run folders in a tree of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from zbench.results.collect import Collected

RESULTS = Path("results")

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUNS... [RESULTS]", help="Run folders; then the tree, where it is not `results`."
    ),
]
Shortened = Annotated[bool, typer.Option("--shortened", help="Also cells of shortened prompt sets.")]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite other results of the same cells.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing, only say what would be done.")]
Protocols = Annotated[
    str | None, typer.Option("--protocol", help="Only cells of these, separated by commas.  [all]")
]
Flagged = Annotated[
    Literal["hide", "keep"],
    typer.Option(help="Small pictures of delicate concepts: unrecognisable, or kept for a private tree."),
]


def collect(
    folders: Folders,
    shortened: Shortened = False,
    replace: Replace = False,
    dry_run: DryRun = False,
    flagged: Flagged = "hide",
    protocol: Protocols = None,
) -> None:
    """Publish the finished cells of run folders; those that cannot be are refused, each with its reason."""
    from zbench.protocols import load_protocol
    from zbench.results.collect import Wish, collect

    runs, out = split_folders(folders)
    named = tuple(name.strip() for name in (protocol or "").split(",") if name.strip())
    wanted = tuple(load_protocol(name).name for name in named)
    collected = collect(runs, out, Wish(shortened, replace, dry_run, flagged, wanted))
    print("\n".join(report_lines(collected, out, dry_run)))
    raise typer.Exit(1 if collected.refused else 0)


def split_folders(folders: Sequence[Path]) -> tuple[list[Path], Path]:
    """Run folders, and the tree: the last folder where it is no run folder, else `results`."""
    from zbench.store import MARKER

    if len(folders) > 1 and not (folders[-1] / MARKER).exists():
        return list(folders[:-1]), folders[-1]
    return list(folders), RESULTS


def report_lines(collected: Collected, out: Path, dry_run: bool) -> list[str]:
    """What was done, the refused cells with their reasons first.

    Args:
        collected: What became of the cells.
        out: Root of the tree.
        dry_run: Nothing was written.
    """
    lines = [f"refused {each.cell}: {reason}" for each in collected.refused for reason in each.reasons]
    lines += [f"left out {each.cell}: {reason}" for each in collected.covered for reason in each.reasons]
    lines += [f"superseded {place}: removed" for place in collected.removed]
    names = ("written", "replaced", "unchanged", "refused")
    counts = {name: len(getattr(collected, name)) for name in names}
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing to do"
    return [*lines, f"{out}: {told}{' (dry run: nothing was written)' if dry_run else ''}"]
