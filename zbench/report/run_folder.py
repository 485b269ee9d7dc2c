"""Reports in a run folder: written after a run, rendered again at any time from the stored results.

The folder's top level shows the last run. Every run keeps its own copy under `reports/<id>/`, so that another
configuration in the same folder overwrites nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zbench.errors import StoreError
from zbench.report.attack_files import ATTACK_FILES, attack_files
from zbench.report.attack_rows import AttackTable, build_attack_table
from zbench.report.contact_sheet import sheet_of
from zbench.report.table import Table, build_table, cost_csv, render_csv, render_markdown
from zbench.runner.specs import SCHEMA_VERSION, SCHEMA_VERSION_ATTACKED, CellResult
from zbench.store import Store, atomic_write_bytes, atomic_write_json, atomic_write_text, identity, read_json

RUN_FILE = "run.json"
SHEET_FILE = "contact_sheet.png"


@dataclass(frozen=True)
class RunRecord:
    """What is needed to render a run again.

    Attributes:
        id: Identity of the run's configuration.
        header: Lines over the table.
        cells: Results, in the order of the plan.
        blurred: Roles whose pictures are blurred on the contact sheet.
        ties: Figure -> ids of the cells that are best or tied with the best.
    """

    id: str
    header: tuple[str, ...]
    cells: tuple[CellResult, ...]
    blurred: tuple[str, ...] = ()
    ties: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def scores(self) -> list[str]:
        """The scores folders of the cells that are done: what ties follow from."""
        return [cell.stages["score"] for cell in self.cells if cell.status == "done"]

    @cached_property
    def table(self) -> Table:
        """The comparison table."""
        return build_table(self.cells, self.header, self.ties)

    @cached_property
    def attack_table(self) -> AttackTable | None:
        """What the attacks found; None where none was made."""
        return build_attack_table(self.cells, self.header)


def make_record(
    name: str,
    config: dict[str, Any],
    header: Sequence[str],
    cells: Sequence[CellResult],
    blurred: Sequence[str],
) -> RunRecord:
    """A record with an identity of its own.

    Args:
        name: Readable beginning of the id.
        config: What the run was asked for, without knobs that change nothing.
        header: Lines over the table.
        cells: Results in the order of the plan.
        blurred: Roles whose pictures are blurred on the contact sheet.
    """
    run_id = identity(name, {"config": config, "cells": [cell.id for cell in cells]})
    return RunRecord(run_id, tuple(header), tuple(cells), tuple(blurred))


def stored_ties(record: RunRecord, root: Path) -> Mapping[str, Sequence[str]] | None:
    """The ties of an earlier run of the same configuration, None where its scores were others."""
    path = root / "reports" / record.id / RUN_FILE
    if not path.is_file():
        return None
    run = read_json(path)
    known = isinstance(run, dict) and run.get("scores") == record.scores
    return run.get("ties") if known else None


def write_report(record: RunRecord, root: Path) -> None:
    """Writes table.csv, table.md, cost.csv, contact_sheet.png, attacks' files and run.json, twice: see above.

    Raises:
        StoreError: The folder cannot be written.
    """
    own = root / "reports" / record.id
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot write {own}: {error.strerror or error}.") from error
    table = record.table
    texts = {
        "table.csv": render_csv(table),
        "table.md": render_markdown(table),
        "cost.csv": cost_csv(record.cells),
    }
    blurred = frozenset(record.blurred)
    others = {SHEET_FILE: sheet_of(record.cells, root, blurred)}
    others |= attack_files(record.attack_table, root, flagged=bool(blurred))
    for folder in (own, root):
        for name, text in texts.items():
            atomic_write_text(folder / name, text)
        for name in (SHEET_FILE, *ATTACK_FILES):
            _write_or_remove(folder / name, others.get(name))
        atomic_write_json(folder / RUN_FILE, _as_json(record))


def _write_or_remove(path: Path, content: bytes | None) -> None:
    """What an earlier run left is not taken for this one's."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        atomic_write_bytes(path, content)


def _as_json(record: RunRecord) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "id": record.id,
        "header": list(record.header),
        "cells": [f"cells/{cell.id}/result.json" for cell in record.cells],
        "blurred": list(record.blurred),
        "scores": record.scores,
        "ties": {name: list(ids) for name, ids in record.ties.items()},
    }


def read_record(folder: Path | str) -> RunRecord:
    """Reads the last run of a run folder, or the run in one of its `reports/<id>` folders.

    Raises:
        StoreError: There is no run here, it is of a newer schema, or a result is missing or damaged.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise StoreError(
            f"{folder} holds no finished run (no {RUN_FILE}): give the folder of `zbench run --out`."
        )
    run = read_json(folder / RUN_FILE)
    root = folder.parent.parent if folder.resolve().parent.name == "reports" else folder
    Store.open(root, create=False)
    try:
        if run["schema_version"] > SCHEMA_VERSION:
            raise StoreError(f"{folder / RUN_FILE} was written by a newer zbench: upgrade zbench to read it.")
        cells = tuple(_read_result(root / place) for place in run["cells"])
        ties = run.get("ties", {})
        return RunRecord(run["id"], tuple(run["header"]), cells, tuple(run["blurred"]), ties)
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / RUN_FILE} is malformed; run the same command again to renew it."
        ) from error


def _read_result(path: Path) -> CellResult:
    stored = read_json(path)
    version = stored.get("schema_version") if isinstance(stored, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION_ATTACKED:
        raise StoreError(f"{path} was written by a newer zbench: upgrade zbench to read it.")
    try:
        return CellResult.model_validate(stored)
    except ValidationError as error:
        raise StoreError(
            f"{path} is no result of this version of zbench; delete its folder and run again."
        ) from error
