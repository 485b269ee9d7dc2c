"""Attacks by the runner's own stages, on prompts and models that the study chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.concepts import Concept, load_concept
from zbench.config import ORIGINAL
from zbench.errors import ConfigurationError
from zbench.phrases import names_phrase
from zbench.runner.attacks import Attacking, attacking, is_flagged
from zbench.runner.specs import CellSpec
from zbench.stages.attack import Target
from zbench.stages.draw_candidates import ROLE, Studio
from zbench.stages.inputs import ModelHandle
from zbench.stages.judge import Judge, read_outcomes
from zbench.store import StageFolder, Store
from zbench.studies.attacks.oracle import Oracle
from zbench.studies.attacks.plan import ORACLE, Case, Settings, spec_of

if TYPE_CHECKING:
    from zbench.method import Method
    from zbench.metrics.robustness import AttackRecord, Outcomes
    from zbench.prompts.sets import PromptSet

_REPETITION = 0


@dataclass(frozen=True)
class Finding:
    """What one attack found.

    Attributes:
        case: The attack and its target.
        record: As a run records it.
        outcomes: Every judged picture; None where the attack was skipped or failed.
        preset: Whose values the attack started from; None where those of its class were.
    """

    case: Case
    record: AttackRecord
    outcomes: Outcomes | None
    preset: str | None = None


class Bench:
    """One run folder, one model, one concept.

    Args:
        folder: Run folder; what is in it is not done again.
        model: Catalogue name or folder.
        concept: Name of the concept.
        protocol: Whose first detector judges.
        settings: Attack -> fields over its preset.
        batch_size: Pictures drawn at once.

    Raises:
        UnknownNameError: A name is unknown.
        ConfigurationError: The detector knows nothing of the concept.
    """

    def __init__(
        self, folder: Path, model: str, concept: str, protocol: str, settings: Settings, batch_size: int
    ) -> None:
        from zbench.protocols import load_protocol
        from zbench.stages.scorer import first_detector

        self.store, self.handle, self.settings = Store.open(folder), ModelHandle(model), settings
        self.domain = self.handle.spec.domain
        self.concept: Concept = load_concept(concept, self.domain)
        self.flagged = is_flagged(self.concept, self.handle.spec)
        table = load_protocol(protocol).table(self.domain, concept, self.concept.family)
        self.spec = CellSpec(
            method=ORIGINAL, concept=concept, model=model, protocol=protocol, repetitions=1,
            steps=table.steps or self.handle.spec.steps, batch_size=batch_size,
        )  # fmt: skip
        self.judge = Judge(self.store, first_detector(table, self.handle.device), self.concept)
        if self.judge.refusal is not None:
            raise ConfigurationError(f"{self.judge.refusal}: choose another concept or protocol.")
        self._attacking: dict[tuple[str, str], Attacking] = {}

    # Models and prompts -------------------------------------------------------------------------------------

    def method(self, name: str) -> Method | None:
        """The method with the preset that suits the model; None for the original."""
        from zbench.registry import load_method
        from zbench.runner.planning import choose_preset

        if name == ORIGINAL:
            return None
        if name == ORACLE:
            return Oracle()
        kind = load_method(name)
        return kind.of(kind.presets.get(choose_preset(kind, None, self.handle.spec) or "", {}))

    def target(self, name: str, prompts: PromptSet) -> Target:
        """A model under attack, erased if it is not yet."""
        return Target(
            self.handle, self._erasure(name), self.concept, prompts.prompts, self.flagged, self.spec.steps
        )

    def _erasure(self, name: str) -> StageFolder | None:
        from zbench.stages.erase import erase, erase_folder

        method = self.method(name)
        if method is None:
            return None
        folder = erase_folder(self.store, method, self.concept, self.handle)
        if not folder.is_complete():
            erase(folder, method, self.concept, self.handle)
        return folder

    def plain_pictures(self, erasure: StageFolder | None, prompts: PromptSet) -> StageFolder:
        """The pictures of the prompts without an attack, drawn."""
        from zbench.stages.generate import generate, generate_folder, planned_samples

        samples, steps = planned_samples(prompts, ROLE, 1), self.spec.steps
        folder = generate_folder(self.store, erasure, self.handle, samples, steps)
        if not folder.is_complete():
            generate(folder, erasure, self.handle, samples, steps, self.spec.batch_size)
        return folder

    def prompts(self, name: str) -> PromptSet:
        """A tuning set of the model's domain, named without its ending."""
        from zbench.prompts import load_prompt_set

        found: PromptSet = load_prompt_set(f"{name}-tuning", self.domain)
        return found

    def without_concept(self, prompts: PromptSet, number: int) -> tuple[PromptSet, int]:
        """The first prompts that neither name the concept nor show it on the original's plain picture.

        Returns:
            They, and how many of those before the last one were left out.

        Raises:
            ConfigurationError: There are none.
        """
        folder = self.plain_pictures(None, prompts)
        for scores, samples in self.judge.missing([folder.path]):
            self.judge.look(scores, samples)
        read = self.judge.verdicts(folder.path)
        free = [
            index
            for index, prompt in enumerate(prompts.prompts)
            if not (self._asks(prompt.text) or read[prompts.name, prompt.id, _REPETITION].hit)
        ][:number]
        if not free:
            raise ConfigurationError(f"Every prompt of {prompts.name} shows {self.concept.name!r}.")
        kept = tuple(prompts.prompts[index] for index in free)
        return prompts.model_copy(update={"prompts": kept}), free[-1] + 1 - len(free)

    def _asks(self, text: str) -> bool:
        return any(names_phrase(text, phrase) for phrase in self.concept.phrases)

    # Attacks ------------------------------------------------------------------------------------------------

    def find(self, case: Case, prompts: PromptSet) -> Finding:
        """Makes an attack, or finds it made.

        Raises:
            StoreError: The run folder cannot be used.
            WeightsError: The model's or the detector's weights are missing.
        """
        common = self._common(case.target, prompts)
        spec = spec_of(case, self.domain, self.settings)
        record = common.record(spec)
        place = record.stages.get("score")
        outcomes = read_outcomes(self.store.root / place) if record.status == "done" and place else None
        return Finding(case, record.model_copy(update={"label": case.label}), outcomes, spec.preset)

    def _common(self, name: str, prompts: PromptSet) -> Attacking:
        key = (name, prompts.sha256)
        if key not in self._attacking:
            target = self.target(name, prompts)
            pictures = tuple(self.plain_pictures(each, prompts) for each in (target.erasure, None))
            studio = Studio(self.store, target, prompts.name, self.spec.steps)
            own, original = pictures
            self._attacking[key] = attacking(
                self.spec, target, self.judge, studio, (own, original), _silently, _alone
            )
        return self._attacking[key]


def _silently(_: str, job: Callable[[Any], None]) -> None:
    job(lambda done, total: None)


def _alone(_: str, folder: StageFolder, job: Callable[[Any], None]) -> None:
    with folder.claim() as missing:
        if missing:
            job(lambda done, total: None)
