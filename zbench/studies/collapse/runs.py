"""Runs and what is kept of them: one small file per run, found again by its settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.method import TOOLKIT_VERSION
from zbench.store import atomic_write_bytes
from zbench.studies.collapse.plan import Planned
from zbench.studies.collapse.sheet import strip
from zbench.studies.collapse.training import Bench, constants
from zbench.studies.reading import Notebook

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.studies.reading import Reader

VERSION = 2
"""Raised when the same settings would train or read otherwise."""


class Runs:
    """Does what is missing and finds what is there.

    Args:
        folder: Where the files lie.
        reader: Draws and reads; its model is loaded when the first run is missing.
        concept: What is erased.
        training: Arguments of `Bench`.
    """

    def __init__(self, folder: Path, reader: Reader, concept: Concept, training: Mapping[str, Any]) -> None:
        self.notebook, self.reader, self.concept = Notebook(folder), reader, concept
        self.training = dict(training)
        self._identity = reader.identity()
        self._bench: Bench | None = None

    def original(self) -> dict[str, Any]:
        """What the unerased model does, with its own prompts drawn again, and its size."""
        found = self.notebook.find("original", self._config(None))
        if found is None:
            reading, transformer = self.reader.read(None), self.reader.model.model.transformer
            figures = {
                "reading": reading.record,
                "again": self.reader.again(),
                "parameters": sum(p.numel() for p in transformer.parameters()),
            }
            atomic_write_bytes(self._strip(None, 0.0), strip(reading.unrelated))
            found = self.notebook.keep("original", self._config(None), figures)
        return found

    def run(self, one: Planned) -> dict[str, Any]:
        """Fine-tunes and reads, or finds what was kept."""
        found = self.notebook.find("run", self._config(one))
        return self._run(one) if found is None else found

    def strips(self, one: Planned | None, scales: tuple[float, ...]) -> tuple[bytes | None, ...]:
        """Pictures of unrelated prompts at some strengths; the same ones for all, of the original."""
        paths = [self._strip(one, 0.0 if one is None else scale) for scale in scales]
        return tuple(path.read_bytes() if path.is_file() else None for path in paths)

    def _run(self, one: Planned) -> dict[str, Any]:
        from zbench.edits import LoraEdit

        if self._bench is None:
            self._bench = Bench(self.reader.model.model, self.concept, **self.training)
        start = time.perf_counter()
        trained = self._bench.train(one.run)
        seconds = time.perf_counter() - start
        readings = {}
        for scale in one.scales:
            reading = self.reader.read(LoraEdit.combined([trained.edit], [scale]))
            readings[f"{scale:g}"] = reading.record
            atomic_write_bytes(self._strip(one, scale), strip(reading.unrelated))
        figures = {
            "readings": readings,
            "layers": list(trained.edit.layers or ()),
            "first": trained.trace[0] if trained.trace else {},
            "last": trained.trace[-1] if trained.trace else {},
            "steps": len(trained.trace),
            "diverged": trained.diverged,
            "seconds": round(seconds, 1),
        }
        return self.notebook.keep("run", self._config(one), figures)

    def _config(self, one: Planned | None) -> dict[str, Any]:
        """What a run depends on; the original for None."""
        config = {"version": VERSION, "reader": self._identity}
        if one is None:
            return config
        return {
            **config,
            "toolkit": TOOLKIT_VERSION,
            "constants": constants(),
            "concept": self.concept.model_dump(mode="json"),
            "run": one.run.describe(),
            "scales": list(one.scales),
            "training": self.training,
        }

    def _strip(self, one: Planned | None, scale: float) -> Path:
        name = self.notebook.name(_kind(one), self._config(one))
        return self.notebook.folder / f"{name}-x{scale:g}.png"


def _kind(one: Planned | None) -> str:
    return "original" if one is None else "run"
