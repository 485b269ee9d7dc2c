"""The attacks' part of a cell: candidates, their pictures, verdicts, winners drawn again, one record each.

An attack that fails is recorded with its traceback and tried again by the next run; what it had finished is
kept, and the other attacks go on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from zbench.attacks.base import portable
from zbench.attacks.stored import StoredCandidates, read_candidates
from zbench.errors import AttackError, UnknownNameError
from zbench.metrics.robustness import AttackRecord
from zbench.registry import load_attack
from zbench.runner.failing import PREREQUISITES, NotDone, free_memory
from zbench.stages.attack import Target, attack, attack_batches
from zbench.stages.draw_candidates import FRESH, Drawing, Shot, Studio, draw, trials_of
from zbench.stages.generate import picture_seed
from zbench.stages.judge import (
    FIGURES_FILE,
    Hearing,
    Judge,
    Verdict,
    plain_verdicts,
    redraws,
    winners,
    write_outcomes,
)
from zbench.stages.picture_files import is_thinned
from zbench.stages.thumbnails import needed_again
from zbench.store import read_json
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.attacks.base import Attack
    from zbench.concepts import Concept
    from zbench.model import ModelSpec
    from zbench.runner.display.progress import Advance
    from zbench.runner.specs import AttackSpec, CellSpec
    from zbench.store import StageFolder

ATTACK_SCORE_VERSION = 1
"""Raised when the same pictures and scores would give other figures."""

Work = Callable[[str, Callable[["Advance"], None]], None]
"""Announces a stage by its name, does its job and takes the time."""

Claim = Callable[[str, "StageFolder", Callable[["Advance"], None]], None]
"""The same for a stage that other cells may need as well: it is done once, and the others wait."""


def is_flagged(concept: Concept, model: ModelSpec) -> bool:
    """Whether texts of attacks are kept apart, unshown: of a photograph they may be obscene."""
    return concept.family == "nsfw" and model.domain == "photograph"


def attack_of(spec: AttackSpec, flagged: bool) -> Attack:
    """The attack with its fields.

    Raises:
        AttackError: It, or what it replays, is not what it was when the run was planned.
        ConfigurationError: Its fields or what it replays cannot be used.
    """
    if spec.replay is not None:
        from zbench.attacks.replay import Replay

        replay = Replay.of(spec.replay, flagged)
        if spec.hyperparameters and replay.sha256 != spec.hyperparameters["sha256"]:
            raise AttackError(
                f"{spec.replay} holds other candidates than when this was planned: replay a folder that no"
                " run writes to, or run again."
            )
        return replay
    try:
        return validated(load_attack(spec.name), spec.hyperparameters, prefix=f"{spec.name}.")
    except UnknownNameError as error:
        raise AttackError(f"{spec.name} is not what it was when this was planned: {error}") from error


def attacks_identity(specs: Sequence[AttackSpec], flagged: bool) -> list[dict[str, Any]]:
    """What of the attacks can change a cell's result: replays by what they hold, broken ones by name."""
    return [_identity(spec, flagged) for spec in specs]


def _identity(spec: AttackSpec, flagged: bool) -> dict[str, Any]:
    plain = spec.model_dump(mode="json", include={"name", "hyperparameters"})
    if spec.problem is not None:
        return plain
    try:
        return _planned(spec, flagged).identity()
    except (Exception, SystemExit):  # it will fail again, and be recorded, when its turn comes
        return plain


def _planned(spec: AttackSpec, flagged: bool) -> Attack:
    """The attack's fields; of a replay as planned, without reading what it replays."""
    if spec.replay is None:
        return attack_of(spec, flagged)
    from zbench.attacks.replay import Replay

    return Replay.model_validate(spec.hyperparameters)


