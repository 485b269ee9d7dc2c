"""From the results of a run to its record and its reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.attacks.base import portable
from zbench.concepts import load_concept
from zbench.config import REPLAY, RunConfig
from zbench.exchange.names import portable_name
from zbench.model import load_spec
from zbench.protocols import CONCEPT_ROLES
from zbench.report.compare import stored_evidence
from zbench.report.header import header_lines
from zbench.report.run_folder import RunRecord, make_record, stored_ties, write_report
from zbench.report.ties import tied_rows
from zbench.report.values import TITLES
from zbench.runner.specs import EXCLUDED
from zbench.store import safe_name

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult, CellSpec
    from zbench.store import Store


def report(
    config: RunConfig, specs: Sequence[CellSpec], cells: Sequence[CellResult], store: Store
) -> RunRecord:
    """Writes a run's reports; a second run over the same folder waits for its turn.

    Args:
        config: The run.
        specs: Its plan.
        cells: The results, in the order of the plan.
        store: The run folder.

    Raises:
        StoreError: The folder cannot be written.
    """
    with store.lock():
        record = _with_ties(_record_of(config, specs, cells), store.root)
        write_report(record, store.root)
    return record


def _record_of(config: RunConfig, specs: Sequence[CellSpec], cells: Sequence[CellResult]) -> RunRecord:
    name = safe_name(f"{config.concept}-{load_spec(config.model).name}")
    return make_record(name, _asked(config), header_lines(config, specs), cells, _blurred(config))


def _asked(config: RunConfig) -> dict[str, Any]:
    left_out = {*EXCLUDED, "out", "plugins", "references", "prompts_dir"}
    # Runs without attacks keep the id that they had before there were any.
    left_out |= set() if config.attacks else {"attacks", "attack_prompts"}
    asked = config.model_dump(mode="json", exclude=left_out)
    asked["methods"] = [portable_name(name) for name in config.methods]
    asked["settings"] = {portable_name(name): values for name, values in asked["settings"].items()}
    if config.attacks:  # cells are named by what is replayed, wherever it lies
        asked["attacks"] = [_portable_name(name) for name in config.attacks]
        asked["settings"] = {name: portable(values) for name, values in asked["settings"].items()}
    return asked


def _portable_name(attack: str) -> str:
    place = attack.removeprefix(REPLAY)
    return attack if place == attack else f"{REPLAY}{Path(place).expanduser().absolute().name}"


def _with_ties(record: RunRecord, root: Path) -> RunRecord:
    """Ties are kept with the run: a table is rendered from results alone, which hold no single pictures."""
    known = stored_ties(record, root)
    if known is None:
        tied = tied_rows(record.cells, stored_evidence(root), tuple(TITLES))
        known = {name: sorted(ids) for name, ids in tied.items()}
    return replace(record, ties=known)


def _blurred(config: RunConfig) -> list[str]:
    """Photographs of this family are blurred on the sheet; the stored pictures are as they were drawn."""
    domain = load_spec(config.model).domain
    delicate = load_concept(config.concept, domain).family == "nsfw" and domain == "photograph"
    return list(CONCEPT_ROLES) if delicate else []
