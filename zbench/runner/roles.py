"""Which prompts a concept is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zbench.errors import ConfigurationError
from zbench.prompts import PromptSet, load_prompt_set, prompt_set_names
from zbench.protocols import ROLES

if TYPE_CHECKING:
    from zbench.protocols import DomainProtocol

OPTIONAL_ROLES = frozenset({"implicit"})
"""Only some concepts have prompts that bring them about unnamed; the figure then says that there are none."""


def prompt_sets_of(table: DomainProtocol, concept: str, limit: int | None = None) -> dict[str, PromptSet]:
    """Role -> prompts to draw.

    Args:
        table: The protocol's table for the model's domain.
        concept: Name of the concept.
        limit: Use only the first so many prompts of each set.

    Raises:
        UnknownNameError: A set that every concept needs does not exist.
        ConfigurationError: A set belongs to the tuning split.
    """
    names = {
        role: name
        for role, name in table.sets_for(concept).items()
        if role not in OPTIONAL_ROLES or name in prompt_set_names()
    }
    sets = {role: load_prompt_set(name).head(limit) for role, name in names.items()}
    for prompts in sets.values():
        if prompts.split != "evaluation":
            raise ConfigurationError(f"The prompt set {prompts.name!r} is for tuning; results need another.")
    return sets


def scored_counts(sets: dict[str, PromptSet], concept: str) -> dict[str, int]:
    """Role -> prompts that are scored; see `prompts_left_out`."""
    left_out = prompts_left_out(sets, concept)
    return {
        role: sum((prompts.name, prompt.id) not in left_out for prompt in prompts.prompts)
        for role, prompts in sets.items()
    }


def prompts_left_out(sets: dict[str, PromptSet], concept: str) -> set[tuple[str, str]]:
    """(set, id) of the unrelated prompts that ask for the concept after all.

    All concepts share the unrelated pictures of the original; so these are drawn too, and left out only when
    this concept is scored.
    """
    unrelated = sets.get(ROLES[-1])
    if unrelated is None:
        return set()
    return {(unrelated.name, prompt.id) for prompt in unrelated.prompts if (prompt.truth or {}).get(concept)}
