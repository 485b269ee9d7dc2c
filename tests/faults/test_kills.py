"""SIGKILL of cells, of the fork server and of the run: at every boundary of every stage, within, at random.

Whatever was killed, the next run goes on: its products are those of an undisturbed run byte for byte, and
nothing that was finished is done again. Killing a run or a fork server costs the imports of a new one: these
are struck at every third boundary, and at every one with ``ZBENCH_EVERY_BOUNDARY=1`` (``nox -s faults``).
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import ATTACK, Undisturbed
from tests.faults.grid import World, finished_stages, left_behind, products, run_noted, statuses
from tests.faults.killing import (
    Killer,
    Point,
    Victim,
    cell_itself,
    fork_server_of,
    is_alive,
    killing,
    points_of,
    start_run,
    wait_until,
)

RANDOM_KILLS = int(os.environ.get("ZBENCH_RANDOM_KILLS", "20"))
STRIDE = 1 if os.environ.get("ZBENCH_EVERY_BOUNDARY") else 3
PATIENCE = 240.0
SEED = int(os.environ.get("ZBENCH_KILL_SEED", "20260323"))

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads Linux's /proc")


class Attempts:
    """Attempts at one grid in one folder, and what each must leave alone."""

    def __init__(self, world: World, root: Path, **more: Any) -> None:
        self.world, self.root, self.more = world, root, more
        self.finished: dict[str, tuple[int, int]] = {}
        self.kills, self.done = 0, False

    def attempt(self, *points: Point, victim: Victim = cell_itself, others: bool = False) -> Point | None:
        """Runs the grid, killing somebody at the first of some points that comes; returns that point."""
        with killing(self.root, points, victim, others) as killer:
            result, notes = run_noted(self.world.grid(self.root, **self.more))
        self.take_stock(killer)
        self.done = set(statuses(result).values()) == {"done"}
        # A cell may be killed after its last word, and has ended well all the same.
        assert self.done or killer.killed, notes.lines
        return killer.struck if killer.killed else None

    def take_stock(self, killer: Killer) -> None:
        """Whatever was finished is still there, untouched: it was not done again."""
        now = finished_stages(self.root)
        assert {place: now.get(place) for place in self.finished} == self.finished, killer.struck
        self.finished, self.kills = now, self.kills + len(killer.killed)

    def complete(self, expected: dict[str, str]) -> None:
        """Runs it to the end, and compares."""
        self.attempt()
        assert self.done
        assert products(self.root) == expected
        assert left_behind(self.root) == []


def test_a_cell_killed_at_every_boundary_and_within_every_stage(
    world: World, attacked: Undisturbed, tmp_path: Path
) -> None:
    points = points_of(attacked.notes.events)
    attempts, last = Attempts(world, tmp_path / "runs", **ATTACK), len(points) - 1
    struck = []
    while not struck or struck[-1] < last:
        # After its last step a stage may be done by the time of the kill: its end does not come again.
        point = attempts.attempt(*points[struck[-1] + 1 if struck else 0 :], others=True)
        assert point is not None, f"nobody was killed after {struck}"
        struck.append(points.index(point))
    print(f"{attempts.kills} kills of cells, at {len(struck)} of {len(points)} points")
    assert len(struck) > len(points) / 2
    attempts.complete(attacked.products)


def test_a_cell_killed_at_random(world: World, attacked: Undisturbed, tmp_path: Path) -> None:
    """Set ZBENCH_KILL_SEED to repeat a choice and ZBENCH_RANDOM_KILLS for more of them."""
    chance, kills, folders = random.Random(SEED), 0, 0
    longest = len(attacked.notes.events)
    attempts = Attempts(world, tmp_path / "runs 0", **ATTACK)
    while kills + attempts.kills < RANDOM_KILLS:
        point = Point(number=chance.randrange(longest // 2), delay=chance.uniform(0, 0.1))
        print(f"seed {SEED}: kill {kills + attempts.kills + 1} at {point}")
        attempts.attempt(point)
        if attempts.done:
            attempts.complete(attacked.products)
            kills, folders = kills + attempts.kills, folders + 1
            attempts = Attempts(world, tmp_path / f"runs {folders}", **ATTACK)
    attempts.complete(attacked.products)


def test_the_fork_server_killed_at_boundaries(world: World, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The run itself begins a new server, and starts the cell again that died with the old one."""
    points = [each for each in points_of(undisturbed.notes.events) if each.kind != "stage_end"]
    for number, point in enumerate(points[::STRIDE]):
        attempts = Attempts(world, tmp_path / f"runs {number}")
        assert attempts.attempt(point, victim=fork_server_of) == point, f"nobody was killed at {point}"
        assert attempts.done
        assert products(attempts.root) == undisturbed.products
        assert left_behind(attempts.root) == []


def test_the_run_killed_at_boundaries(world: World, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Its cell and its fork server die with it, and the next run goes on."""
    attempts, points = Attempts(world, tmp_path / "runs"), points_of(undisturbed.notes.events)[::STRIDE]
    while points:
        killer, server = _killed_run(world, attempts.root, points)
        [(_, cell)] = killer.killed
        wait_until(lambda pids=(cell, server): not any(map(is_alive, pids)), "cell and server are gone")  # type: ignore[misc]
        attempts.take_stock(killer)
        # The end of a stage does not come again where it was done by the time of the kill.
        assert killer.struck is not None
        points = points[points.index(killer.struck) + 1 :]
    print(f"{attempts.kills} kills of runs")
    attempts.complete(undisturbed.products)


def _killed_run(world: World, root: Path, points: Sequence[Point]) -> tuple[Killer, int]:
    """A run in a process of its own that is killed at the first of some points; and its fork server."""
    run, servers = start_run(world.folder, root), []

    def run_of(cell: int) -> int:
        servers.append(fork_server_of(cell))
        return run.pid

    try:
        with killing(root, points, run_of) as killer:
            said = run.communicate(timeout=PATIENCE)[0]
    finally:
        run.kill()
    assert run.returncode == -signal.SIGKILL, said
    return killer, servers[0]
