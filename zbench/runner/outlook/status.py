"""How a run folder stands: its cells, and which of them are at work just now, in whatever process.

It goes by summaries, by the files that launchers leave and by held locks; nothing is hashed, and no network
or table is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zbench.locks import holder, is_held
from zbench.runner.following import Situation, situation_of
from zbench.runner.outlook.planned import Planned, read_planned
from zbench.runner.summary import Summary, read_summaries
from zbench.store import LOCKS, Store

Phase = Literal["running", "stopped", "died", "waiting"]
"""`stopped`: on request; `died`: its process is gone without a word; `waiting`: planned and not started."""

RUN_LOCK = "run"
"""Lock of whoever writes the reports."""


@dataclass(frozen=True)
class Launched:
    """A cell that was planned or launched and has no result yet, or is worked on again.

    Attributes:
        id: Its identity.
        label: How people are told of it.
        concept: Name of its concept; empty where its file cannot be read.
        phase: See `Phase`.
        situation: How far it is, as its process tells or told.
    """

    id: str
    label: str
    concept: str
    phase: Phase
    situation: Situation


@dataclass(frozen=True)
class Status:
    """How a run folder stands.

    Attributes:
        root: The run folder.
        cells: Summaries of the cells that have a result, failures included, by id.
        launched: Cells without a result that were launched, and those at work, by id.
        stages: Stages that are being done at the moment -> by whom, such as `node7, process 4711`.
    """

    root: Path
    cells: dict[str, Summary]
    launched: dict[str, Launched] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)

    def ended(self, status: str) -> list[Summary]:
        """Cells whose result says so, those at work again left out."""
        running = {each.id for each in self.phase("running")}
        return [each for each in self.cells.values() if each.status == status and each.id not in running]

    def phase(self, phase: Phase) -> list[Launched]:
        """Launched cells of a phase."""
        return [each for each in self.launched.values() if each.phase == phase]

    @property
    def elsewhere(self) -> dict[str, str]:
        """Stages being done by processes that tell nothing else, such as runs in one process."""
        told = {(each.situation.host, each.situation.pid) for each in self.phase("running")}
        known = {f"{host}, process {pid}" for host, pid in told}
        return {stage: who for stage, who in self.stages.items() if who not in known}


def read_status(root: Path | str) -> Status:
    """Looks at a run folder, which other processes may be writing to.

    Raises:
        StoreError: It is no run folder, or of a newer zbench.
    """
    store = Store.open(root, create=False)
    cells = read_summaries(store.root / "cells")
    launched = {each.id: each for each in _launched(store.root, cells)}
    return Status(store.root, cells, launched, dict(_held(store.root / LOCKS)))


def _launched(root: Path, cells: dict[str, Summary]) -> Iterator[Launched]:
    planned, begun = read_planned(root), {*_names(root / "specs", ".json"), *_names(root / "logs", ".jsonl")}
    for name in sorted({*planned, *begun}):
        running = name in begun and is_held(root / "logs" / f"{name}.jsonl")
        if running or name not in cells:
            known = cells.get(name) or planned.get(name) or _told(root / "specs" / f"{name}.json", name)
            yield _cell(root, name, running, known)


def _names(folder: Path, ending: str) -> Iterator[str]:
    if folder.is_dir():
        yield from (path.name.removesuffix(ending) for path in folder.glob(f"*{ending}"))


def _cell(root: Path, name: str, running: bool, known: Summary | Planned) -> Launched:
    situation = situation_of(root / "logs" / f"{name}.jsonl")
    return Launched(name, known.label, known.concept, "running" if running else _phase(situation), situation)


def _phase(situation: Situation) -> Phase:
    if not situation.host:
        return "waiting"
    return "stopped" if situation.status in ("stopped", "refused") else "died"


def _told(file: Path, name: str) -> Planned:
    """A cell from the file that its process is given."""
    try:
        spec: dict[str, Any] = json.loads(file.read_bytes())["spec"]
        seed = spec.get("hyperparameters", {}).get("training_seed")
        return Planned(spec["method"] if seed is None else f"{spec['method']} s{seed}", spec["concept"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Planned(name, "")


def _held(locks: Path) -> Iterator[tuple[str, str]]:
    """Stage -> who does it; the locks of runs and of their reports are none of them."""
    for path in sorted(locks.glob("*")) if locks.is_dir() else ():
        if not path.name.startswith(RUN_LOCK) and (who := holder(path)):
            yield path.name, who
