"""Working within the memory that there is: where it runs out, less is done at once."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from zbench.errors import OutOfMemoryError

_Result = TypeVar("_Result")

_PHRASES = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    *("alloc_failed", "bad_alloc", "can't start new thread"),
)
"""How the allocators of torch, CUDA's libraries and the system say it, mostly by a bare RuntimeError."""


@dataclass
class Room:
    """How many things are worked on at once: halved whenever memory runs out, and never doubled again.

    Attributes:
        size: Things worked on at once.
        things: What they are, in the plural.
        say: Receives one line whenever there is less room than was thought.
    """

    size: int
    things: str
    say: Callable[[str], None]

    def parts(
        self, items: Sequence[int], work: Callable[[Sequence[int]], _Result]
    ) -> Iterator[tuple[Sequence[int], _Result]]:
        """Works on items in order, as many at once as there is room for.

        Args:
            items: What is to be done.
            work: Does some of it; called again with fewer where memory runs out.

        Yields:
            Items that were worked on together, and what came of them.

        Raises:
            OutOfMemoryError: There is no room even for one.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                done = work(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise self._none_left() from error
            else:
                start += len(part)
                yield part, done
                continue
            # Behind the `except` block: inside it the traceback still holds what the failed work had made.
            self._halve(len(part))

    def _halve(self, tried: int) -> None:
        free_memory()
        self.size = tried // 2
        self.say(f"Memory does not suffice for {tried} {self.things} at once: {self.size} from now on.")

    def _none_left(self) -> OutOfMemoryError:
        return OutOfMemoryError(
            f"Memory does not suffice even with one of the {self.things} at a time: choose smaller pictures"
            " (--height, --width), a device with more memory, or fewer cells at once (--workers)."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if "torch" in sys.modules and isinstance(error, sys.modules["torch"].OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _PHRASES)


def free_memory() -> None:
    """Lets go of what failed work held: it must not fail what comes next."""
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()
