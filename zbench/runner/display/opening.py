"""Which board a grid has: a display on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from zbench.runner.display.board import PlainBoard
from zbench.runner.display.tally import Outlook
from zbench.runner.launchers.base import Board


@contextlib.contextmanager
def open_board(root: Path, outlook: Outlook) -> Iterator[Board]:
    """A display on standard error where that is a terminal, plain lines otherwise.

    Args:
        root: The run folder.
        outlook: What is known of the grid.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainBoard(root, outlook)
        return
    from zbench.runner.display.board_live import LiveBoard

    with LiveBoard(root, outlook, console) as board:
        yield board
