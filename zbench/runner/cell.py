"""Running one cell: erase, generate, score, each only where it is not done yet.

`run_cell` is the one function that every launcher calls, in whatever process.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zbench.concepts import Concept, load_concept
from zbench.errors import MethodError, StoreError, UnknownNameError
from zbench.prompts import PromptSet
from zbench.protocols import load_protocol
from zbench.registry import load_method
from zbench.runner.attacks import attacking, attacks_identity, is_flagged, not_judged
from zbench.runner.failing import PREREQUISITES, free_memory
from zbench.runner.progress import Advance, Reporter, Silent
from zbench.runner.provenance import provenance
from zbench.runner.roles import describe_set, prompt_sets_of, prompts_left_out
from zbench.runner.specs import (
    BY_CONTENT,
    EXCLUDED,
    SCHEMA_VERSION,
    SCHEMA_VERSION_ATTACKED,
    CellResult,
    CellSpec,
)
from zbench.stages.attack import Target
from zbench.stages.draw_candidates import ROLE, Studio
from zbench.stages.erase import erase, erase_folder, refusal
from zbench.stages.generate import generate, generate_folder, planned_samples
from zbench.stages.inputs import ModelHandle
from zbench.stages.judge import Judge
from zbench.store import StageFolder, Store, atomic_write_json, read_json, safe_name

if TYPE_CHECKING:
    from zbench.detectors.base import Detector
    from zbench.method import Method
    from zbench.metrics.robustness import AttackRecord
    from zbench.protocols import DomainProtocol
    from zbench.stages.samples import SamplesView
    from zbench.stages.scorer import Scorer

RESULT = "result.json"

_NOT_IN_RESULTS = {"figures", "verdict", "sweeps", "settings"}
"""Parts of a scores folder's record that a result has elsewhere, or leaves there."""


@dataclass
class Workshop:
    """What the cells of one process share: loaded models and instruments, by what they were loaded from."""

    models: dict[tuple[Any, ...], ModelHandle] = field(default_factory=dict)
    scorers: dict[tuple[Any, ...], Scorer] = field(default_factory=dict)
    detectors: dict[tuple[Any, ...], Detector] = field(default_factory=dict)

    def model(self, spec: CellSpec) -> ModelHandle:
        """The model of a cell, not loaded yet where nobody needed it."""
        key = (spec.model, spec.device, spec.height, spec.width, spec.guidance_scale)
        if key not in self.models:
            self.models[key] = ModelHandle(*key)
        return self.models[key]

    def scorer(self, spec: CellSpec, concept: Concept, table: DomainProtocol, cache: Path) -> Scorer:
        """The instruments of a cell."""
        from zbench.stages.scorer import load_scorer

        key = self._instruments_key(spec)
        if key not in self.scorers:
            self.scorers[key] = load_scorer(
                table, concept.name, members=concept.members,
                references=spec.references, cache=cache, device=spec.device,
            )  # fmt: skip
        return self.scorers[key]

    def detector(self, spec: CellSpec, table: DomainProtocol) -> Detector:
        """The detector that judges attacks: the scorer's own where it is loaded already."""
        from zbench.stages.scorer import first_detector

        key = self._instruments_key(spec)
        if key in self.scorers:
            return self.scorers[key].detectors[0]
        if key not in self.detectors:
            self.detectors[key] = first_detector(table, spec.device or "cpu")
        return self.detectors[key]

    def _instruments_key(self, spec: CellSpec) -> tuple[Any, ...]:
        return (spec.protocol, spec.concept, spec.references, spec.device, self.model(spec).spec.domain)


