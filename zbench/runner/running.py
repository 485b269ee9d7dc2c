"""Running a grid: what is done is found, what is missing is launched, and every run gets its reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.config import RunConfig
from zbench.errors import ZbenchError
from zbench.report.run_folder import RunRecord
from zbench.runner.cell import record_failure, stored_cell
from zbench.runner.display.closing import CellEnd
from zbench.runner.display.progress import Reporter, Silent
from zbench.runner.display.tally import Outlook
from zbench.runner.grid import Grid
from zbench.runner.launchers import launcher_of
from zbench.runner.launchers.base import Board, Ended, Job, Launcher
from zbench.runner.launchers.settings import Launch
from zbench.runner.outlook.planned import note_planned
from zbench.runner.planning import plan
from zbench.runner.reporting import report
from zbench.runner.specs import CellResult, CellSpec
from zbench.runner.thinning import thin_cell, thin_grid
from zbench.runner.workshop import Workshop
from zbench.store import Store, read_json

if TYPE_CHECKING:
    from zbench.report.table import Table

VERIFYING = "Verifying finished cells"

OpenBoard = Callable[[Path, Outlook], AbstractContextManager[Board]]
"""Opens the display of a grid; see `zbench.runner.display.opening.open_board`."""


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


@dataclass(frozen=True)
class GridResult:
    """What a grid left behind.

    Attributes:
        root: The run folder.
        runs: Those whose cells all have results, failures included.
        ends: How every cell stands, in the order of the plan.
        seconds: Wall time.
        messages: What was found damaged and done again.
    """

    root: Path
    runs: tuple[RunResult, ...]
    ends: tuple[CellEnd, ...]
    seconds: float
    messages: tuple[str, ...]

    @property
    def stopped(self) -> bool:
        """Whether cells are left that were stopped, or not started."""
        return any(end.status in ("stopped", "waiting") for end in self.ends)


def run(
    config: RunConfig | None = None,
    *,
    reporter: Reporter | None = None,
    launch: Launch | None = None,
    **settings: Any,
) -> RunResult:
    """Runs methods against a concept and compares them with the unerased model.

    Args:
        config: The run; or give its fields as keywords: `run(methods=("uce",), concept="nudity")`.
        reporter: Shows progress of cells in this process; nobody when None.
        launch: Who runs the cells; when None they run one after the other in this process.
        **settings: Fields of `RunConfig`, combined with environment and `zbench.toml` as on the command line.

    Returns:
        Results and table. A cell that failed is in it with its traceback; the others are complete.

    Raises:
        ZbenchError: Something that must be mended before anything can run; or the run was asked to stop.
    """
    config = config or RunConfig.create(settings)
    grid = Grid(runs=(config,), launch=launch or Launch(launcher="inline"))
    result = run_grid(grid, reporter=reporter)
    if not result.runs:
        raise ZbenchError("The run was stopped before its end: run the same again to go on.")
    return result.runs[0]


def run_grid(
    grid: Grid,
    *,
    reporter: Reporter | None = None,
    open_board: OpenBoard | None = None,
    expected: Mapping[str, float] | None = None,
) -> GridResult:
    """Brings every cell of a grid to its result, doing only what is missing, and writes the reports.

    Args:
        grid: What to run, and who runs it.
        reporter: Shows how finished cells are verified, what was found damaged, and cells of this process.
        open_board: Shows how far the cells are; nobody when None.
        expected: Cell id -> seconds that it is expected to take, for that display.

    Returns:
        What came of it. Cells that failed are in it; a run with cells that were stopped has no table yet.

    Raises:
        ZbenchError: Something that must be mended before anything can run.
    """
    start = time.monotonic()
    reporter = reporter or Silent()
    plans = [plan(config) for config in grid.runs]
    launcher = launcher_of(grid.launch, reporter)
    store = Store.open(grid.out, notify=reporter.say)
    with store.at_work():
        store.sweep()
        work = _Work.of(plans, store, grid.launch, reporter)
        outlook = Outlook(work.jobs, len(work.before), expected or {})
        work.do(launcher, (open_board or _no_board)(store.root, outlook))
        runs = work.reports(grid.runs)
        seconds = time.monotonic() - start
        return GridResult(store.root, runs, tuple(work.cell_ends()), seconds, tuple(store.messages))


@contextmanager
def _no_board(root: Path, outlook: Outlook) -> Iterator[Board]:
    yield _Quiet()


class _Quiet:
    """Shows nothing."""

    def started(self, job: Job, device: str) -> None:
        """Takes no notice."""

    def event(self, job: Job, event: dict[str, Any]) -> None:
        """Takes no notice."""

    def ended(self, ended: Ended) -> None:
        """Takes no notice."""

    def say(self, line: str) -> None:
        """Takes no notice."""


@dataclass
class _Work:
    """A grid's cells while they are brought to their results.

    Attributes:
        store: The run folder.
        launch: Who runs the cells.
        plans: The cells of each run as jobs, in the order of its plan.
        workshop: What looking at cells needs.
        results: Cell id -> result, as far as there are any.
        before: Ids of the cells that were done before this run.
        others: Cell id -> how it ended, where that was without a result.
    """

    store: Store
    launch: Launch
    plans: list[list[Job]]
    workshop: Workshop
    results: dict[str, CellResult] = field(default_factory=dict)
    before: frozenset[str] = frozenset()
    others: dict[str, Ended] = field(default_factory=dict)

    @classmethod
    def of(
        cls, plans: Sequence[Sequence[CellSpec]], store: Store, launch: Launch, reporter: Reporter
    ) -> _Work:
        """Names the cells, and finds those that are done: every file that they stand on is read."""
        workshop, several = Workshop(), len(plans) > 1
        jobs = [[_job(spec, several, workshop, store) for spec in specs] for specs in plans]
        work = cls(store, launch, jobs, workshop)
        candidates = [job for job in work.every.values() if (store.root / "cells" / job.id).is_dir()]
        if candidates:
            with reporter.stage(VERIFYING) as advance:
                for number, job in enumerate(candidates, start=1):
                    work._find(job)
                    advance(number, len(candidates))
        work.before = frozenset(work.results)
        return work

    @property
    def every(self) -> dict[str, Job]:
        """Every cell once."""
        return {job.id: job for jobs in self.plans for job in jobs}

    def _find(self, job: Job) -> None:
        result = stored_cell(job.spec, self.store, self.workshop)
        if result is not None:
            self.results[job.id] = result

    @property
    def jobs(self) -> list[Job]:
        """Cells that are not done; unerased models first, because others wait for their pictures."""
        missing = [job for job in self.every.values() if job.id not in self.results]
        return sorted(missing, key=lambda job: not job.original)

    def do(self, launcher: Launcher, board: AbstractContextManager[Board]) -> None:
        """Runs the cells that are not done.

        Raises:
            ZbenchError: One of them met what the user has to mend first; or none can be run at all.
        """
        note_planned(self.store, self.jobs)
        with board as shown, closing(launcher.run(self.jobs, self.store, shown)) as ends:
            for ended in ends:
                self.take(ended)
        for ended in self.others.values():
            if ended.how == "refused":
                raise ZbenchError(ended.message)

    def take(self, ended: Ended) -> None:
        """Takes in how a job's process ended."""
        job = ended.job
        if ended.how in ("died", "timed out"):
            self.results[job.id] = record_failure(job.spec, self.store, ended.message or ended.how)
        elif ended.how == "finished":
            self.results[job.id] = self._read(job)
            if self.launch.keep == "thumbnails":
                thin_cell(self.store, self.results[job.id])
        else:
            self.others[job.id] = ended

    def _read(self, job: Job) -> CellResult:
        return CellResult.model_validate(read_json(self.store.root / "cells" / job.id / "result.json"))

    def reports(self, configs: Sequence[RunConfig]) -> tuple[RunResult, ...]:
        """Reports of the runs whose cells have results; then pictures are thinned, where that is wanted."""
        found = [self.reported(*each) for each in zip(configs, self.plans, strict=True)]
        runs = tuple(each for each in found if each is not None)
        if self.launch.keep == "thumbnails" and len(runs) == len(found):
            thin_grid(self.store, self.results.values())
        return runs

    def reported(self, config: RunConfig, jobs: Sequence[Job]) -> RunResult | None:
        """A run with its reports; None where a cell has no result yet."""
        if any(job.id not in self.results for job in jobs):
            return None
        cells = [self.results[job.id] for job in jobs]
        record = report(config, [job.spec for job in jobs], cells, self.store)
        return RunResult(record, self.store.root, tuple(self.store.messages))

    def cell_ends(self) -> Iterator[CellEnd]:
        """How every cell stands, for the summary."""
        for job in self.every.values():
            result, log = self.results.get(job.id), job.log(self.store.root)
            place = log if log.is_file() else None
            if result is not None:
                yield CellEnd.of(result, job.label, place, before=job.id in self.before)
            elif job.id in self.others:
                yield CellEnd(job.label, "stopped", self.others[job.id].message, place)
            else:
                yield CellEnd(job.label, "waiting")


def _job(spec: CellSpec, several: bool, workshop: Workshop, store: Store) -> Job:
    label = f"{spec.concept}: {spec.label}" if several else spec.label
    return Job(workshop.identities.folder(spec, store).id, label, spec, spec.is_original)
