"""Run folders as grids leave them, made up through the real classes: nothing is trained, drawn or scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zbench.runner.grid import Grid
from zbench.runner.identity import method_of
from zbench.runner.planning import plan
from zbench.runner.specs import CellResult, CellSpec
from zbench.runner.summary import SUMMARY, Summary
from zbench.runner.workshop import Workshop
from zbench.stages.erase import erase_folder
from zbench.store import StageFolder, Store, atomic_write_json, atomic_write_text

CPU = {"type": "cpu", "name": "x86_64"}


class FakeRun:
    """Puts stages and cells into a run folder as if they had been done.

    Attributes:
        grid: The grid.
        store: Its run folder.
        specs: Its cells.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.store = Store.open(grid.out)
        self.identities = Workshop().identities
        self.specs = [spec for run in grid.runs for spec in plan(run)]

    def folders(self, spec: CellSpec) -> Iterator[tuple[str, StageFolder]]:
        """The stages of a cell in order; each must be written before the next one is asked for."""
        inputs, method = self.identities.inputs(spec), method_of(spec)
        erasure = None if method is None else erase_folder(self.store, method, inputs.concept, inputs.model)
        if erasure is not None:
            yield "erase", erasure
        own, originals = [], []
        for role in inputs.prompt_sets:
            own.append(inputs.pictures(self.store, erasure, role))
            yield f"pictures {role}", own[-1]
        for role in inputs.prompt_sets if erasure is not None else ():
            originals.append(inputs.pictures(self.store, None, role))
            yield f"original {role}", originals[-1]
        yield "score", inputs.scores(self.store, own, originals or own)

    def do(self, spec: CellSpec, count: int | None = None) -> list[str]:
        """Does the first so many stages of a cell, all when None; returns those that were missing."""
        done = []
        for number, (name, folder) in enumerate(self.folders(spec)):
            if count is not None and number >= count:
                break
            if not folder.is_complete():
                folder.write(lambda place, folder=folder: fill(place, folder))  # type: ignore[misc]
                done.append(name)
        return done

    def result(self, spec: CellSpec, status: str = "done", **more: Any) -> CellResult:
        """A result as a cell writes it, without figures."""
        inputs = self.identities.inputs(spec)
        prompts = {role: {"size": len(of.prompts)} for role, of in inputs.prompt_sets.items()}
        model = {"name": inputs.model.spec.name, **inputs.model.identity}
        facts = {"device": CPU, "model": model, "prompts": prompts}
        fields: dict[str, Any] = {"schema_version": 2 if spec.attacks else 1, "status": status, **more}
        name = self.identities.folder(spec, self.store).id
        return CellResult(id=name, spec=spec.published(), **{"provenance": facts, **fields})

    def finish(
        self, spec: CellSpec, status: str = "done", seconds: Mapping[str, float] | None = None, **more: Any
    ) -> Summary:
        """Writes a cell's folder with its summary, as if its stages were done."""
        name, first = next(self.folders(spec))
        stages = {name: f"erasures/{first.id}"} if (name, status) == ("erase", "done") else {}
        summary = Summary.of(self.result(spec, status, seconds=dict(seconds or {}), stages=stages, **more))
        folder = self.identities.folder(spec, self.store)
        folder.write(lambda place: atomic_write_json(place / SUMMARY, summary.model_dump(mode="json")))
        return summary


def fill(place: Path, folder: StageFolder) -> None:
    """The files whose hashes name what comes after, different for every stage."""
    (place / "edit").mkdir()
    for name in ("manifest.json", "edit/tensors"):
        atomic_write_text(place / name, json.dumps(folder.id))
