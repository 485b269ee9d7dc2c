"""Judging candidates: raw scores of one detector on their pictures, and the outcomes of figures.

The detector is the protocol's first, at the protocol's threshold, as it reads the plain pictures; scores stay
beside the pictures, and ``outcomes.json`` holds what every figure can be derived from again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.metrics.robustness import Failure, Outcome, Outcomes, PromptOutcome, Redraw, describe
from zbench.stages.detections import detect, detections_folder, read_detections
from zbench.stages.draw_candidates import FRESH, REDRAWS, Shot, Trial
from zbench.stages.evidence_files import detector_record
from zbench.store import StageFolder, Store, atomic_write_json, canonical_json, read_json

if TYPE_CHECKING:
    from zbench.attacks.stored import StoredCandidates
    from zbench.concepts import Concept
    from zbench.detectors.base import Detector, Progress
    from zbench.detectors.record import DetectorRecord
    from zbench.metrics.picture_table import Key
    from zbench.prompts.sets import Prompt

OUTCOMES_FILE = "outcomes.json"
FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class Verdict:
    """What the detector says of a picture.

    Attributes:
        score: Of the concept, by the detector's primary reading.
        hit: Whether it is found at the threshold.
    """

    score: float
    hit: bool


class Judge:
    """The detector that decides, with its reading of one concept.

    Args:
        store: The run folder.
        detector: The protocol's first, at the protocol's threshold.
        concept: What was erased.
    """

    def __init__(self, store: Store, detector: Detector, concept: Concept) -> None:
        self.store, self.detector, self.concept = store, detector, concept.name
        self.record: DetectorRecord = detector_record(detector, concept.name, concept.members)

    @property
    def refusal(self) -> str | None:
        """Why it cannot judge this concept; None where it can."""
        name, concept = self.detector.name, self.concept
        return None if self.record.readings else f"the detector {name} has no class for {concept}"

    def describe(self) -> dict[str, Any]:
        """The detector as records name it."""
        return self.record.model_dump(mode="json", include={"name", "version", "file_sha256", "threshold"})

    def missing(self, samples: Iterable[Path]) -> list[tuple[StageFolder, Path]]:
        """Samples folders without raw scores, each with the folder for them."""
        places = [(detections_folder(self.store, place, self.detector), place) for place in samples]
        return [(folder, place) for folder, place in places if not folder.is_complete()]

    def look(self, folder: StageFolder, samples: Path, progress: Progress | None = None) -> None:
        """Scores the pictures of a samples folder."""
        detect(folder, samples, self.detector, progress)

    def verdicts(self, samples: Path) -> dict[Key, Verdict]:
        """Verdicts on the pictures of a scored samples folder.

        Raises:
            ConfigurationError: The detector gave no number for a picture.
        """
        import numpy as np

        raw = read_detections(detections_folder(self.store, samples, self.detector), self.detector)
        table = np.stack(list(raw.values()))
        scores, hits = self.record.read(table), self.record.found(table)
        read = zip(scores.tolist(), hits.tolist(), strict=True)
        return {key: Verdict(*verdict) for key, verdict in zip(raw, read, strict=True)}


Verdicts = Mapping[tuple[str, str, int], Verdict]
"""(arm, prompt id, k, or repetition of a redraw) -> verdict."""


def plain_verdicts(verdicts: Mapping[Key, Verdict], prompts: Sequence[Prompt]) -> dict[str, Verdict]:
    """Prompt id -> verdict on its plain picture.

    Raises:
        StoreError: A prompt has no plain picture.
    """
    first = {prompt_id: verdict for (_, prompt_id, repetition), verdict in verdicts.items() if not repetition}
    missing = [prompt.id for prompt in prompts if prompt.id not in first]
    if missing:
        raise StoreError(f"The attacked prompt {missing[0]!r} has no plain picture in this cell.")
    return {prompt.id: first[prompt.id] for prompt in prompts}


def winners(trials: Sequence[Trial], verdicts: Verdicts, plain: Mapping[str, Verdict]) -> list[Trial]:
    """The first success in each prompt that its plain picture did not break, of both arms."""
    first: dict[tuple[str, str], Trial] = {}
    for trial in sorted(trials, key=lambda trial: (trial.arm, trial.k)):
        prompt, arm = trial.prompt.id, trial.arm
        if arm != "retry" and not plain[prompt].hit and verdicts[arm, prompt, trial.k].hit:
            first.setdefault((arm, prompt), trial)
    return list(first.values())


def redraws(chosen: Sequence[Trial]) -> list[Shot]:
    """Winners with fresh noise."""
    return [(trial, FRESH + number) for number in range(REDRAWS) for trial in chosen]


@dataclass(frozen=True)
class Hearing:
    """Everything that was tried and found.

    Attributes:
        batches: The candidates.
        trials: As drawn.
        verdicts: On the trials and on the redraws of winners.
        plain: On the plain pictures.
        original: On the original's plain pictures.
        chosen: The winners.
    """

    batches: Sequence[StoredCandidates]
    trials: Sequence[Trial]
    verdicts: Verdicts
    plain: Mapping[str, Verdict]
    original: Mapping[str, Verdict]
    chosen: Sequence[Trial]

    def outcomes(self, judge: Judge, seed: Any) -> Outcomes:
        """As plain data.

        Args:
            judge: Who judged.
            seed: Gives the seed of (prompt id, repetition).
        """
        prompts = [prompt for batch in self.batches for prompt in batch.prompts]
        return Outcomes(
            attack=self.batches[0].attack,
            detector=judge.describe(),
            prompts=tuple(self._prompt(prompt.id) for prompt in prompts),
            rows=tuple(self._row(trial, seed) for trial in self.trials),
            redraws=tuple(self._redraw(*shot, seed) for shot in redraws(self.chosen)),
            failures=tuple(self._failures()),
        )

    def _prompt(self, prompt_id: str) -> PromptOutcome:
        plain, original = self.plain[prompt_id], self.original[prompt_id]
        return PromptOutcome(
            prompt_id=prompt_id, plain_score=plain.score, plain_hit=plain.hit,
            original_score=original.score, original_hit=original.hit,
        )  # fmt: skip

    def _row(self, trial: Trial, seed: Any) -> Outcome:
        verdict = self.verdicts[trial.arm, trial.prompt.id, trial.k]
        return Outcome(
            prompt_id=trial.prompt.id, arm=trial.arm, k=trial.k, label=trial.label,
            seed=seed(trial.prompt.id, trial.k), score=verdict.score, hit=verdict.hit, spent=trial.spent,
        )  # fmt: skip

    def _redraw(self, trial: Trial, repetition: int, seed: Any) -> Redraw:
        verdict = self.verdicts[trial.arm, trial.prompt.id, repetition]
        assert trial.arm != "retry"
        return Redraw(
            prompt_id=trial.prompt.id, arm=trial.arm, k=trial.k, redraw=repetition - FRESH + 1,
            seed=seed(trial.prompt.id, repetition), score=verdict.score, hit=verdict.hit,
        )  # fmt: skip

    def _failures(self) -> Iterable[Failure]:
        for batch in self.batches:
            for row in batch.candidates:
                if row.kind == "failed":
                    whose = [p.id for p in batch.prompts] if row.prompt_id is None else [row.prompt_id]
                    for each in whose:
                        yield Failure(prompt_id=each, arm=row.arm, why=row.failure, spent=row.spent)


def write_outcomes(folder: Path, outcomes: Outcomes) -> None:
    """Writes the outcomes and what follows from them."""
    atomic_write_json(folder / OUTCOMES_FILE, json.loads(canonical_json(outcomes.model_dump(mode="json"))))
    atomic_write_json(folder / FIGURES_FILE, json.loads(canonical_json(describe(outcomes))))


def read_outcomes(folder: Path) -> Outcomes:
    """Reads a folder ``attack_scores/ID``; `describe` derives every figure from it again.

    Raises:
        StoreError: It is missing or damaged.
    """
    from pydantic import ValidationError

    try:
        return Outcomes.model_validate(read_json(folder / OUTCOMES_FILE))
    except ValidationError as error:
        raise StoreError(f"{folder / OUTCOMES_FILE} is damaged: delete {folder} and run again.") from error
