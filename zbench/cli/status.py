"""`zbench status`: how a run folder stands, also while other processes work in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zbench.cli.catalogue import AsJson, show_json
from zbench.cli.planning_view import listed

if TYPE_CHECKING:
    from zbench.runner.outlook.status import Launched, Status
    from zbench.runner.summary import Summary

_COLUMNS = 6
"""Concepts up to which each has a column of its own."""


def status(
    folder: Annotated[Path, typer.Argument(help="Run folder.")] = Path("runs"),
    json: AsJson = False,
) -> None:
    """Show which cells of a run folder are done, failed or at work; nothing is written or verified."""
    from zbench.runner.outlook.status import read_status

    found = read_status(folder)
    if json:
        show_json(_plain(found))
    else:
        print("\n".join(status_lines(found)))


def status_lines(found: Status) -> Iterator[str]:
    """The status as text, what went wrong first."""
    yield f"{found.root}: {_counts(found)}"
    yield from listed("Failed:", (_failure(found, each) for each in found.ended("failed")))
    attacks = (
        f"{_name(each)}: {', '.join(each.failed_attacks)}"
        for each in found.ended("done")
        if each.failed_attacks
    )
    yield from listed("Attacks that failed on cells that are done:", attacks)
    yield from listed("Died without a result:", (_left(found, each) for each in found.phase("died")))
    yield from listed("Stopped:", (_left(found, each) for each in found.phase("stopped")))
    yield from listed("Skipped:", (f"{_name(each)}: {each.reason}" for each in found.ended("skipped")))
    yield from _matrix(found)
    yield from listed("Running:", (_running(each) for each in found.phase("running")))
    yield from listed("Also being done:", (f"{stage} by {who}" for stage, who in found.elsewhere.items()))


def _counts(found: Status) -> str:
    ended = ((len(found.ended(each)), each) for each in ("done", "skipped", "failed"))
    phases = ((len(found.phase("running")), "running"), (len(found.phase("died")), "died"))
    others = ((len(found.phase("stopped")), "stopped"), (len(found.phase("waiting")), "waiting"))
    counts = [f"{number} {what}" for number, what in (*ended, *phases, *others) if number]
    every = len({*found.cells, *found.launched})
    return f"{every} cell{'' if every == 1 else 's'}{': ' if counts else ''}{', '.join(counts)}"


def _name(cell: Summary | Launched) -> str:
    return f"{cell.concept}: {cell.label}" if cell.concept else cell.label


def _failure(found: Status, cell: Summary) -> str:
    log = Path("logs") / f"{cell.id}.log"
    place = log if (found.root / log).is_file() else Path("cells") / cell.id / "result.json"
    return f"{_name(cell)}: {cell.reason} ({place})"


def _left(found: Status, cell: Launched) -> str:
    stage = cell.situation.stage.removeprefix(f"{cell.label}: ")
    why = cell.situation.refused or (f"in {stage}" if stage else "between two stages")
    log = Path("logs") / f"{cell.id}.log"
    return f"{_name(cell)}: {why}{f' ({log})' if (found.root / log).is_file() else ''}"


def _running(cell: Launched) -> str:
    from zbench.runner.display.durations import shown_bytes, shown_seconds

    now = cell.situation
    parts = [now.stage.removeprefix(f"{cell.label}: ") or "between two stages"]
    parts += [f"{now.done}/{now.total}"] if now.total else []
    parts += [f"{shown_seconds(now.left)} left"] if now.left is not None else []
    parts += [now.device] if now.device else []
    parts += [f"{shown_bytes(size)} of {of} memory" for of, size in now.memory.items()]
    return f"{_name(cell)}: {', '.join([*parts, f'process {now.pid} on {now.host}'])}"


# Methods by concepts --------------------------------------------------------------------------------------


def _matrix(found: Status) -> Iterator[str]:
    """Cells that are done of those that are known, a row for each method."""
    known = Counter((each.method, each.concept) for each in found.cells.values())
    done = Counter((each.method, each.concept) for each in found.ended("done"))
    methods, concepts = (sorted({pair[place] for pair in known}) for place in (0, 1))
    if not known:
        return
    columns = concepts if len(concepts) <= _COLUMNS else [f"all {len(concepts)} concepts"]
    rows = [["Done", *columns]]
    for method in sorted(methods, key=lambda name: (name != "original", name)):
        pairs = [[(method, concept)] for concept in concepts]
        cells = pairs if columns == concepts else [[pair for each in pairs for pair in each]]
        rows.append([method, *(_share(done, known, each) for each in cells)])
    yield from _aligned(rows)


def _share(done: Counter[tuple[str, str]], known: Counter[tuple[str, str]], of: list[tuple[str, str]]) -> str:
    whole = sum(known[pair] for pair in of)
    return f"{sum(done[pair] for pair in of)} of {whole}" if whole else "-"


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


# For machines ---------------------------------------------------------------------------------------------


def _plain(found: Status) -> dict[str, Any]:
    phases = ("running", "stopped", "died", "waiting")
    launched = [_plain_launched(each) for each in found.launched.values()]
    counts = {each: len(found.ended(each)) for each in ("done", "skipped", "failed")}
    return {
        "schema_version": 1,
        "folder": str(found.root),
        "counts": counts | {each: sum(cell["phase"] == each for cell in launched) for each in phases},
        "launched": launched,
        "stages": found.stages,
        "cells": [cell.model_dump(mode="json") for cell in found.cells.values()],
    }


def _plain_launched(cell: Launched) -> dict[str, Any]:
    situation = {name: value for name, value in asdict(cell.situation).items() if not name.startswith("_")}
    told = {"id": cell.id, "label": cell.label, "concept": cell.concept, "phase": cell.phase}
    return {**told, **situation, "left": cell.situation.left}
