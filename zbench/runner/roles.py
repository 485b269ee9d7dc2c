"""Which prompts a concept is measured on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.concepts import concept_names, load_concept
from zbench.errors import ConfigurationError
from zbench.metrics.evidence import asks_for
from zbench.prompts import PromptSet, external_set_names, load_prompt_set, prompt_set_names
from zbench.protocols import UNRELATED

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.protocols import DomainProtocol

NEEDED_ROLES = frozenset({"explicit", UNRELATED})
"""Other roles are left out where a concept or domain has no set for them; their figures say so."""

SHARED_ROLES = frozenset({UNRELATED, "binding", "counting", "places"})
"""Roles whose prompts, and whose pictures of the original, serve all concepts."""

OTHERS = "{others}"
"""In the name of a set: each other concept of the family in its turn, joined into one set."""

OTHERS_EACH = 4
"""Prompts of each other concept."""


def prompt_sets_of(
    table: DomainProtocol,
    concept: Concept,
    domain: str,
    limit: int | None = None,
    prompts_dir: Path | None = None,
) -> dict[str, PromptSet]:
    """Role -> prompts to draw.

    Args:
        table: The protocol's table for the model's domain and the concept.
        concept: The concept.
        domain: Domain of the model.
        limit: Use only the first so many prompts of each set.
        prompts_dir: Folder with the user's copies of sets that are fetched.

    Raises:
        UnknownNameError: A set that every concept needs does not exist.
        ConfigurationError: A set belongs to another split than the protocol's, or cannot be fetched.
    """
    known = {*prompt_set_names(domain), *external_set_names()}
    sets: dict[str, PromptSet] = {}
    for role, name in table.sets_for(concept.name).items():
        if OTHERS in name:
            joined = _others(name, concept, domain)
            sets |= {} if joined is None else {role: joined.head(limit)}
        elif role in NEEDED_ROLES or name in known:
            sets[role] = load_prompt_set(name, domain, prompts_dir).head(limit)
    for prompts in sets.values():
        if prompts.split != table.split:
            raise ConfigurationError(
                f"The prompt set {prompts.name!r} is for {prompts.split}; this protocol is for {table.split}."
            )
    return sets


def _others(pattern: str, concept: Concept, domain: str) -> PromptSet | None:
    """The first prompts of the same set of every other concept of the family; none where it is alone."""
    every = (load_concept(name, domain) for name in concept_names(domain))
    names = [each.name for each in every if each.family == concept.family and each.name != concept.name]
    sets = [load_prompt_set(pattern.replace(OTHERS, name), domain) for name in names]
    rows = [
        prompts.prompts[place]
        for place in range(OTHERS_EACH)
        for prompts in sets
        if place < len(prompts.prompts)
    ]
    if not sets:
        return None
    first = sets[0].model_dump(include={"split", "licence", "domain"})
    name = pattern.replace(OTHERS, f"not-{concept.name}")
    return PromptSet(
        name=name, source=", ".join(prompts.name for prompts in sets), prompts=tuple(rows), **first
    )


def describe_set(prompts: PromptSet) -> dict[str, Any]:
    """What a record says about a prompt set: name, hash, rows that the filter removed, pinned or not."""
    sheet = prompts.describe()
    return {"set": prompts.name, **{name: sheet[name] for name in ("sha256", "size", "removed", "pin")}}


def scored_counts(sets: dict[str, PromptSet], concept: Concept) -> dict[str, int]:
    """Role -> prompts that are scored; see `prompts_left_out`."""
    left_out = prompts_left_out(sets, concept)
    return {
        role: sum((prompts.name, prompt.id) not in left_out for prompt in prompts.prompts)
        for role, prompts in sets.items()
    }


def prompts_left_out(sets: dict[str, PromptSet], concept: Concept) -> set[tuple[str, str]]:
    """(set, id) of the prompts of shared roles that ask for the concept after all.

    All concepts share these pictures of the original; so they are drawn too, and left out only when this
    concept is scored.
    """
    names = (concept.name, *concept.members)
    return {
        (prompts.name, prompt.id)
        for role, prompts in sets.items()
        if role in SHARED_ROLES
        for prompt in prompts.prompts
        if asks_for((name for name, asked in (prompt.truth or {}).items() if asked), names)
    }
