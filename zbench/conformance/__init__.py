"""The conformance suite: what every method must do, checked on a small model by `zbench check NAME`.

Each check is a small function with a name, a sentence and a result: pass, fail or skip, with figures. They
are public: a method of anyone's is held to the same rules as zbench's own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.conformance.bench import Bench
    from zbench.conformance.results import CheckResult, Report
    from zbench.conformance.suite import CHECKS, check

__all__ = ["CHECKS", "Bench", "CheckResult", "Report", "check"]

_HOMES = {
    "Bench": "bench",
    "CHECKS": "suite",
    "CheckResult": "results",
    "Report": "results",
    "check": "suite",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.conformance' has no attribute {name!r}")
    return getattr(import_module(f"zbench.conformance.{_HOMES[name]}"), name)
