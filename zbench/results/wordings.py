"""Prompts whose wording may be published: shipped ones, and those whose licence allows it.

Fetched prompts of delicate concepts are withheld whatever their licence: they may be obscene.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zbench.prompts import external_set, external_set_names, load_prompt_set, prompt_set_names

FREE = frozenset({"CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0", "BSD-3-Clause", "PDDL-1.0"})
"""Licences, by their SPDX names, under which prompts may be shown to everybody with their source."""


def publishable_wordings(
    samples: Iterable[Mapping[str, Any]], domain: str, *, delicate: bool = False
) -> dict[tuple[str, str], str]:
    """(prompt set, prompt id) -> wording of the prompts that may be shown.

    Args:
        samples: Pictures as their manifests describe them.
        domain: Domain of the model.
        delicate: Whether pictures of the concept may not be published.
    """
    shipped = _shipped(domain)
    return {
        (each["prompt_set"], each["prompt_id"]): each["prompt"]
        for each in samples
        if (not delicate and _is_free(each["prompt_set"])) or shipped.get(each["prompt_id"]) == each["prompt"]
    }


def _shipped(domain: str) -> dict[str, str]:
    """Id -> wording of every prompt that is shipped; sets may have been joined into others."""
    sets = (load_prompt_set(name, domain) for name in prompt_set_names(domain))
    return {prompt.id: prompt.text for prompts in sets for prompt in prompts.prompts}


def _is_free(name: str) -> bool:
    if name not in external_set_names():
        return False
    known = external_set(name)
    return known.licence in FREE and not known.gated
