"""The runner: from a configuration to cells, and from cells to results and tables."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.runner.cell import Workshop, run_cell
    from zbench.runner.planning import plan
    from zbench.runner.running import RunResult, run
    from zbench.runner.specs import CellResult, CellSpec

__all__ = ["CellResult", "CellSpec", "RunResult", "Workshop", "plan", "run", "run_cell"]

_HOMES = {
    "CellResult": "zbench.runner.specs",
    "CellSpec": "zbench.runner.specs",
    "RunResult": "zbench.runner.running",
    "Workshop": "zbench.runner.cell",
    "plan": "zbench.runner.planning",
    "run": "zbench.runner.running",
    "run_cell": "zbench.runner.cell",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first asked for: reports read `specs` without loading the rest (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.runner' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
