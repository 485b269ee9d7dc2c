"""SIGKILL of cells, of the fork server and of the run: at every boundary of every stage, within, at random.

Whatever was killed, the next run goes on: its products are those of an undisturbed run byte for byte, and
nothing that was finished is done again.
"""

from __future__ import annotations

import os
import random
import signal
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
SEED = int(os.environ.get("ZBENCH_KILL_SEED", "20260323"))

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads Linux's /proc")


class Attempts:
    """Attempts at one grid in one folder, and what each must leave alone."""

    def __init__(self, world: World, root: Path, **more: Any) -> None:
        self.world, self.root, self.more = world, root, more
        self.finished: dict[str, tuple[int, int]] = {}
        self.kills = 0

    def attempt(self, *points: Point, victim: Victim = cell_itself, others: bool = False) -> Point | None:
        """Runs the grid, killing somebody at the first of some points that comes.

        Returns:
            The point that came; None where none did, and the grid is done.
        """
        with killing(self.root, points, victim, others) as killer:
            result, notes = run_noted(self.world.grid(self.root, **self.more))
        self.take_stock(killer)
        done = set(statuses(result).values()) == {"done"}
        if victim is cell_itself:
            assert done == (not killer.killed), notes.lines
        return killer.struck if killer.killed else None

    def take_stock(self, killer: Killer) -> None:
        """Whatever was finished is still there, untouched: it was not done again."""
        now = finished_stages(self.root)
        assert {place: now.get(place) for place in self.finished} == self.finished, killer.struck
        self.finished, self.kills = now, self.kills + len(killer.killed)

    def complete(self, expected: dict[str, str]) -> None:
        """Runs it to the end, and compares."""
        assert self.attempt() is None
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
        if attempts.attempt(point) is None:
            attempts.complete(attacked.products)
            kills, folders = kills + attempts.kills, folders + 1
            attempts = Attempts(world, tmp_path / f"runs {folders}", **ATTACK)
    attempts.complete(attacked.products)


def test_the_fork_server_killed_at_every_boundary(
    world: World, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """The run itself begins a new server, and starts the cell again that died with the old one."""
    points = [each for each in points_of(undisturbed.notes.events) if each.kind != "stage_end"]
    for number, point in enumerate(points):
        attempts = Attempts(world, tmp_path / f"runs {number}")
        assert attempts.attempt(point, victim=fork_server_of) == point, f"nobody was killed at {point}"
        assert products(attempts.root) == undisturbed.products
        assert left_behind(attempts.root) == []


def test_the_run_killed_at_every_boundary(world: World, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Its cell and its fork server die with it, and the next run goes on."""
    attempts = Attempts(world, tmp_path / "runs")
    for point in points_of(undisturbed.notes.events):
        run = start_run(world.folder, attempts.root)
        try:
            servers: list[int] = []

            def run_of(cell: int, servers: list[int] = servers, pid: int = run.pid) -> int:
                servers.append(fork_server_of(cell))
                return pid

            with killing(attempts.root, [point], run_of) as killer:
                said = run.communicate(timeout=120)[0]
        finally:
            run.kill()
        assert run.returncode == -signal.SIGKILL, said
        [(_, cell)] = killer.killed
        wait_until(lambda pids=(cell, *servers): not any(map(is_alive, pids)), "cell and server are gone")  # type: ignore[misc]
        attempts.take_stock(killer)
    attempts.complete(undisturbed.products)
