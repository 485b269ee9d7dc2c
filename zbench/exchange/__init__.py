"""Erasures in and out of zbench: exported for those who have no zbench, imported to be measured by it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.exchange.export import Exported, export_erasure
    from zbench.exchange.imported import Imported

__all__ = ["Exported", "Imported", "export_erasure"]

_HOMES = {
    "Exported": "zbench.exchange.export",
    "Imported": "zbench.exchange.imported",
    "export_erasure": "zbench.exchange.export",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.exchange' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