@dataclass
class Attacking:
    """What all attacks of one cell share.

    Attributes:
        target: What is attacked.
        studio: Where candidates are drawn.
        judge: Who decides.
        plain: Prompt id -> verdict on the erased model's plain picture.
        original: Likewise, on the original's.
        origins: Hashes of the two manifests.
        batch_size: Pictures per batch.
        work: Announces and times a stage.
    """

    target: Target
    studio: Studio
    judge: Judge
    plain: dict[str, Verdict]
    original: dict[str, Verdict]
    origins: tuple[str, str]
    batch_size: int
    work: Work

    def record(self, spec: AttackSpec) -> AttackRecord:
        """Makes an attack, or finds it made, and says what it found.

        Raises:
            StoreError: The run folder cannot be used.
            WeightsError: The model's or the detector's weights are missing.
            MissingExtraError: The detector's package is not installed.
        """
        if spec.problem is not None:
            return _blank(spec, None, "failed", spec.problem)
        attacker: Attack | None = None
        try:
            attacker = attack_of(spec, self.target.flagged)
            return _Siege(self, spec, attacker).record()
        except (*PREREQUISITES, NotDone):
            raise
        except (Exception, SystemExit):  # a stranger's code may raise anything, and must not end the cell
            free_memory()
            return _blank(spec, attacker, "failed", traceback.format_exc())


def not_judged(spec: AttackSpec, reason: str) -> AttackRecord:
    """The record of an attack that is not made, because nobody could say whether it succeeds."""
    return _blank(spec, None, "skipped", reason)


def _blank(spec: AttackSpec, attacker: Attack | None, status: str, reason: str, **more: Any) -> AttackRecord:
    # Of an attack that cannot be loaded nobody knows what it needs; the least is said.
    knowledge = attacker.card.knowledge if attacker else "text"
    fields: dict[str, Any] = {"attack": spec.name, "label": spec.label, "knowledge": knowledge}
    fields |= {"hyperparameters": portable(spec.hyperparameters), "status": status, "reason": reason}
    return AttackRecord.model_validate({**fields, **more})


@dataclass
class _Siege:
    """One attack at work.

    Attributes:
        common: What it shares with the other attacks.
        spec: What to do.
        attacker: The attack.
        stages: Stage -> folder relative to the run folder, as far as it came.
    """

    common: Attacking
    spec: AttackSpec
    attacker: Attack
    stages: dict[str, str] = field(default_factory=dict)

    def record(self) -> AttackRecord:
        stored = self._attacked()
        skipped = next((batch.skipped for batch in stored if batch.skipped), None)
        if skipped is not None:
            return _blank(self.spec, self.attacker, "skipped", skipped, stages=self.stages)
        scores = self._scored(stored)
        more = {**read_json(scores.path / FIGURES_FILE), "stages": self.stages}
        return _blank(self.spec, self.attacker, "done", "", **more)

    def _attacked(self) -> list[StoredCandidates]:
        target = self.common.target
        batches = attack_batches(self.common.studio.store, self.attacker, target)
        if not all(batch.folder.is_complete() for batch in batches):
            self._work("attack", lambda advance: attack(batches, self.attacker, target, advance))
        for number, batch in enumerate(batches, start=1):
            self._note(f"candidates {number}", batch.folder)
        return [read_candidates(batch.folder.path) for batch in batches]

    def _scored(self, stored: Sequence[StoredCandidates]) -> StageFolder:
        """The folder of the outcomes, from trials to redrawn winners."""
        common, trials = self.common, trials_of(stored)
        verdicts, folders = self._judged("candidates", [(trial, trial.k) for trial in trials])
        chosen = winners(trials, verdicts, common.plain)
        fresh, more = self._judged("winners", redraws(chosen))
        hearing = Hearing(stored, trials, verdicts | fresh, common.plain, common.original, chosen)
        folder = self._scores_folder(stored, [*folders, *more])
        if not folder.is_complete():
            outcomes = hearing.outcomes(common.judge, picture_seed)
            folder.write(lambda place: write_outcomes(place, outcomes))
        self._note("score", folder)
        return folder

    def _scores_folder(
        self, stored: Sequence[StoredCandidates], folders: Iterable[StageFolder]
    ) -> StageFolder:
        common = self.common
        config = {
            "stage": "attack_score",
            "version": ATTACK_SCORE_VERSION,
            "candidates": [batch.fingerprint for batch in stored],
            "pictures": [folder.done()["files"]["manifest.json"] for folder in folders],
            "plain": list(common.origins),
            "prompts": [prompt.id for prompt in common.target.prompts],
            "detector": common.judge.record.model_dump(mode="json"),
        }
        prefix = f"{self.attacker.name}-{common.target.concept.name}"
        return common.studio.store.stage("attack_scores", config, prefix)

    # Pictures and verdicts --------------------------------------------------------------------------------

    def _judged(
        self, what: str, shots: Sequence[Shot]
    ) -> tuple[dict[tuple[str, str, int], Verdict], list[StageFolder]]:
        """Draws and judges what is missing.

        Returns:
            Verdicts by (arm, prompt id, repetition), and the folders of the pictures.
        """
        groups = self.common.studio.drawings(shots)
        unique = {drawing.folder.id: drawing for drawing, _ in groups}
        folders = [drawing.folder for drawing in unique.values()]
        self._draw(what, [each for each in unique.values() if self._must_draw(each.folder)])
        self._look(what, folders)
        found: dict[tuple[str, str, int], Verdict] = {}
        for drawing, answered in groups:
            self._note(_stage_name(answered), drawing.folder)
            found |= self._verdicts(drawing, answered)
        return found, folders

    def _must_draw(self, folder: StageFolder) -> bool:
        """Whether pictures are missing, or thumbnails are all that is left of pictures to be judged."""
        if not folder.is_complete():
            return True
        again = is_thinned(folder.path) and bool(self.common.judge.missing([folder.path]))
        if again:
            self.common.studio.store.notify(needed_again(folder))
        return again

    def _draw(self, what: str, missing: Sequence[Drawing]) -> None:
        total = sum(len(each.samples) for each in missing)

        def job(advance: Advance) -> None:
            done = 0
            for each in missing:
                progress = partial(_shifted, advance, done, total)
                draw(each, self.attacker.name, self.common.target, self.common.batch_size, progress)
                done += len(each.samples)

        if missing:
            self._work(f"draw {what}", job)

    def _look(self, what: str, folders: Sequence[StageFolder]) -> None:
        missing = self.common.judge.missing(folder.path for folder in folders)

        def job(advance: Advance) -> None:
            for number, (folder, samples) in enumerate(missing):
                self.common.judge.look(folder, samples)
                advance(number + 1, len(missing))

        if missing:
            self._work(f"judge {what}", job)

    def _verdicts(self, drawing: Drawing, answered: Sequence[Shot]) -> dict[tuple[str, str, int], Verdict]:
        read, name = self.common.judge.verdicts(drawing.folder.path), self.common.studio.prompt_set
        return {
            (trial.arm, trial.prompt.id, repetition): read[name, trial.prompt.id, repetition]
            for trial, repetition in answered
        }

    # Bookkeeping --------------------------------------------------------------------------------------------

    def _work(self, stage: str, job: Callable[[Advance], None]) -> None:
        self.common.work(f"{self.spec.label}: {stage}", job)

    def _note(self, stage: str, folder: StageFolder) -> None:
        """Remembers where a stage lies; stages of one name are counted."""
        number, name = 1, stage
        while name in self.stages:
            number, name = number + 1, f"{stage} ({number + 1})"
        self.stages[name] = folder.path.relative_to(self.common.studio.store.root).as_posix()