def run_cell(
    spec: CellSpec, store: Store, reporter: Reporter | None = None, workshop: Workshop | None = None
) -> CellResult:
    """Brings one cell to its result, doing only what is missing, and writes `result.json`.

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
    try:
        result = cell.result()
    except PREREQUISITES:
        raise
    except (Exception, SystemExit):  # a stranger's code may raise anything, and must not end the run
        result = cell.describe("failed", error=traceback.format_exc())
    if result.status == "failed":
        free_memory()  # what the failed work held must not fail the next cell
    return cell.keep(result)


class _Cell:
    """One cell at work."""

    def __init__(self, spec: CellSpec, store: Store, reporter: Reporter, workshop: Workshop) -> None:
        self.spec, self.store, self.reporter, self.workshop = spec, store, reporter, workshop
        self.model = workshop.model(spec)
        self.concept: Concept = load_concept(spec.concept, self.model.spec.domain)
        self.protocol = load_protocol(spec.protocol)
        self.table = self.protocol.table(self.model.spec.domain, self.concept.name, self.concept.family)
        self.folders: dict[str, StageFolder] = {}
        self.seconds: dict[str, float] = {}

    # What is to be done ---------------------------------------------------------------------------------

    @cached_property
    def method(self) -> Method | None:
        """The method with its hyper-parameters; None for the unerased model."""
        if self.spec.is_original:
            return None
        plugins = [self.spec.plugin] if self.spec.plugin else []
        try:
            return load_method(self.spec.method, plugins).of(self.spec.hyperparameters)
        except UnknownNameError as error:  # it was there when the run was planned: this cell's trouble alone
            raise MethodError(
                f"{self.spec.method} is not what it was when this was planned: {error}"
            ) from error

    @cached_property
    def prompt_sets(self) -> dict[str, PromptSet]:
        """Role -> prompts, as many as the spec wants."""
        domain = self.model.spec.domain
        return prompt_sets_of(self.table, self.concept, domain, self.spec.prompts, self.spec.prompts_dir)

    @cached_property
    def left_out(self) -> set[tuple[str, str]]:
        """(set, id) of prompts that are drawn for other concepts and not scored for this one."""
        return prompts_left_out(self.prompt_sets, self.concept)

    @cached_property
    def folder(self) -> StageFolder:
        """The cell's own folder, named by everything that can change its figures."""
        spec = self.spec.model_dump(mode="json", exclude=set(EXCLUDED | BY_CONTENT))
        config = {
            "stage": "cell",
            "spec": spec,
            "concept": self.concept.model_dump(mode="json"),
            "model": self.model.identity,
            "prompts": {role: prompts.sha256 for role, prompts in self.prompt_sets.items()},
            "protocol": {"version": self.protocol.version, **self.table.model_dump(mode="json")},
            "instruments": self.instruments,
            **({"plugin": self.spec.plugin.sha256} if self.spec.plugin else {}),
            **(self._attacks_config() if self.spec.attacks else {}),
        }
        return self.store.stage("cells", config, prefix=safe_name(f"{self.spec.label}-{self.concept.name}"))

    def _attacks_config(self) -> dict[str, Any]:
        flagged = is_flagged(self.concept, self.model.spec)
        return {
            "attacks": attacks_identity(self.spec.attacks, flagged),
            "attacked": self._attacked_prompts().sha256,
        }

    def _attacked_prompts(self) -> PromptSet:
        return self.prompt_sets[ROLE].head(self.spec.attack_prompts)

    @cached_property
    def instruments(self) -> dict[str, Any]:
        """Identity of detectors, CLIP and references."""
        from zbench.stages.scorer import instruments_config

        return instruments_config(self.table, self.concept.name, self.spec.references)

    # Doing it ---------------------------------------------------------------------------------------------

    def result(self) -> CellResult:
        """The stored result where nothing is missing, otherwise a new one."""
        _ = self.instruments  # first of all: a missing detector is better known before the training
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
            self._work(stage, work)
        self.folders[stage] = folder
        return folder

    def _work(self, stage: str, work: Callable[[Advance], None]) -> None:
        """Announces a stage, does its work and takes the time."""
        if not self.model.is_loaded:
            self.reporter.say(f"Loading the model {self.model.spec.name} ...")
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
        return [self._drawn_set(erasure, name, role) for role in self.prompt_sets]

    def _drawn_set(self, erasure: StageFolder | None, name: str, role: str) -> StageFolder:
        samples = planned_samples(self.prompt_sets[role], role, self.spec.repetitions)
        folder = generate_folder(self.store, erasure, self.model, samples, self.spec.steps)

        def draw(advance: Advance) -> None:
            generate(folder, erasure, self.model, samples, self.spec.steps, self.spec.batch_size, advance)

        return self._ensure(f"{name} {role}", folder, draw)

    def _scored(self, own: list[StageFolder], original: list[StageFolder]) -> StageFolder:
        config = {
            "stage": "score",
            "samples": [_manifest_hash(folder) for folder in own],
            "left_out": sorted(self.left_out),
            "members": list(self.concept.members),
            "original": [_manifest_hash(folder) for folder in original],
            "instruments": self.instruments,
        }
        folder = self.store.stage("scores", config, prefix=f"scores-{self.concept.name}")
        return self._ensure("score", folder, lambda advance: self._score(folder, own, original, advance))

    def _score(
        self, folder: StageFolder, own: list[StageFolder], original: list[StageFolder], advance: Advance
    ) -> None:
        from zbench.stages.score import score

        scorer = self.workshop.scorer(self.spec, self.concept, self.table, self.store.root / "features")
        pictures, reference = self._scored_view(own), self._scored_view(original)

        def fill(temporary: Path) -> None:
            score(pictures, reference, scorer, folder=temporary, progress=advance)

        folder.write(fill)

    def _scored_view(self, folders: list[StageFolder]) -> SamplesView:
        """The pictures of all roles, without prompts that ask for the concept though they should not."""
        from zbench.stages.samples import SamplesView

        view = SamplesView.concat([SamplesView.load(folder.path) for folder in folders])
        kept = [i for i, sample in enumerate(view.samples) if sample.key[:2] not in self.left_out]
        return SamplesView(tuple(view.samples[i] for i in kept), view.pictures[kept])

    def _attacked(
        self, erasure: StageFolder | None, own: list[StageFolder], original: list[StageFolder]
    ) -> tuple[AttackRecord, ...]:
        """What each attack found; their stages stand in their records."""
        place, prompts = list(self.prompt_sets).index(ROLE), self._attacked_prompts()
        flagged = is_flagged(self.concept, self.model.spec)
        target = Target(self.model, erasure, self.concept, prompts.prompts, flagged, self.spec.steps)
        judge = Judge(self.store, self.workshop.detector(self.spec, self.table), self.concept)
        if judge.refusal is not None:
            return tuple(not_judged(each, judge.refusal) for each in self.spec.attacks)
        studio = Studio(self.store, target, prompts.name, self.spec.steps)
        pictures = (own[place], original[place])
        common = attacking(self.spec, target, judge, studio, pictures, self._work)
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
        cost = None if erasure is None else read_json(erasure.path / "erasure.json")["cost"]
        evidence = {key: value for key, value in record.items() if key not in _NOT_IN_RESULTS}
        figures, verdict = tuple(record["figures"]), record.get("verdict")
        more = {"verdict": verdict, "shown": self.table.shown, "cost": cost, "attacks": attacks}
        return self.describe("done", figures=figures, evidence=evidence, **more)

    def describe(self, status: str, *, evidence: dict[str, Any] | None = None, **fields: Any) -> CellResult:
        """A result with its provenance."""
        inputs = {
            "model": {"name": self.model.spec.name, **self.model.identity},
            "protocol": self.protocol.label,
            "prompts": {role: describe_set(prompts) for role, prompts in self.prompt_sets.items()},
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
        if result == self._on_disk():
            return result
        self.folder.write(lambda folder: atomic_write_json(folder / RESULT, result.model_dump(mode="json")))
        return result

    def _on_disk(self) -> CellResult | None:
        """What `result.json` holds; None where there is none, or none that can be read."""
        if not self.folder.is_complete():
            return None
        try:
            return CellResult.model_validate(read_json(self.folder.path / RESULT))
        except (StoreError, ValidationError):
            self.store.notify(f"{self.folder.path / RESULT} is malformed: it is written again.")
            return None


def _manifest_hash(folder: StageFolder) -> str:
    """Hash of a samples folder's manifest, which holds the hash of every picture."""
    return str(folder.done()["files"]["manifest.json"])
