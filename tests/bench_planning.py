"""Times of `zbench plan` and `zbench status` on a grid of 10,000 cells of which 9,990 are done.

The run folder is made up through the classes that write real ones; what is timed are whole commands. Run by
`nox -s bench`; exits with 1 where a limit is not kept.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench_tools import Row, show
from tests.grid_tools import FakeRun
from zbench.runner.grid import Grid
from zbench.runner.specs import CellSpec

CONCEPTS = ("airplane", "ball", "car", "cat", "church", "explosion", "fish", "nudity", "pencil", "tower")
METHODS = "uce,zerase,ac,esd_x,mace,eap,token_zeroing,negative_prompt,naive"
SEEDS = 111
CELLS, LEFT = 10_000, 10

TIMES = 5
PLAN_LIMIT, STATUS_LIMIT = 3.0, 2.0

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where the folder is made without waiting for a disk; afterwards it is read from memory in any case."""

RUN_FILE = """
methods = {methods}
concepts = {concepts}
training_seeds = {seeds}
out = "runs"
"""


def prepare(folder: Path) -> Path:
    """Writes the run's file and a run folder in which the last cells of the last concept are missing."""
    file = folder / "run.toml"
    text = RUN_FILE.format(methods=METHODS.split(","), concepts=list(CONCEPTS), seeds=SEEDS)
    file.write_text(text)
    fake = FakeRun(Grid.create({}, file))
    assert len(fake.specs) == CELLS, len(fake.specs)
    for number, spec in enumerate(fake.specs[:-LEFT]):
        fake.finish(spec, seconds=_seconds(spec) if number % 7 else {})
    return file


def _seconds(spec: CellSpec) -> dict[str, float]:
    erase = {} if spec.is_original else {"erase": 12.25}
    return {**erase, "pictures explicit": 3.125, "pictures unrelated": 6.25, "score": 4.5}


def command_seconds(*words: str) -> tuple[float, float, str]:
    """Wall time and processor time of one `zbench` command, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "zbench", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, done.stdout


def measured(name: str, limit: float, expected: str, *words: str) -> Row:
    """The median of some wall times; processor times show how busy the machine was with other things."""
    wall, processor = [], []
    for _ in range(TIMES):
        seconds, used, printed = command_seconds(*words)
        assert expected in printed, printed[:2000]
        wall.append(round(seconds, 3))
        processor.append(round(used, 3))
    detail = {"wall": wall, "processor": processor, "cells": CELLS, "left": LEFT}
    return Row(name, statistics.median(wall), "s", limit, detail=detail)


def main() -> None:
    """Prints a table and JSON."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        file = prepare(Path(folder))
        plan = measured("plan", PLAN_LIMIT, f"{CELLS - LEFT} done, {LEFT} to do", "plan", str(file))
        runs = str(file.parent / "runs")
        status = measured("status", STATUS_LIMIT, f"{CELLS - LEFT} done", "status", runs)
        plan_json = measured("plan --json", 2 * PLAN_LIMIT, '"to do": 10', "plan", str(file), "--json")
    rows = [plan, status, plan_json]
    show(rows)
    if any(row.kept is False for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
