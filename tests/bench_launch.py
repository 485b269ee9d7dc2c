"""How soon a cell begins when there is room for it, and whether two CPU workers are slower than one.

Run by `nox -s bench`; `--cells 4 --seeds 2 --prompts 2` for a quick look.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench_tools import Row, show
from tests.launch_tools import Memory, jobs_for
from zbench.config import RunConfig
from zbench.runner.following import events_of
from zbench.runner.launchers.base import Job
from zbench.runner.launchers.devices import usable_cores
from zbench.runner.launchers.fork_server import ForkServer, forget, give_back
from zbench.runner.launchers.local import Local
from zbench.runner.launchers.settings import Launch
from zbench.runner.planning import plan
from zbench.runner.workshop import Workshop
from zbench.store import Store

SOON = 0.5
NOT_SLOWER = 1.0


def measure_start(cells: int) -> list[Row]:
    """Seconds from the last event of a cell to the first of the next on the same device.

    The end of the first process, the word of it, the next spec file, the fork and the redirection of its
    output all lie between.

    Args:
        cells: How many run one after the other; they have next to nothing to do.
    """
    begun = time.monotonic()
    server = ForkServer()
    while not server.ready:
        server.messages(0.1)
    imports = time.monotonic() - begun
    give_back(server)
    with tempfile.TemporaryDirectory() as folder:
        store, jobs = jobs_for(Path(folder), ("skips",), training_seeds=cells)
        for _ in Local(Launch(devices=("cpu",))).run(jobs, store, Memory()):
            pass
        times = [[event["at"] for event in events_of(job.events(store.root))] for job in jobs]
    gaps = [following[0] - before[-1] for before, following in pairwise(times)]
    detail: dict[str, Any] = {
        "cells": cells,
        "longest": round(max(gaps), 3),
        "imports once": round(imports, 2),
    }
    return [Row("slot free to the next cell's first event, median", statistics.median(gaps), "s", SOON,
                detail=detail)]  # fmt: skip


def measure_workers(seeds: int, prompts: int) -> list[Row]:
    """The same grid with one CPU worker and with two, which share the cores.

    Args:
        seeds: Training seeds, each of which is a cell.
        prompts: Prompts of each set.
    """
    seconds = {workers: _grid(workers, seeds, prompts) for workers in (1, 2)}
    detail = {
        "cores": usable_cores(),
        "cells": seeds + 1,
        "seconds": {str(n): round(s, 1) for n, s in seconds.items()},
    }
    return [Row("two CPU workers over one", seconds[2] / seconds[1], "x", NOT_SLOWER, detail=detail)]


def _grid(workers: int, seeds: int, prompts: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        flags = {"methods": ("uce",), "concept": "nudity", "training_seeds": seeds, "prompts": prompts}
        specs = plan(RunConfig.create({**flags, "out": Path(folder)}))
        store, workshop = Store.open(folder), Workshop()
        jobs = [
            Job(workshop.identities.folder(spec, store).id, spec.label, spec, spec.is_original)
            for spec in specs
        ]
        start = time.monotonic()
        ends = list(Local(Launch(devices=("cpu",), workers=workers)).run(jobs, store, Memory()))
        assert [ended.how for ended in ends] == ["finished"] * len(jobs)
        return time.monotonic() - start


def main() -> None:
    """Prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=20)
    chosen = parser.parse_args()
    show([*measure_start(chosen.cells), *measure_workers(chosen.seeds, chosen.prompts)])
    forget()


if __name__ == "__main__":
    main()
