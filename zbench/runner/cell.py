"""Running one cell: erase, generate, score, attack, each only where it is not done yet.

`run_cell` is the one function that every launcher calls, in whatever process.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zbench.errors import StoreError
from zbench.runner.attacks import attacking, not_judged
from zbench.runner.display.progress import Advance, Reporter, Silent
from zbench.runner.failing import PREREQUISITES, NotDone, free_memory
from zbench.runner.identity import method_of
from zbench.runner.provenance import provenance
from zbench.runner.roles import describe_set
from zbench.runner.samples_table import SAMPLES_FILE, samples_table
from zbench.runner.specs import SCHEMA_VERSION, SCHEMA_VERSION_ATTACKED, CellResult, CellSpec
from zbench.runner.summary import SUMMARY, Summary
from zbench.runner.workshop import Workshop
from zbench.stages.attack import Target
from zbench.stages.draw_candidates import ROLE, Studio
from zbench.stages.erase import erase, erase_folder, refusal
from zbench.stages.generate import generate
from zbench.stages.judge import Judge
from zbench.stages.picture_files import is_thinned
from zbench.stages.thumbnails import needed_again
from zbench.store import StageFolder, Store, atomic_write_bytes, atomic_write_json, read_json

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.method import Method
    from zbench.metrics.robustness import AttackRecord
    from zbench.stages.inputs import ModelHandle
    from zbench.stages.samples import SamplesView

RESULT = "result.json"

_NOT_IN_RESULTS = {"figures", "verdict", "sweeps", "settings"}
"""Parts of a scores folder's record that a result has elsewhere, or leaves there."""


def run_cell(
    spec: CellSpec, store: Store, reporter: Reporter | None = None, workshop: Workshop | None = None
) -> CellResult:
    """Brings one cell to its result, doing only what is missing, and writes its folder.

    Where another process is at the same cell, or at one of its stages, this one waits and finds it done.

    Args:
        spec: What to do.
        store: The run folder.
        reporter: Shows progress; nobody when None.
        workshop: Models and instruments that are loaded already.

    Returns:
        The result; a cell that fails is recorded with its traceback and returned as failed.

    Raises:
        StoreError: The run folder cannot be used.
        WeightsError: The model's or an instrument's weights are missing or altered.
        MissingExtraError: An instrument's package is not installed.
    """
    cell = _Cell(spec, store, reporter or Silent(), workshop or Workshop())
    with cell.claimed("cell", cell.folder):
        try:
            result = cell.result()
        except PREREQUISITES:
            raise
        except (Exception, SystemExit):  # a stranger's code may raise anything, and must not end the run
            result = cell.describe("failed", error=traceback.format_exc())
        if result.status == "failed":
            free_memory()  # what the failed work held must not fail the next cell
        return cell.keep(result)


def stored_cell(spec: CellSpec, store: Store, workshop: Workshop | None = None) -> CellResult | None:
    """A cell's result if all that it stands on is there, every file as its hash says; nothing is worked on.

    Args:
        spec: What is to be done.
        store: The run folder.
        workshop: What the cells of this process share.

    Returns:
        None where something is missing, altered or to be tried again.

    Raises:
        ZbenchError: Something that the cell starts from is missing.
    """
    cell = _LookingCell(spec, store, Silent(), workshop or Workshop())
    if not (cell.folder.path / RESULT).is_file():
        return None
    try:
        result = cell.result()
    except (*PREREQUISITES, NotDone):
        return None
    except (Exception, SystemExit):  # whatever it is, the cell's own process will meet it, and record it
        return None
    return result if cell.is_kept(result) else None


def record_failure(spec: CellSpec, store: Store, error: str) -> CellResult:
    """Records that a cell's process died before it could write a result itself.

    Args:
        spec: What was to be done.
        store: The run folder.
        error: How it died, the reason in the last line.
    """
    cell = _Cell(spec, store, Silent(), Workshop())
    with cell.claimed("cell", cell.folder):
        return cell.keep(cell.describe("failed", error=error))


