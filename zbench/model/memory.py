"""What the C library does with memory that torch gives back."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings, from its malloc.h."""

_KEPT = 2**31 - 1
_LARGEST = 32 * 2**20
"""The largest that glibc allows."""


def keep_freed_memory() -> bool:
    """Lets the process keep up to 2 GB that torch has freed, for its next tensors.

    By default every tensor of some megabytes is a new mapping of the kernel, whose pages are made one by one
    as they are first written: on a CPU, where a block's activations are that large, a fifth of the time of a
    training step goes there.

    Returns:
        Whether the C library has such settings; others are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _KEPT))
