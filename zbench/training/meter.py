"""Measures what an erasure costs: time, memory, evaluations of the transformer."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zbench.erasure import Cost

if TYPE_CHECKING:
    from zbench.model import Model


class Meter:
    """Starts measuring when it is made.

    Args:
        model: Whose counter is read; its device decides how memory is measured.
    """

    def __init__(self, model: Model) -> None:
        self._counter = model.counter
        self._device = torch.device(model.device)
        self._begin = time.perf_counter()
        self._start = self._counts()
        _reset_peak_memory(self._device)

    def _counts(self) -> tuple[int, int, int]:
        counter = self._counter
        return counter.forwards, counter.backwards, counter.recomputations

    @property
    def evaluations(self) -> int:
        """Forwards + backwards + recomputations since the start, each counting one."""
        return sum(self._counts()) - sum(self._start)

    def cost(self, steps: int = 0) -> Cost:
        """The cost so far.

        Args:
            steps: Optimiser steps over which evaluations are spread; 0 for closed forms.
        """
        since = [now - then for now, then in zip(self._counts(), self._start, strict=True)]
        return Cost(
            seconds=time.perf_counter() - self._begin,
            peak_memory_bytes=_peak_memory(self._device),
            forwards=since[0],
            backwards=since[1],
            recomputations=since[2],
            steps=steps,
            evaluations_per_step=self.evaluations / steps if steps else 0.0,
        )


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    # Linux: writing 5 resets the process's peak resident size; elsewhere the lifetime's peak must do.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
