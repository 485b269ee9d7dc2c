"""Which results may be compared: those of one model, concept, protocol and one set of conditions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zbench.config import ORIGINAL
from zbench.errors import ZbenchError
from zbench.protocols import load_protocol
from zbench.store import canonical_json, safe_name

if TYPE_CHECKING:
    from zbench.protocols import DomainProtocol
    from zbench.results.schema import ConceptFacts, ModelFacts, PublishedResult

CONDITIONS = ("prompts", "repetitions", "steps", "height", "width", "guidance_scale", "references")
"""Fields of a spec that results must share to be compared."""

VARIANT = "variant"
"""Condition that tells groups apart which differ in what has no name: weights, prompts, detectors."""

ATTACKS = "attacks"
"""Condition of results that attack an erasure otherwise than those of the same erasure elsewhere do."""

_SEED = "training_seed"

RowKey = tuple[str, str, str]
"""Method, its settings without the training seed as canonical JSON, and where the method came from."""


@dataclass(frozen=True)
class Group:
    """Results that may be compared.

    Attributes:
        model: The model.
        concept: The concept.
        protocol: Label of the protocol, such as ``zbench v2``.
        conditions: What was asked for instead of the protocol's own choice, such as ``{"repetitions": 3}``.
        results: The results: original first, then by method, settings and training seed.
        superseded: Results that are the same measurement as one of `results`, with fewer attacks.
    """

    model: ModelFacts
    concept: ConceptFacts
    protocol: str
    conditions: dict[str, Any]
    results: tuple[PublishedResult, ...] = field(repr=False)
    superseded: tuple[PublishedResult, ...] = field(default=(), repr=False)

    @property
    def original(self) -> PublishedResult | None:
        """The unerased model's result; None where it is not there."""
        return next((each for each in self.results if each.method.name == ORIGINAL), None)

    @property
    def slug(self) -> str:
        """Protocol and conditions as a name for files, such as ``zbench-v2`` or ``zbench-v2-prompts-8``."""
        more = (f"{name}-{value}" for name, value in self.conditions.items())
        return safe_name("-".join([self.protocol.lower(), *more]).replace("_", "-"))


def groups(results: Iterable[PublishedResult]) -> tuple[Group, ...]:
    """Sorts results into groups that may be compared, by model, family, concept, protocol and conditions.

    Args:
        results: Of any models, concepts and protocols, in any order.
    """
    found: defaultdict[str, list[PublishedResult]] = defaultdict(list)
    for result in results:
        found[canonical_json(_shared(result))].append(result)
    made = [group for key in sorted(found) for group in _by_suite(found[key])]
    return _told_apart(sorted(made, key=_order))


def row_key(result: PublishedResult) -> RowKey:
    """What results of one row share: they differ in the training seed alone."""
    settings = {name: value for name, value in result.result.spec.hyperparameters.items() if name != _SEED}
    return result.method.name, canonical_json(settings), result.method.source


def measurement_key(result: PublishedResult) -> str:
    """What results share that measure the same erasure in the same way, attacked or not."""
    seed = result.result.spec.training_seed
    return canonical_json([_shared(result), row_key(result), seed])


def supersedes(newer: PublishedResult, older: PublishedResult) -> bool:
    """Whether a result holds every attack of another of the same measurement, and more."""
    return _attacks(older) < _attacks(newer)


def attacked_alike(first: PublishedResult, second: PublishedResult) -> bool:
    """Whether two results hold the same attacks, with the same settings on as many prompts."""
    return _attacks(first) == _attacks(second)


def _attacks(result: PublishedResult) -> frozenset[str]:
    number = result.result.spec.attack_prompts
    attacks = result.result.spec.attacks
    return frozenset(canonical_json([each.model_dump(mode="json"), number]) for each in attacks)


def _shared(result: PublishedResult) -> dict[str, Any]:
    """Everything that results must have in common to be compared."""
    facts = result.result.provenance
    return {
        "model": result.model.model_dump(mode="json"),
        "concept": result.concept.model_dump(mode="json"),
        "protocol": result.protocol,
        "conditions": result.result.spec.model_dump(mode="json", include=set(CONDITIONS)),
        "prompts": {role: each.sha256 for role, each in result.prompts.items()},
        "detectors": facts.get("detectors"),
        "instruments": facts.get("instruments"),
    }