def _shifted(advance: Advance, before: int, total: int, done: int, _: int) -> None:
    advance(before + done, total)


def _stage_name(answered: Sequence[Shot]) -> str:
    """Such as ``pictures attack 3``; the winners of all trials are drawn together."""
    trial, repetition = answered[0]
    if repetition >= FRESH:
        return "pictures winners"
    return f"pictures {'retries' if trial.is_plain else trial.arm} {trial.k}"


def attacking(
    spec: CellSpec,
    target: Target,
    judge: Judge,
    studio: Studio,
    pictures: tuple[StageFolder, StageFolder],
    work: Work,
    claim: Claim,
) -> Attacking:
    """What the attacks of a cell share, the plain pictures judged.

    Args:
        spec: The cell.
        target: What is attacked.
        judge: Who decides.
        studio: Where candidates are drawn.
        pictures: The plain pictures of the attacked set by the erased model and by the original.
        work: Announces and times a stage.
        claim: Likewise, for what other cells need as well.
    """
    for folder, samples in judge.missing(dict.fromkeys(folder.path for folder in pictures)):
        look = partial(judge.look, folder, samples)
        claim("judge plain pictures", folder, look)
    plain, original = (plain_verdicts(judge.verdicts(each.path), target.prompts) for each in pictures)
    hashes = [str(each.done()["files"]["manifest.json"]) for each in pictures]
    return Attacking(target, studio, judge, plain, original, (hashes[0], hashes[1]), spec.batch_size, work)
