"""Which cells a grid is about to run, left in the run folder for whoever asks how far it is.

It is only for people: no decision of a run depends on it, and a run goes on where it cannot be written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zbench.errors import StoreError
from zbench.store import DONE, atomic_write_json, read_json

if TYPE_CHECKING:
    from zbench.runner.launchers.base import Job
    from zbench.store import Store

PLANNED = "planned.json"
SCHEMA_VERSION = 1


class Planned(NamedTuple):
    """A cell that was to be run: how people are told of it, and its concept."""

    label: str
    concept: str


def note_planned(store: Store, jobs: Iterable[Job]) -> None:
    """Adds the cells of a grid to those that other runs over this folder still have to do.

    Args:
        store: The run folder.
        jobs: Cells that are not done; nothing is written where there are none.
    """
    cells = {job.id: Planned(job.spec.label, job.spec.concept) for job in jobs}
    if not cells:
        return
    with contextlib.suppress(StoreError), store.lock():
        known = {name: each for name, each in read_planned(store.root).items() if not _is_done(store, name)}
        plain = {name: each._asdict() for name, each in {**known, **cells}.items()}
        atomic_write_json(store.root / PLANNED, {"schema_version": SCHEMA_VERSION, "cells": plain})


def _is_done(store: Store, name: str) -> bool:
    return (store.root / "cells" / name / DONE).is_file()


def read_planned(root: Path) -> dict[str, Planned]:
    """Cell id -> what was to be run; cells that are done by now are among them."""
    try:
        record = read_json(root / PLANNED)
        if record["schema_version"] > SCHEMA_VERSION:
            return {}
        return {
            name: Planned(str(each["label"]), str(each["concept"])) for name, each in record["cells"].items()
        }
    except (StoreError, KeyError, TypeError, AttributeError):
        return {}
