"""Which prompts calibrate, which are held out, and how many pictures that makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.errors import ConfigurationError
from zbench.protocols import UNRELATED
from zbench.studies.signals.drawing import samples_of

if TYPE_CHECKING:
    from zbench.prompts import PromptSet
    from zbench.protocols import DomainProtocol
    from zbench.stages.samples import Sample

PLAIN = "plain"

FRESH = 20
"""First repetition of held-out seeds: those below were looked at while the rules were chosen."""

TUNING = "-tuning"


@dataclass(frozen=True)
class Plan:
    """What the original draws.

    Attributes:
        calibration: As in a run: the prompts of every role, first seeds.
        objects: Those unrelated ones that name one object; they are drawn by damaged models as well.
        again: `objects` with other seeds.
        held_out: Style, or `PLAIN` -> prompts that calibrate nothing.
    """

    calibration: tuple[Sample, ...]
    objects: tuple[Sample, ...]
    again: tuple[Sample, ...]
    held_out: dict[str, tuple[Sample, ...]]

    @property
    def pictures(self) -> int:
        """Pictures of the original in all."""
        held_out = sum(map(len, self.held_out.values()))
        return len(self.calibration) + len(self.again) + held_out


def make_plan(domain: str, table: DomainProtocol, concept: str, prompts: int | None, held_out: int) -> Plan:
    """Chooses prompts.

    Args:
        domain: Of the model.
        table: The protocol's table for the concept.
        concept: Whose prompt sets calibrate, beside the unrelated ones.
        prompts: Prompts of each role; all of them when None.
        held_out: Pictures of each style that calibrate nothing.

    Raises:
        ConfigurationError: The domain has no unrelated prompts that name an object.
    """
    from zbench.prompts import prompt_set_names

    known = set(prompt_set_names(domain))
    sets = {role: name for role, name in table.sets_for(concept).items() if name in known}
    calibration = [sample for role, name in sets.items() for sample in _head(name, domain, prompts, role)]
    unrelated = [sample for sample in calibration if sample.role == UNRELATED]
    objects = [sample for sample in unrelated if sample.object is not None]
    if not objects:
        raise ConfigurationError(f"The domain {domain!r} has no unrelated prompts that name an object.")
    again = [_again(sample, FRESH) for sample in objects]
    used = {sample.prompt for sample in calibration}
    return Plan(tuple(calibration), tuple(objects), tuple(again), _held_out(domain, known, held_out, used))


def _head(name: str, domain: str, number: int | None, role: str) -> list[Sample]:
    from zbench.prompts import load_prompt_set

    prompts = load_prompt_set(name, domain)
    samples = samples_of(prompts, prompts.prompts[:number])
    return [sample.model_copy(update={"role": role}) for sample in samples]


def _again(sample: Sample, repetition: int) -> Sample:
    from zbench.stages.generate import picture_seed

    seed = picture_seed(sample.prompt_id, repetition)
    return sample.model_copy(update={"repetition": repetition, "seed": seed})


def _held_out(domain: str, known: set[str], number: int, used: set[str]) -> dict[str, tuple[Sample, ...]]:
    """For each style of the catalogue its own prompts, and unrelated ones without any style."""
    from zbench.concepts import concept_names, load_concept

    names = [name for name in concept_names(domain) if load_concept(name, domain).family == "style"]
    sets = {name: [f"{name}-explicit{TUNING}", f"{name}-explicit"] for name in names}
    styles = set(names)
    found = {
        style: _filled([_loaded(name, domain) for name in own if name in known], number, used, set())
        for style, own in sets.items()
    }
    plain = [_loaded(name, domain) for name in (f"{UNRELATED}{TUNING}",) if name in known]
    found[PLAIN] = _filled(plain, number, used, styles)
    return {style: samples for style, samples in found.items() if samples}


def _loaded(name: str, domain: str) -> PromptSet:
    from zbench.prompts import load_prompt_set

    return load_prompt_set(name, domain)


def _filled(sets: Sequence[PromptSet], number: int, used: set[str], without: set[str]) -> tuple[Sample, ...]:
    """The first prompts that calibrate nothing and name none of some concepts, further seeds if need be."""
    once = [
        sample
        for prompts in sets
        for sample, prompt in zip(samples_of(prompts, prompts.prompts), prompts.prompts, strict=True)
        if prompt.text not in used and not without & set(prompt.truth or {})
    ]
    rounds = math.ceil(number / len(once)) if once else 0
    return tuple(
        _again(sample, repetition) for repetition in range(FRESH, FRESH + rounds) for sample in once
    )[:number]
