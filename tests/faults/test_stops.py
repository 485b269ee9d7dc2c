"""Asked to stop, two at once, clocks that jump: what people and machines do to a run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.grid import World, finished_stages, left_behind, products, run_noted, statuses
from tests.faults.killing import ROOT, is_alive, read_events, start_run, wait_until

PATIENCE = 180.0


def _slow(pause: float) -> str:
    """Settings of a method that takes so many seconds for each of its steps."""
    return f"{{'settings': {{'slow': {{'pause': {pause}}}}}}}"


def _events(root: Path) -> list[dict[str, Any]]:
    return [event for path in root.glob("logs/slow-*.jsonl") for event in read_events(path)]


def _kinds(root: Path) -> set[str]:
    return {event["kind"] for event in _events(root)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_run_that_is_asked_to_stop_ends_its_step_and_goes_on_later(
    world: World, tmp_path: Path, number: int
) -> None:
    root, pause = tmp_path / "runs", 1.0
    run = start_run(world.folder, root, methods="slow,fade", more=_slow(pause))
    try:
        wait_until(lambda: "progress" in _kinds(root), "the slow method makes a step", PATIENCE)
        os.kill(run.pid, number)
        said, _ = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
    assert "{'original': 'done', 'slow s0': 'stopped', 'fade s0': 'waiting'}" in said
    last = _events(root)[-1]
    assert (last["kind"], last["status"]) == ("end", "stopped")
    before = finished_stages(root)
    result, notes = run_noted(world.grid(root, ("slow", "fade"), settings={"slow": {"pause": pause}}))
    assert set(statuses(result).values()) == {"done"}
    assert notes.stages[0] == "slow s0: erase"
    now = finished_stages(root)
    assert {place: now.get(place) for place in before} == before
    assert left_behind(root) == []


def test_ctrl_c_twice_ends_a_run_in_the_middle_of_a_step(world: World, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run = start_run(world.folder, root, methods="slow", more=_slow(pause=600.0))
    try:
        wait_until(lambda: "stage" in _kinds(root), "the slow method begins", PATIENCE)
        cell = int(_events(root)[0]["pid"])
        os.kill(run.pid, signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for a step that takes ten minutes
            run.communicate(timeout=3)
        os.kill(run.pid, signal.SIGINT)
        said, _ = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
    assert "{'original': 'done', 'slow s0': 'stopped'}" in said
    wait_until(lambda: not is_alive(cell), "the cell is gone")


def test_two_runs_over_one_folder_do_no_stage_twice(
    world: World, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Started at once; each stage is put in place once, by one of them, and both come to the same end."""
    root = tmp_path / "runs"
    both = [start_run(world.folder, root) for _ in range(2)]
    placed: dict[str, set[tuple[int, int]]] = defaultdict(set)
    try:
        while any(run.poll() is None for run in both):
            for place, mark in finished_stages(root).items():
                placed[place].add(mark)
            time.sleep(0.01)
        said = [run.communicate()[0] for run in both]
    finally:
        for run in both:
            run.kill()
    assert [run.returncode for run in both] == [0, 0], said
    for text in said:
        assert "{'original': 'done', 'fade s0': 'done'}" in text
        assert "done again" not in text
    assert {len(marks) for marks in placed.values()} == {1}
    assert set(placed) == set(finished_stages(undisturbed.root))
    assert products(root) == undisturbed.products
    assert left_behind(root) == []


# Clocks ---------------------------------------------------------------------------------------------------


JUMPING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

/* The wall clock jumps by 800 days, forth and back, whenever it is read. Other clocks are right. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static unsigned calls;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += (calls++ % 2 ? 400L : -400L) * 86400L;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec read;
    clock_gettime(CLOCK_REALTIME, &read);
    now->tv_sec = read.tv_sec;
    now->tv_usec = read.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec read;
    clock_gettime(CLOCK_REALTIME, &read);
    if (now) *now = read.tv_sec;
    return read.tv_sec;
}
"""


@pytest.fixture
def jumping(tmp_path: Path) -> Path:
    """A library that a process is started with, whose wall clock then jumps."""
    source, library = tmp_path / "jumping.c", tmp_path / "jumping.so"
    source.write_text(JUMPING)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here, which makes the clock jump")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def test_a_clock_that_jumps_changes_nothing(
    world: World, undisturbed: Undisturbed, tmp_path: Path, jumping: Path
) -> None:
    """Half of the work is done by the right clock, the rest by one that is never right."""
    root = tmp_path / "runs"
    run_noted(world.grid(root, ("killed",)))
    before = finished_stages(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(jumping))
        run = start_run(world.folder, root, launch='{"devices": ["cpu"], "time_limit": 300}')
    try:
        said, _ = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
    assert run.returncode == 0 and "'fade s0': 'done'" in said, said
    [log] = root.glob("logs/fade-*.jsonl")
    stamps = [event["at"] for event in read_events(log)]
    assert max(stamps) - min(stamps) > 700 * 86400, "the clock did not jump"
    now = finished_stages(root)
    assert {place: now.get(place) for place in before} == before
    assert (root / "table.csv").read_bytes() == (undisturbed.root / "table.csv").read_bytes()


CLOCKS = re.compile(r"\btime\.time\(\)|datetime\.now|utcnow|st_mtime\b|getmtime")


def test_no_decision_reads_the_clock_that_can_jump() -> None:
    """Where the wall clock is read at all, in the stamp of an event, it is for people."""
    places = [*(ROOT / "zbench/runner").rglob("*.py"), *(ROOT / "zbench/stages").rglob("*.py")]
    places += [ROOT / "zbench/store.py", ROOT / "zbench/locks.py"]
    lines = [line.strip() for path in places for line in path.read_text().splitlines()]
    assert [line for line in lines if CLOCKS.search(line) and '"at":' not in line] == []