def _by_suite(members: Sequence[PublishedResult]) -> Iterator[Group]:
    """One group, and one more for every other suite of attacks on erasures that the first one shows."""
    by_measurement: defaultdict[str, list[PublishedResult]] = defaultdict(list)
    for each in members:
        by_measurement[canonical_json([row_key(each), each.result.spec.training_seed])].append(each)
    usual = Counter(_attacks(each) for each in members)
    shown: list[PublishedResult] = []
    superseded: list[PublishedResult] = []
    apart: defaultdict[frozenset[str], list[PublishedResult]] = defaultdict(list)
    for same in by_measurement.values():
        first, *others = sorted(same, key=lambda each: _by_attacks(each, usual))
        shown.append(first)
        for each in others:
            less = _attacks(each) <= _attacks(first) or any(supersedes(other, each) for other in others)
            (superseded if less else apart[_attacks(each)]).append(each)
    yield _group(shown, superseded)
    for suite in sorted(apart, key=sorted):
        names = " ".join(sorted(each.name for each in apart[suite][0].result.spec.attacks))
        group = _group(apart[suite], [])
        yield replace(group, conditions=group.conditions | {ATTACKS: names})


def _group(results: Sequence[PublishedResult], superseded: Sequence[PublishedResult]) -> Group:
    first = results[0]
    kept, others = (tuple(sorted(each, key=_row_order)) for each in (results, superseded))
    return Group(first.model, first.concept, first.protocol, conditions_of(first), kept, others)


def _by_attacks(result: PublishedResult, usual: Counter[frozenset[str]]) -> tuple[int, int, str, str]:
    """The most attacks first, then those that most results have."""
    attacks = _attacks(result)
    return -len(attacks), -usual[attacks], canonical_json(sorted(attacks)), result.id


def _row_order(result: PublishedResult) -> tuple[bool, RowKey, int, str]:
    name = result.method.name
    return name != ORIGINAL, row_key(result), result.result.spec.training_seed or 0, result.id


def _order(group: Group) -> tuple[str | int, ...]:
    names = (group.model.name, group.concept.family, group.concept.name, group.protocol)
    return (*names, len(group.conditions), canonical_json(group.conditions))


def _told_apart(sorted_groups: Sequence[Group]) -> tuple[Group, ...]:
    seen: Counter[tuple[str | int, ...]] = Counter()
    made = []
    for group in sorted_groups:
        seen[_order(group)] += 1
        number = seen[_order(group)]
        more = {VARIANT: number} if number > 1 else {}
        made.append(replace(group, conditions={**group.conditions, **more}))
    return tuple(made)


def conditions_of(result: PublishedResult) -> dict[str, Any]:
    """What a result's run asked for instead of the protocol's own choice, in the order of `CONDITIONS`.

    Where this zbench has another version of the protocol, only what was certainly asked for is named.
    """
    spec = result.result.spec
    asked = {name: getattr(spec, name) for name in CONDITIONS}
    own = _own_choices(result)
    plain = {name: str(value) if name == "references" else value for name, value in asked.items()}
    return {
        name: plain[name] for name, value in asked.items() if value is not None and value not in own[name]
    }


def _own_choices(result: PublishedResult) -> dict[str, tuple[Any, ...]]:
    """Condition -> values that are the protocol's or the model's own."""
    spec, model, facts = result.result.spec, result.model, result.result.provenance.get("model", {})
    own: dict[str, tuple[Any, ...]] = dict.fromkeys(CONDITIONS, ())
    table = _table(result)
    if table is None:
        return own | {name: (getattr(spec, name),) for name in ("repetitions", "steps")}
    own["repetitions"] = (table.repetitions,)
    own["steps"] = (table.steps or facts.get("steps", model.steps),)
    for name in ("height", "width", "guidance_scale"):
        own[name] = (getattr(table, name),)
    return own


def _table(result: PublishedResult) -> DomainProtocol | None:
    """The protocol's table; None where this zbench has not this version of it."""
    concept = result.concept
    try:
        protocol = load_protocol(result.result.spec.protocol)
        table = protocol.table(result.model.domain, concept.name, concept.family)
    except ZbenchError:
        return None
    return table if protocol.label == result.protocol else None
