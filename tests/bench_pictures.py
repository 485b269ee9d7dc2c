"""Throughput of drawing: batches of equal captions against one picture at a time, and what writing adds.

Run by `nox -s bench`; `--pictures 16 --repeats 2` for a quick look, `--model PATH --device cuda` elsewhere.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.bench_scoring import CONCEPT, DOMAIN, FAMILY, cell_samples
from tests.bench_tools import Row, alternate, medians, ratio, show
from zbench.protocols import load_protocol
from zbench.stages.generate import generate, generate_folder
from zbench.stages.inputs import ModelHandle
from zbench.stages.samples import Sample, write_samples
from zbench.store import Store

BATCHES = (1, 4, 16)


class Drawing:
    """The pictures of one cell, drawn with other seeds in every round."""

    def __init__(self, model: str, device: str, count: int, root: Path) -> None:
        table = load_protocol("zbench").table(DOMAIN, CONCEPT, FAMILY)
        self.samples = cell_samples(table, count)
        self.handle, self.root = ModelHandle(model, device), root
        self.handle.model.encode([sample.prompt for sample in self.samples])

    def in_memory(self, number: int, batch_size: int) -> None:
        """Draws all of them into memory, and writes them afterwards: a bare loop over the pipeline."""
        samples = self._shifted(number)
        prompts, seeds = [s.prompt for s in samples], [s.seed for s in samples]
        pictures = self.handle.model.generate(prompts, seeds, batch_size=batch_size)
        write_samples(self.root / f"bare-{number}-{batch_size}", pictures, samples)

    def to_disk(self, number: int, batch_size: int) -> None:
        """Draws them as a run does: a stage folder, journalled, hashed."""
        samples = self._shifted(number)
        store, steps = Store.open(self.root / "runs"), self.handle.model.spec.steps
        folder = generate_folder(store, None, self.handle, samples, steps)
        generate(folder, None, self.handle, samples, steps, batch_size)

    def _shifted(self, number: int) -> list[Sample]:
        return [s.model_copy(update={"seed": s.seed + 2 * number + 100}) for s in self.samples]


def measure(drawing: Drawing, repeats: int) -> list[Row]:
    """Drawing in batches of several sizes, and through the stage."""
    works = {f"batch {size}": lambda number, size=size: drawing.in_memory(number, size) for size in BATCHES}
    works["stage"] = lambda number: drawing.to_disk(number, BATCHES[-1])
    seconds = alternate(works, repeats)
    detail = {"seconds_per_picture": medians(seconds, len(drawing.samples)), "pictures": len(drawing.samples)}
    alone, largest = (f"batch {size}" for size in (BATCHES[0], BATCHES[-1]))
    return [
        Row(f"one picture at a time / batches of up to {BATCHES[-1]}", ratio(seconds, alone, largest), "x",
            1, "at least", detail),
        Row("drawing as a stage / into memory and written at the end", ratio(seconds, "stage", largest), "x",
            1.03, "at most"),
    ]  # fmt: skip


def main() -> None:
    """Prints a table, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawing = Drawing(chosen.model, chosen.device, chosen.pictures, Path(folder))
        show(measure(drawing, chosen.repeats))


if __name__ == "__main__":
    main()
