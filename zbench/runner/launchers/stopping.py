"""Asking work to stop: a signal sets a flag, and the work looks at it where it can be interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks to stop: Ctrl-C, and the usual way in which systems end a process."""


class Stopped(BaseException):
    """The work was asked to stop, and did: it can be gone on with.

    No `Exception`, so that neither a stranger's `except Exception` nor the recording of failures takes it for
    one.
    """


class StopFlag:
    """Whether work was asked to stop, and how often."""

    def __init__(self) -> None:
        self.times = 0

    def __bool__(self) -> bool:
        return self.times > 0

    def set(self) -> None:
        """Asks to stop."""
        self.times += 1

    def check(self) -> None:
        """Stops here if that was asked for.

        Raises:
            Stopped: It was.
        """
        if self.times:
            raise Stopped


@contextlib.contextmanager
def handling(
    flag: StopFlag, also: Callable[[int], None] = lambda number: None, handled: tuple[int, ...] = SIGNALS
) -> Iterator[None]:
    """Lets signals set a flag for the length of a `with` block.

    Outside the main thread, where Python allows no handlers, the signals stay as they are.

    Args:
        flag: Is set by each signal.
        also: Called with the signal's number afterwards.
        handled: The signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        flag.set()
        also(number)

    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not made by Python, and cannot be put back by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
