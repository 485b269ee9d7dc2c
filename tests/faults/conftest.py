"""One world, one undisturbed run, and one fork server for all faults of a test session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.grid import Notes, World, products, run_noted, statuses
from zbench.runner.launchers.fork_server import forget

ATTACK = {"attacks": ("affix",), "attack_prompts": 1, "settings": {"affix": {"budget": 1}}}


@dataclass(frozen=True)
class Undisturbed:
    """What a run leaves that nobody disturbed.

    Attributes:
        root: Its folder; do not write into it.
        products: Path -> SHA-256 of what must always be the same.
        notes: What was told of it.
    """

    root: Path
    products: dict[str, str]
    notes: Notes


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A tiny model and methods that misbehave; the fork server lives as long."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("faults")
        patch.delenv("ZBENCH_MODEL", raising=False)
        patch.chdir(folder)
        yield World.at(folder)
        forget()


def _undisturbed(world: World, name: str, **more: object) -> Undisturbed:
    result, notes = run_noted(world.grid(world.folder / name, **more))  # type: ignore[arg-type]
    assert set(statuses(result).values()) == {"done"}, notes.lines
    return Undisturbed(result.root, products(result.root), notes)


@pytest.fixture(scope="session")
def undisturbed(world: World) -> Undisturbed:
    """The original and one method."""
    return _undisturbed(world, "undisturbed")


@pytest.fixture(scope="session")
def attacked(world: World) -> Undisturbed:
    """The same, attacked."""
    return _undisturbed(world, "attacked", **ATTACK)
