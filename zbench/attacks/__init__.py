"""Attacks: ways to bring an erased concept back, each in one file, none of which ever sees a detector.

Names are imported when they are first asked for, so that attacks can be listed without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.attacks.base import Attack, AttackCard, Knowledge
    from zbench.attacks.candidates import Candidate, Spent
    from zbench.attacks.context import Context, context_for

_MEMBERS = {
    "base": ("Attack", "AttackCard", "Knowledge"),
    "candidates": ("Candidate", "Spent"),
    "context": ("Context", "context_for"),
}
_HOMES = {name: home for home, members in _MEMBERS.items() for name in members}

__all__ = ["Attack", "AttackCard", "Candidate", "Context", "Knowledge", "Spent", "context_for"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
