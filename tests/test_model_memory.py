"""Large tensors come from memory that the process keeps, not from new mappings of the kernel."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
import torch

from zbench.model import load_model
from zbench.model.memory import keep_freed_memory


class _Use(ctypes.Structure):
    """What glibc says of its memory: `struct mallinfo2` of its malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not this C library")
def test_a_loaded_model_keeps_what_torch_frees(tiny_pipeline_folder: Path) -> None:
    """A tensor of 8 MB, far above glibc's first threshold for a mapping of its own, gets none."""
    load_model(tiny_pipeline_folder, "cpu")
    use = ctypes.CDLL(None).mallinfo2
    use.restype = _Use
    before = use().hblks
    kept = torch.ones(2 * 2**20)
    assert use().hblks == before
    del kept


def test_other_systems_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()
