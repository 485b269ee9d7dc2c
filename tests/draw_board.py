"""Takes the documentation's picture of the live display, of a real grid: `python -m tests.draw_board`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from zbench.runner.display.board_live import LiveBoard
from zbench.runner.display.tally import Outlook
from zbench.runner.grid import Grid
from zbench.runner.launchers.base import Job
from zbench.runner.running import run_grid

TARGET = Path(__file__).parent.parent / "docs" / "live_display.svg"
FINISHED, AT_WORK = 2, 2


class Taken(Exception):
    """The picture is there; the rest of the grid need not be run."""


class Camera(LiveBoard):
    """A display that is drawn once: when some cells are finished, and some are in the middle of a stage."""

    def event(self, job: Job, event: dict[str, Any]) -> None:
        super().event(job, event)
        midway = [cell for cell in self.tally.running if 0 < cell.situation.done < cell.situation.total]
        if self.tally.finished >= FINISHED and len(midway) >= AT_WORK:
            self._console.print(self.render())
            svg = self._console.export_svg(title="zbench run --workers 2", unique_id="zbench")
            TARGET.write_text(svg, encoding="utf-8")
            raise Taken


def main() -> None:
    """Runs the grid and writes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {
            "methods": ("uce", "negative_prompt", "safree", "sld"), "concepts": ("nudity",), "prompts": 8,
            "batch_size": 2, "training_seeds": 2, "out": Path(folder) / "runs",
            "launch": {"launcher": "local", "devices": ("cpu",), "workers": 2},
        }  # fmt: skip

        @contextmanager
        def open_board(root: Path, outlook: Outlook) -> Iterator[Camera]:
            console = Console(file=io.StringIO(), width=110, height=30, force_terminal=True, record=True)
            yield Camera(root, outlook, console)

        with suppress(Taken):
            run_grid(Grid.create(flags), open_board=open_board)


if __name__ == "__main__":
    main()
