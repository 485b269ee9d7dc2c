"""Halving: every item is worked on exactly once, whatever fits, and other errors are left alone."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from itertools import cycle, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zbench.errors import OutOfMemoryError
from zbench.stages.memory import Room, is_out_of_memory


@pytest.fixture(autouse=True, scope="module")
def _nothing_to_free() -> Iterator[None]:
    """Collecting garbage takes longer than everything else here."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("zbench.stages.memory.free_memory", lambda: None)
        yield


@given(
    count=st.integers(0, 40),
    size=st.integers(1, 20),
    fits=st.lists(st.integers(1, 20), min_size=1, max_size=60),
)
def test_everything_is_done_once_and_in_order(count: int, size: int, fits: list[int]) -> None:
    """What fits changes from try to try, as on a device that others use."""
    lines: list[str] = []
    tries = cycle(fits)
    room = Room(size, "things", lines.append)

    def work(part: Sequence[int]) -> list[int]:
        if len(part) > next(tries):
            raise MemoryError
        return [10 * item for item in part]

    done = list(room.parts(range(count), work))
    assert [item for part, _ in done for item in part] == list(range(count))
    assert [value for _, found in done for value in found] == [10 * item for item in range(count)]
    sizes = [len(part) for part, _ in done]
    assert all(a >= b for a, b in pairwise(sizes)), "never more again"
    assert len(lines) <= size.bit_length() and 1 <= room.size <= size


def test_one_that_does_not_fit_is_an_error_that_says_so() -> None:
    def work(part: Sequence[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    with pytest.raises(OutOfMemoryError, match="even with one of the pictures") as caught:
        list(Room(4, "pictures", lambda line: None).parts(range(4), work))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_memory_that_ran_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_other_errors_and_stops_are_left_alone() -> None:
    calls: list[int] = []

    def work(part: Sequence[int]) -> None:
        calls.append(len(part))
        raise KeyError("a method's own")

    with pytest.raises(KeyError, match="own"):
        list(Room(4, "pictures", lambda line: None).parts(range(4), work))
    assert calls == [4]
