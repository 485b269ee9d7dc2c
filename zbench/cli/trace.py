"""`zbench trace`: how a training went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zbench.errors import ConfigurationError

if TYPE_CHECKING:
    from zbench.report.traces import StoredTrace

Place = Annotated[
    str,
    typer.Argument(
        metavar="CELL_OR_FOLDER",
        help="Id of a cell or erasure (or its beginning), or folder of an erasure, cell or run.",
        show_default=False,
    ),
]
Run = Annotated[Path, typer.Option("--run", help="Run folder in which ids are looked up.")]
MethodName = Annotated[
    str | None, typer.Option("--method", help="Which method of a run folder; all its training seeds.")
]
Out = Annotated[Path | None, typer.Option("--out", help="FILE.png.  [RUN/traces/METHOD-CONCEPT.png]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the trace itself; no picture.")]


def trace(
    place: Place, run: Run = Path("runs"), method: MethodName = None, out: Out = None, json: AsJson = False
) -> None:
    """Plot the training trace of an erasure: losses, multiplier, gradients, constraint."""
    from zbench.report.traces import find_traces

    if out is not None and out.suffix.lower() != ".png":
        raise ConfigurationError(f"--out {out}: traces are drawn as PNG; give a name that ends in .png.")
    traces = find_traces(place, run, method)
    if json:
        from zbench.cli.catalogue import show_json

        show_json({label: list(each.rows) for label, each in _labelled(traces).items()})
        return
    _show(traces, out or _usual_place(traces[0]))


def _show(traces: Sequence[StoredTrace], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from zbench.report.trace_plot import figures_of, plot_traces
    from zbench.store import atomic_write_bytes
    from zbench.studies import make_folder

    labelled = {label: each.rows for label, each in _labelled(traces).items()}
    first = traces[0]
    picture = plot_traces(labelled, f"{first.method}, {first.concept}: {len(first.rows)} steps")
    make_folder(out.parent)
    atomic_write_bytes(out, picture)
    table = Table(*_HEADINGS, title=f"{first.method}, {first.concept}")
    for name in figures_of(labelled):
        for row in _lines(name, labelled):
            table.add_row(*row)
    Console().print(table)
    print(f"The picture is {out}")


_HEADINGS = ("figure", "training", "first", "last", "lowest", "highest")


def _lines(name: str, labelled: dict[str, Sequence[dict[str, float]]]) -> Iterator[tuple[str, ...]]:
    from zbench.report.trace_plot import series_of

    for label, rows in labelled.items():
        values = series_of(rows, name)[1]
        if values:
            ends = (values[0], values[-1], min(values), max(values))
            yield (name, label, *(f"{value:.4g}" for value in ends))


def _labelled(traces: Sequence[StoredTrace]) -> dict[str, StoredTrace]:
    return {f"seed {each.training_seed}": each for each in traces}


def _usual_place(first: StoredTrace) -> Path:
    from zbench.store import safe_name

    name = Path(safe_name(f"{first.method}-{first.concept}") + ".png")
    return name if first.run_folder is None else first.run_folder / "traces" / name
