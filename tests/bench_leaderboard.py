"""Time and memory from 10,000 result files to tables and page, and after one of them changed.

The tree is made up: 50 methods on 66 concepts, three trainings each. What is timed are whole commands, with
the memory of all their processes. Run by `nox -s bench`; exits with 1 where a limit is not kept. Where there
is a Chromium, the first paint of pages of the same site is timed as well.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.bench_tools import Row, show
from tests.synthetic_results import Plan, results, write_tree
from zbench.results.form import to_text

PLAN = Plan(methods=50, concepts=66, seeds=3, attacks=4)
PAINTED = Plan(methods=50, concepts=60, seeds=1, attacks=4, attack_everything=True, hostile=True)

SECONDS, GIGABYTES, AGAIN = 20.0, 1.0, 5.0
PAINT = 1.0

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are made without waiting for a disk; afterwards they are read from memory in any case."""


def watched(*words: str) -> tuple[float, float, float]:
    """Wall seconds and processor seconds of a command, and the peak memory of all its processes in GB.

    Pages that processes share are counted once (PSS). Processor time is what shows whether the machine was
    busy with other things.
    """
    start, peak, processor = time.perf_counter(), 0.0, 0.0
    process = psutil.Popen([sys.executable, "-m", "zbench", *words], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        used, seconds = _usage(process)
        peak, processor = max(peak, used), max(processor, seconds)
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"zbench {' '.join(words)} ended with {process.returncode}")
    return time.perf_counter() - start, processor, peak / 1e9


def _usage(process: psutil.Process) -> tuple[float, float]:
    memory = seconds = 0.0
    for each in [process, *_children(process)]:
        try:
            memory += each.memory_full_info().pss
            times = each.cpu_times()
            seconds += times.user + times.system
        except psutil.Error:  # it has just ended
            continue
    own = process.cpu_times() if process.is_running() else None
    ended = 0.0 if own is None else own.children_user + own.children_system
    return memory, seconds + ended


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def change_one(tree: Path, files: list[Path]) -> None:
    """Puts another training's figures into one result, as a new collection would."""
    found = (result for result, _ in results(PLAN))
    first, second = (next(found) for _ in range(2))
    figures = [*second.result.figures[:-1], *first.result.figures[-1:]]
    changed = second.model_copy(
        update={"result": second.result.model_copy(update={"figures": tuple(figures)})}
    )
    path = tree / changed.place
    assert path in files
    path.write_text(to_text(changed))


def bench_commands(folder: Path) -> list[Row]:
    """The whole site and the tables of it, from nothing and after one file changed."""
    tree, site = folder / "results", folder / "site"
    files = write_tree(tree, PLAN)
    words = ("leaderboard", str(tree), "--out", str(site))
    first = watched(*words)
    unchanged = watched(*words)
    change_one(tree, files)
    changed = watched(*words)
    table = watched("table", str(tree), "--format", "csv")
    detail = {"files": len(files), "methods": PLAN.methods, "concepts": PLAN.concepts, "seeds": PLAN.seeds}
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    shutil.rmtree(folder)
    names = {"site and tables": (first, SECONDS), "nothing changed": (unchanged, AGAIN),
             "one result changed": (changed, AGAIN), "tables alone": (table, SECONDS)}  # fmt: skip
    rows = [
        Row(f"{len(files)} results: {name}", wall, "s", limit, detail={**detail, "processor": processor})
        for name, ((wall, processor, _), limit) in names.items()
    ]
    most = max(memory for (_, _, memory), _ in names.values())
    return [*rows, Row("peak memory", most, "GB", GIGABYTES), Row("size of the site", size, "MB")]


def bench_paint(folder: Path) -> list[Row]:
    """First contentful paint from disk of the largest pages of a site of 50 methods and 60 concepts."""
    from tests.browser.chromium import browser, chromium, largest_pages, paint_seconds

    if chromium() is None:
        print("no Chromium here: first paint is not timed")
        return []
    tree, site = folder / "results", folder / "site"
    write_tree(tree, PAINTED)
    watched("leaderboard", str(tree), "--out", str(site))
    rows = []
    with browser() as opened:
        for page in largest_pages(site):
            seconds = [paint_seconds(opened, page) for _ in range(5)]
            detail = {"page": str(page.relative_to(site)), "bytes": page.stat().st_size, "all": seconds}
            name = f"first paint: {page.relative_to(site)}"
            rows.append(Row(name, statistics.median(seconds), "s", PAINT, detail=detail))
    return rows


def main() -> None:
    """Prints a table and JSON."""
    rows: list[Row] = []
    for bench in (bench_commands, bench_paint):
        with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as folder:
            rows += bench(Path(folder))
    show(rows)
    if any(row.kept is False for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
