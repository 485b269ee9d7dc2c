"""Running a whole configuration: plan, cells one after the other, reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.attacks.base import portable
from zbench.concepts import load_concept
from zbench.config import REPLAY, RunConfig
from zbench.model import load_spec
from zbench.protocols import CONCEPT_ROLES
from zbench.report.compare import stored_evidence
from zbench.report.header import header_lines
from zbench.report.run_folder import RunRecord, make_record, stored_ties, write_report
from zbench.report.ties import tied_rows
from zbench.report.values import TITLES
from zbench.runner.cell import Workshop, run_cell
from zbench.runner.planning import plan
from zbench.runner.progress import Reporter, Silent
from zbench.runner.specs import EXCLUDED, CellResult, CellSpec
from zbench.store import Store, safe_name

if TYPE_CHECKING:
    from zbench.report.table import Table


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        record: Header and results, as stored.
        root: The run folder: table.csv, table.md, cost.csv, contact_sheet.png, and the stages' folders.
        messages: What was found damaged and done again.
    """

    record: RunRecord
    root: Path
    messages: tuple[str, ...]

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """Results in the order of the plan."""
        return self.record.cells

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """Cells that failed; their tracebacks are in `error`."""
        return tuple(cell for cell in self.cells if cell.status == "failed")

    @property
    def table(self) -> Table:
        """The comparison table."""
        return self.record.table


def run(config: RunConfig | None = None, *, reporter: Reporter | None = None, **settings: Any) -> RunResult:
    """Runs methods against a concept and compares them with the unerased model.

    Args:
        config: The run; or give its fields as keywords: `run(methods=("uce",), concept="nudity")`.
        reporter: Shows progress; nobody when None.
        **settings: Fields of `RunConfig`, combined with environment and `zbench.toml` as on the command line.

    Returns:
        Results and table. A cell that failed is in it with its traceback; the others are complete.

    Raises:
        ZbenchError: Something that must be mended before anything can run.
    """
    config = config or RunConfig.create(settings)
    reporter = reporter or Silent()
    specs = plan(config)
    store = Store.open(config.out, notify=reporter.say)
    with store.lock():
        cells = _run_cells(specs, store, reporter)
        record = _with_ties(_record(config, specs, cells), store.root)
        write_report(record, store.root)
    return RunResult(record, store.root, tuple(store.messages))


def _run_cells(specs: Sequence[CellSpec], store: Store, reporter: Reporter) -> list[CellResult]:
    workshop = Workshop()
    cells = []
    for spec in specs:
        cells.append(run_cell(spec, store, reporter, workshop))
        if cells[-1].status != "done":
            reporter.say(f"{spec.label}: {cells[-1].status}: {cells[-1].reason}")
    return cells


def _record(config: RunConfig, specs: Sequence[CellSpec], cells: Sequence[CellResult]) -> RunRecord:
    name = safe_name(f"{config.concept}-{load_spec(config.model).name}")
    return make_record(name, _asked(config), header_lines(config, specs), cells, _blurred(config))


def _asked(config: RunConfig) -> dict[str, Any]:
    left_out = {*EXCLUDED, "out", "plugins", "references", "prompts_dir"}
    # Runs without attacks keep the id that they had before there were any.
    left_out |= set() if config.attacks else {"attacks", "attack_prompts"}
    asked = config.model_dump(mode="json", exclude=left_out)
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