class _Cell:
    """One cell at work."""

    def __init__(self, spec: CellSpec, store: Store, reporter: Reporter, workshop: Workshop) -> None:
        self.spec, self.store, self.reporter, self.workshop = spec, store, reporter, workshop
        self.inputs = workshop.identities.inputs(spec)
        self.model: ModelHandle = self.inputs.model
        self.concept: Concept = self.inputs.concept
        self.folders: dict[str, StageFolder] = {}
        self.drawings: dict[str, tuple[str, Callable[[Advance], None]]] = {}
        self.seconds: dict[str, float] = {}

    @cached_property
    def method(self) -> Method | None:
        """The method with its hyper-parameters; None for the unerased model."""
        return method_of(self.spec)

    @cached_property
    def folder(self) -> StageFolder:
        """The cell's own folder, named by everything that can change its figures."""
        return self.workshop.identities.folder(self.spec, self.store)

    @contextmanager
    def claimed(self, what: str, folder: StageFolder) -> Iterator[bool]:
        """Takes a stage on, telling of it while another process has it; yields whether it is left to do."""
        with ExitStack() as shown:
            advance: list[Advance] = []

            def waiting() -> None:
                if not advance:
                    label = f"{self.spec.label}: {what}, which another process is doing"
                    advance.append(shown.enter_context(self.reporter.waiting(label)))
                advance[0](0, 1)

            with folder.claim(waiting) as missing:
                shown.close()
                yield missing

    # Doing it ---------------------------------------------------------------------------------------------

    def result(self) -> CellResult:
        """The stored result where nothing is missing, otherwise a new one."""
        _ = self.inputs.instruments  # first of all: a missing detector is better known before the training
        if self.spec.problem is not None:
            return self.describe("failed", error=self.spec.problem)
        reason = refusal(self.method, self.concept) if self.method else None
        if reason is not None:
            return self._stored(()) or self.describe("skipped", error=reason)
        erasure = self._erased() if self.method else None
        own = self._drawn(erasure, "pictures")
        original = own if erasure is None else self._drawn(None, "original")
        scores = self._scored(own, original)
        attacks = self._attacked(erasure, own, original) if self.spec.attacks else ()
        return self._stored(attacks) or self._finished(erasure, scores, attacks)

    def _ensure(self, stage: str, folder: StageFolder, work: Callable[[Advance], None]) -> StageFolder:
        """Does a stage's work unless its folder is complete."""
        if not folder.is_complete():
            self._claim_and_work(stage, folder, work)
        self.folders[stage] = folder
        return folder

    def _claim_and_work(self, stage: str, folder: StageFolder, work: Callable[[Advance], None]) -> None:
        with self.claimed(stage, folder) as missing:
            if missing:
                self._work(stage, work)

    def _work(self, stage: str, work: Callable[[Advance], None]) -> None:
        """Announces a stage, does its work and takes the time."""
        if not self.model.is_loaded:
            self.reporter.note(f"Loading the model {self.model.spec.name} ...")
            _ = self.model.model  # before a stage is announced: missing weights fail here
        start = time.monotonic()
        with self.reporter.stage(f"{self.spec.label}: {stage}") as advance:
            work(advance)
        self.seconds[stage] = round(time.monotonic() - start, 3)

    def _erased(self) -> StageFolder:
        method = self.method
        assert method is not None
        folder = erase_folder(self.store, method, self.concept, self.model)
        return self._ensure(
            "erase", folder, lambda advance: erase(folder, method, self.concept, self.model, advance)
        )

    def _drawn(self, erasure: StageFolder | None, name: str) -> list[StageFolder]:
        return [self._drawn_set(erasure, name, role) for role in self.inputs.prompt_sets]

    def _drawn_set(self, erasure: StageFolder | None, name: str, role: str) -> StageFolder:
        samples, steps = self.inputs.samples[role], self.spec.steps
        folder = self.inputs.pictures(self.store, erasure, role)

        def draw(advance: Advance) -> None:
            generate(folder, erasure, self.model, samples, steps, self.spec.batch_size, advance)

        self.drawings[folder.id] = (f"{name} {role}", draw)
        return self._ensure(f"{name} {role}", folder, draw)

    def _draw_thinned(self, folders: Iterable[StageFolder]) -> None:
        """Draws pictures again that are looked at once more, and of which only thumbnails were kept."""
        for folder in folders:
            stage, draw = self.drawings[folder.id]
            if is_thinned(folder.path):
                with self.claimed(stage, folder):
                    if is_thinned(folder.path):  # nobody has drawn them meanwhile
                        self.store.notify(needed_again(folder))
                        self._work(stage, draw)

    def _scored(self, own: list[StageFolder], original: list[StageFolder]) -> StageFolder:
        folder = self.inputs.scores(self.store, own, original)
        if not folder.is_complete():
            self._draw_thinned([*own, *original])
            folder = self.inputs.scores(self.store, own, original)  # another machine may draw others
        return self._ensure("score", folder, lambda advance: self._score(folder, own, original, advance))

    def _score(
        self, folder: StageFolder, own: list[StageFolder], original: list[StageFolder], advance: Advance
    ) -> None:
        from zbench.stages.score import score

        scorer = self.workshop.scorer(
            self.spec, self.concept, self.inputs.table, self.store.root / "features"
        )
        scorer.say = self.reporter.say
        pictures, reference = self._scored_view(own), self._scored_view(original)

        def fill(temporary: Path) -> None:
            score(pictures, reference, scorer, folder=temporary, progress=advance)

        folder.write(fill)

    def _scored_view(self, folders: list[StageFolder]) -> SamplesView:
        """The pictures of all roles, without prompts that ask for the concept though they should not."""
        from zbench.stages.samples import SamplesView

        view = SamplesView.concat([SamplesView.load(folder.path) for folder in folders])
        kept = [i for i, sample in enumerate(view.samples) if sample.key[:2] not in self.inputs.left_out]
        return view.take(kept)

    def _attacked(
        self, erasure: StageFolder | None, own: list[StageFolder], original: list[StageFolder]
    ) -> tuple[AttackRecord, ...]:
        """What each attack found; their stages stand in their records."""
        place, prompts = list(self.inputs.prompt_sets).index(ROLE), self.inputs.attacked_prompts
        flagged = self.inputs.flagged
        target = Target(self.model, erasure, self.concept, prompts.prompts, flagged, self.spec.steps)
        judge = Judge(self.store, self.workshop.detector(self.spec, self.inputs.table), self.concept)
        if judge.refusal is not None:
            return tuple(not_judged(each, judge.refusal) for each in self.spec.attacks)
        studio = Studio(self.store, target, prompts.name, self.spec.steps)
        pictures = (own[place], original[place])
        if judge.missing(folder.path for folder in pictures):
            self._draw_thinned(pictures)
        common = attacking(self.spec, target, judge, studio, pictures, self._work, self._claim_and_work)
        return tuple(self._told(common.record(each)) for each in self.spec.attacks)

    def _told(self, record: AttackRecord) -> AttackRecord:
        """The record, an attack without figures said aloud: the run goes on, and the cell is done."""
        if record.status != "done":
            *_, last = record.reason.strip().splitlines() or [""]
            self.reporter.say(f"{self.spec.label}: {record.label}: {record.status}: {last}")
        return record

    # What came out of it ------------------------------------------------------------------------------------

    def _stored(self, attacks: tuple[AttackRecord, ...]) -> CellResult | None:
        """The result on disk, if it was made from exactly these stages and attacks."""
        result = self._on_disk()
        fits = result is not None and result.status != "failed" and result.stages == self._stages()
        return result if fits and result is not None and result.attacks == attacks else None

    def _stages(self) -> dict[str, str]:
        return {stage: f.path.relative_to(self.store.root).as_posix() for stage, f in self.folders.items()}

    def _finished(
        self, erasure: StageFolder | None, scores: StageFolder, attacks: tuple[AttackRecord, ...]
    ) -> CellResult:
        from zbench.stages.score import FIGURES_FILE

        record = read_json(scores.path / FIGURES_FILE)
        # What an import took is unknown: it was made elsewhere.
        unknown = self.spec.imported is not None
        cost = None if erasure is None or unknown else read_json(erasure.path / "erasure.json")["cost"]
        evidence = {key: value for key, value in record.items() if key not in _NOT_IN_RESULTS}
        figures, verdict = tuple(record["figures"]), record.get("verdict")
        more = {"verdict": verdict, "shown": self.inputs.table.shown, "cost": cost, "attacks": attacks}
        return self.describe("done", figures=figures, evidence=evidence, **more)

    def describe(self, status: str, *, evidence: dict[str, Any] | None = None, **fields: Any) -> CellResult:
        """A result with its provenance."""
        inputs = {
            "model": {"name": self.model.spec.name, **self.model.identity},
            "protocol": self.inputs.protocol.label,
            "prompts": {role: describe_set(prompts) for role, prompts in self.inputs.prompt_sets.items()},
        }
        device = str(self.model.model.device) if self.model.is_loaded else (self.spec.device or "not used")
        facts = {**provenance(device), **inputs, "evidence": evidence or {}}
        version = SCHEMA_VERSION_ATTACKED if self.spec.attacks else SCHEMA_VERSION
        return CellResult.model_validate(
            {"schema_version": version, "id": self.folder.id, "spec": self.spec.published(), "status": status,
             "stages": self._stages(), "seconds": self.seconds, "provenance": facts, **fields}
        )  # fmt: skip

    def keep(self, result: CellResult) -> CellResult:
        """Writes a result that is not on disk yet."""
        if not self.is_kept(result):
            self.folder.write(lambda folder: self._write(folder, result))
        return result

    def is_kept(self, result: CellResult) -> bool:
        """Whether the cell's folder holds this result, and all that belongs to it."""
        belonging = [SUMMARY, *([SAMPLES_FILE] if result.status == "done" else [])]
        there = all((self.folder.path / name).is_file() for name in belonging)
        return there and result == self._on_disk()

    def _write(self, folder: Path, result: CellResult) -> None:
        if result.status == "done":
            own = [self.store.root / place for stage, place in result.stages.items() if _is_own(stage)]
            table = samples_table(self.store.root / result.stages["score"], own)
            atomic_write_bytes(folder / SAMPLES_FILE, table)
        atomic_write_json(folder / SUMMARY, Summary.of(result).model_dump(mode="json"))
        atomic_write_json(folder / RESULT, result.model_dump(mode="json"))

    def _on_disk(self) -> CellResult | None:
        """What `result.json` holds; None where there is none, or none that can be read."""
        if not self.folder.is_complete():
            return None
        try:
            return CellResult.model_validate(read_json(self.folder.path / RESULT))
        except (StoreError, ValidationError):
            self.store.notify(f"{self.folder.path / RESULT} is malformed: it is written again.")
            return None


class _LookingCell(_Cell):
    """A cell that does no work, and claims nothing: it may lie in a folder that cannot be written to."""

    def _claim_and_work(self, stage: str, folder: StageFolder, work: Callable[[Advance], None]) -> None:
        raise NotDone(stage)

    def _work(self, stage: str, work: Callable[[Advance], None]) -> None:
        raise NotDone(stage)

    def _draw_thinned(self, folders: Iterable[StageFolder]) -> None:
        """What needs them is not done, and says so."""


def _is_own(stage: str) -> bool:
    """Whether a stage drew pictures of the cell itself, not of the unerased model beside it."""
    return stage.startswith("pictures ")
