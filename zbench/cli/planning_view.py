"""What `zbench plan` prints, and `zbench run` before it starts: a grid and what is left of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zbench.cli.catalogue import show_json
from zbench.runner.display.durations import shown_seconds
from zbench.runner.outlook.cell_plans import CellPlan, CellState, Survey
from zbench.runner.outlook.estimates import ATTACK, ERASE, ORIGINAL_PICTURES, OWN, SCORE

if TYPE_CHECKING:
    from zbench.runner.grid import Grid
    from zbench.runner.launchers.settings import Launch
    from zbench.runner.specs import CellSpec

_STATES: tuple[CellState, ...] = ("done", "to do", "skipped", "broken")

SHOWN = 20
"""Cells of one kind that are named; all of them are in `--json`."""


def show_plan(grid: Grid, *, as_json: bool = False) -> None:
    """Prints what a grid would do; nothing is written.

    Args:
        grid: The grid.
        as_json: Print every cell with its stages and its spec, for machines.

    Raises:
        ZbenchError: Something that must be mended before the grid can run.
    """
    from zbench.runner.outlook.survey import survey

    found = survey(grid)
    if as_json:
        show_json(_plain(found, grid))
        return
    print("\n".join([*grid_lines(grid, found), "", *outlook_lines(found, grid.launch)]))


# The grid -------------------------------------------------------------------------------------------------


def grid_lines(grid: Grid, found: Survey) -> Iterator[str]:
    """What is run on what: header of the first concept's table, methods and attacks with their values."""
    from zbench.report.header import header_lines

    specs = [cell.spec for cell in found.cells if cell.spec.concept == grid.concepts[0]]
    yield from header_lines(grid.runs[0], specs)
    if others := grid.concepts[1:]:
        yield f"And so for {len(others)} more: {', '.join(others)}"
    for method in dict.fromkeys(spec.method for spec in specs):
        yield _method_line([spec for spec in specs if spec.method == method])
    yield from _attack_lines(specs[0])


def _method_line(seeds: Sequence[CellSpec]) -> str:
    """One line for all training seeds: they differ in nothing else."""
    first = seeds[0]
    label = first.label if len(seeds) == 1 else f"{first.label} to s{seeds[-1].training_seed}"
    if first.problem is not None:
        return f"- {label}: cannot be run: {first.problem.strip().splitlines()[-1]}"
    values = _values({name: v for name, v in first.hyperparameters.items() if name != "training_seed"})
    return f"- {label}: {values}" if values else f"- {label}"


def _attack_lines(cell: CellSpec) -> Iterator[str]:
    if cell.attacks:
        yield f"Each is attacked on the first {cell.attack_prompts} explicit prompts by"
    for attack in cell.attacks:
        problem = "" if attack.problem is None else attack.problem.strip().splitlines()[-1]
        said = f"cannot be made: {problem}" if problem else _values(attack.hyperparameters)
        yield f"- {attack.label}: {said}"


def _values(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())


# What is left of it ---------------------------------------------------------------------------------------


def outlook_lines(found: Survey, launch: Launch) -> Iterator[str]:
    """How many cells are done, which are not and why, and how long they will take.

    Args:
        found: The grid as a run would find it.
        launch: Who would run it.
    """
    counts = (f"{len(of)} {state}" for state in _STATES if (of := found.having(state)))
    yield f"{_counted(len(found.cells), 'cell')}: {', '.join(counts)}"
    yield from listed("Cannot be run:", (f"{c.label}: {c.reason}" for c in found.having("broken")))
    yield from listed("Skipped:", (f"{c.label}: {c.reason}" for c in found.having("skipped")))
    yield from listed("To do:", (_to_do(cell) for cell in found.having("to do")))
    if found.having("to do"):
        yield _time(found, launch)


def listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A title and the first lines under it; nothing where there are none."""
    every = list(lines)
    if every:
        yield title
    yield from (f"- {line}" for line in every[:SHOWN])
    if len(every) > SHOWN:
        yield f"- and {len(every) - SHOWN} more (all of them: --json)"


def _to_do(cell: CellPlan) -> str:
    took = "" if cell.seconds is None else f", about {shown_seconds(cell.seconds)}"
    again = f" ({cell.reason})" if cell.reason else ""
    return f"{cell.label}: {', '.join(_parts(cell)) or 'its result'}{took}{again}"


def _parts(cell: CellPlan) -> Iterator[str]:
    """What the cell has to do, picture sets counted rather than named."""
    left, known = {stage.name for stage in cell.left}, {stage.name for stage in cell.stages}
    if ERASE in known:
        yield "erase" if ERASE in left else "erased already"
    for start, title in ((OWN, "pictures"), (ORIGINAL_PICTURES, "the original's pictures")):
        of, still = _count(known, start), _count(left, start)
        if still:
            yield (
                f"{title} of {_counted(still, 'set')}" if still == of else f"{title} of {still} of {of} sets"
            )
    if SCORE in left:
        yield "score"
    attacks = [stage.name.removeprefix(ATTACK) for stage in cell.left if stage.name.startswith(ATTACK)]
    if attacks:
        yield f"{_counted(len(attacks), 'attack')}"


def _count(names: Iterable[str], start: str) -> int:
    return sum(name.startswith(start) for name in names)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _time(found: Survey, launch: Launch) -> str:
    """How long it will take, as far as anybody knows."""
    if not found.measured:
        return "How long that takes is unknown: no cell of this run folder has been timed yet."
    basis = f"by the times of {_counted(found.measured, 'earlier cell')}"
    at_once = cells_at_once(launch)
    work = f"About {shown_seconds(found.seconds)} of work"
    shared = f", {shown_seconds(found.seconds / at_once)} with {at_once} cells at once" if at_once > 1 else ""
    if not found.unknown:
        return f"{work}{shared}, {basis}."
    kinds = ", ".join(f"{kind} ({_counted(n, 'stage')})" for kind, n in sorted(found.unknown.items()))
    return f"{work}{shared}, {basis}; not counted, because nobody has timed it yet: {kinds}."


def cells_at_once(launch: Launch) -> int:
    """How many cells will be worked on at a time, as far as it is said: of unknown devices, one."""
    if launch.launcher == "inline":
        return 1
    if launch.launcher == "slurm":
        return launch.slurm.at_once or 1
    if launch.devices and not all(device.startswith("cpu") for device in launch.devices):
        return len(launch.devices)
    return launch.workers


# For machines ---------------------------------------------------------------------------------------------


def _plain(found: Survey, grid: Grid) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "out": str(grid.out),
        "launch": grid.launch.model_dump(mode="json"),
        "counts": {state: len(found.having(state)) for state in _STATES},
        "seconds": found.seconds,
        "unknown": dict(found.unknown),
        "cells": [_plain_cell(cell) for cell in found.cells],
    }


def _plain_cell(cell: CellPlan) -> dict[str, Any]:
    stages = [{"name": each.name, "state": each.state, "seconds": each.seconds} for each in cell.stages]
    told = {"id": cell.id, "label": cell.spec.label, "concept": cell.spec.concept, "state": cell.state}
    spec = cell.spec.model_dump(mode="json")
    return {**told, "reason": cell.reason, "seconds": cell.seconds, "stages": stages, "spec": spec}
