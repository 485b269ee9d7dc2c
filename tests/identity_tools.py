"""Ids of the stages of a run without their work: erasing, drawing, scoring and attacking are stand-ins.

What is asked is the real planning and the real cells; only what a stage writes is made up, in one of two
ways. Apart: every stage writes the same whatever its configuration, so that an id tells what its own
configuration holds. Chained: it writes something of its own, as real stages do, so that what follows moves
with it.

Run as a program it prints the ids of a run: ``python -m tests.identity_tools '{"methods": ["uce"], ...}'``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.instruments import ColourDetector
from zbench.config import RunConfig
from zbench.runner.cell import run_cell
from zbench.runner.planning import plan
from zbench.runner.specs import CellSpec
from zbench.runner.workshop import Workshop
from zbench.stages.inputs import ModelHandle
from zbench.store import StageFolder, Store

STAGES = ("erasures", "samples", "scores", "attacks", "cells")
"""Kinds of stage folders that a configuration names by itself; the others follow from their content."""

Ids = dict[str, frozenset[str]]
"""Kind -> ids of one cell."""

PLUGIN = '''
"""A method that costs nothing to plan."""

from zbench.method import Method, MethodCard

CARD = MethodCard(title="Fade", paper="none", arxiv="", reference_code_licence="none released", rows="text",
                  weights="one projection", needs_training=False, needs_pictures=False)


class Fade(Method):
    name = "fade"
    card = CARD
    presets = {"miniature": {"size": 0.5, "turns": 3}, "paper": {"size": 0.7, "turns": 5}}
    size: float = 0.1
    turns: int = 1

    def erase(self, model, concept, *, progress=None):
        raise AssertionError("nothing is trained here")
'''


def write_plugin(path: Path, more: str = "") -> Path:
    """A file with the method `fade`, which differs from others by a comment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PLUGIN + more)
    return path


class Planner:
    """Names the stages of cells.

    Args:
        root: Where stand-ins are written.
        chained: Whether what a stage writes follows its configuration.
    """

    def __init__(self, root: Path, chained: bool) -> None:
        self.store, self.chained = Store.open(root), chained
        self.workshop = Workshop()
        self._known: dict[str, Ids] = {}

    def ids(self, config: RunConfig) -> dict[str, Ids]:
        """Label of a cell -> its ids."""
        return {spec.label: self.of(spec) for spec in plan(config)}

    def of(self, spec: CellSpec) -> Ids:
        """The ids of one cell."""
        key = spec.model_dump_json()
        if key not in self._known:
            with self._recorded() as named:
                result = run_cell(spec, self.store, workshop=self.workshop)
            assert (result.status == "done") == (spec.problem is None), result.error
            named["cells"] = {result.id}
            self._known[key] = {kind: frozenset(named[kind]) for kind in STAGES}
        return self._known[key]

    @contextmanager
    def _recorded(self) -> Iterator[dict[str, set[str]]]:
        """Notes every stage that is asked for, with stand-ins for the work."""
        named: dict[str, set[str]] = defaultdict(set)
        stage = Store.stage

        def noted(store: Store, kind: str, *rest: Any, **more: Any) -> StageFolder:
            folder = stage(store, kind, *rest, **more)
            named[kind].add(folder.id)
            return folder

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "stage", noted)
            for name, stand_in in self._stand_ins().items():
                patch.setattr(name, stand_in)
            # A class attribute, so that a handle still counts as not loaded.
            patch.setattr(ModelHandle, "model", SimpleNamespace(device="cpu"))
            yield named

    def _stand_ins(self) -> dict[str, Callable[..., Any]]:
        """What is replaced; each is the seam where a cell hands over to work."""
        return {
            "zbench.runner.cell.erase": self._writer({"edit/weights": "", "erasure.json": '{"cost": null}'}),
            "zbench.runner.cell.generate": self._writer({"manifest.json": ""}),
            "zbench.runner.cell._Cell._score": self._scorer,
            "zbench.runner.cell.samples_table": lambda *_: b"",
            "zbench.runner.cell.provenance": lambda device: {},
            "zbench.runner.workshop.Workshop.detector": lambda *_: ColourDetector(classes=("nudity", "cat")),
            "zbench.runner.attacks.attack": _refuse,
            "zbench.runner.attacks.free_memory": lambda: None,
            "zbench.runner.attacks.plain_verdicts": lambda *_: {},
            "zbench.stages.judge.Judge.missing": lambda *_: (),
            "zbench.stages.judge.Judge.verdicts": lambda *_: {},
        }

    def _writer(self, files: dict[str, str]) -> Callable[..., None]:
        """Does a stage by writing these files, the stage's id in those that are empty."""

        def work(folder: StageFolder, *_: Any, **__: Any) -> None:
            def fill(place: Path) -> None:
                for name, text in files.items():
                    (place / name).parent.mkdir(exist_ok=True)
                    (place / name).write_text(text or (folder.id if self.chained else "the same"))

            folder.write(fill)

        return work

    def _scorer(self, folder: StageFolder, *_: Any) -> None:
        self._writer({"figures.json": '{"figures": []}'})(folder)


def _refuse(*_: Any) -> None:
    raise RuntimeError("no attack is made here")


def main() -> None:
    """Prints the ids of the run whose settings are given as JSON, in both ways."""
    config = RunConfig.create(json.loads(sys.argv[1]))
    found = {}
    for chained in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            ids = Planner(Path(folder) / "runs", chained).ids(config)
            found[str(chained)] = {
                label: {kind: sorted(names) for kind, names in each.items()} for label, each in ids.items()
            }
    print(json.dumps(found, sort_keys=True))


if __name__ == "__main__":
    main()
