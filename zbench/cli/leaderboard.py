"""`zbench leaderboard`: the page of a results tree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Results = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="Results tree that `zbench collect` filled.")
]
Out = Annotated[Path, typer.Option(help="Folder of the site.")]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="What is kept between builds.  [beside the site: OUT.cache]"),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes.  [one for each processor]")]


def leaderboard(
    results: Results = Path("results"),
    out: Out = Path("site"),
    cache: Cache = None,
    workers: Workers = None,
) -> None:
    """Write the page of a results tree: one folder, no server, no network; only what changed is made anew."""
    from zbench.report.site.build import build_site

    done = build_site(results, out, cache=cache, workers=workers)
    for problem in done.problems:
        print(f"skipped {problem}", file=sys.stderr)
    made = f"{done.rendered} of {done.parts} parts rendered" if done.rendered else "nothing had changed"
    print(f"{done.groups} comparisons of {done.results} results, {done.files} files; {made}.")
    print(f"Open {done.out / 'index.html'}")
