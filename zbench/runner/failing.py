"""Which errors end a run, and what is tidied up after those that do not."""

from __future__ import annotations

import gc
import sys

from zbench.errors import MissingExtraError, StoreError, UnknownNameError, WeightsError

PREREQUISITES = (StoreError, WeightsError, MissingExtraError, UnknownNameError)
"""Errors that the user has to mend before any cell can run; all others fail one cell, or attack, alone."""


def free_memory() -> None:
    """Lets go of what failed work held: it must not fail what comes next."""
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()
