"""Which errors end a run, and what is tidied up after those that do not."""

from __future__ import annotations

from zbench.errors import MissingExtraError, StoreError, UnknownNameError, WeightsError
from zbench.stages.memory import free_memory

__all__ = ["PREREQUISITES", "NotDone", "free_memory"]

PREREQUISITES = (StoreError, WeightsError, MissingExtraError, UnknownNameError)
"""Errors that the user has to mend before any cell can run; all others fail one cell, or attack, alone."""


class NotDone(Exception):
    """Something is missing, said to whoever only looks."""
