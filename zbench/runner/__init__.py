"""The runner: from a configuration to cells, and from cells to results and tables."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.runner.cell import run_cell, stored_cell
    from zbench.runner.grid import Grid
    from zbench.runner.launchers.settings import Launch
    from zbench.runner.planning import plan
    from zbench.runner.running import GridResult, RunResult, run, run_grid
    from zbench.runner.specs import CellResult, CellSpec
    from zbench.runner.workshop import Workshop

__all__ = [
    "CellResult",
    "CellSpec",
    "Grid",
    "GridResult",
    "Launch",
    "RunResult",
    "Workshop",
    "plan",
    "run",
    "run_cell",
    "run_grid",
    "stored_cell",
]

_HOMES = {
    "CellResult": "zbench.runner.specs",
    "CellSpec": "zbench.runner.specs",
    "Grid": "zbench.runner.grid",
    "GridResult": "zbench.runner.running",
    "Launch": "zbench.runner.launchers.settings",
    "RunResult": "zbench.runner.running",
    "Workshop": "zbench.runner.workshop",
    "plan": "zbench.runner.planning",
    "run": "zbench.runner.running",
    "run_cell": "zbench.runner.cell",
    "run_grid": "zbench.runner.running",
    "stored_cell": "zbench.runner.cell",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first asked for: reports read `specs` without loading the rest (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.runner' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
