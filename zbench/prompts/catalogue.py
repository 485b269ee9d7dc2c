"""Prompt sets by name: those that are shipped, by domain, and those that are fetched."""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

from zbench.errors import UnknownNameError
from zbench.prompts.external import external_set_names, load_external_set
from zbench.prompts.sets import PromptSet


@cache
def prompt_set_names(domain: str = "world") -> tuple[str, ...]:
    """Names of the shipped prompt sets of a domain, sorted.

    Args:
        domain: What the model's pictures show (`ModelSpec.domain`).
    """
    folder = files("zbench_prompts") / "sets" / domain
    if not folder.is_dir():
        return ()
    return tuple(sorted(f.name.removesuffix(".jsonl") for f in folder.iterdir() if f.name.endswith(".jsonl")))


@cache
def _shipped(name: str, domain: str) -> PromptSet:
    path = files("zbench_prompts") / "sets" / domain / f"{name}.jsonl"
    return PromptSet.from_jsonl(path.read_text(encoding="utf-8"), where=f"prompts/sets/{domain}/{name}.jsonl")


def load_prompt_set(name: str, domain: str = "world", prompts_dir: Path | None = None) -> PromptSet:
    """Read one prompt set.

    Args:
        name: Name of a set that is shipped for the domain, or of one that is fetched.
        domain: What the model's pictures show (`ModelSpec.domain`).
        prompts_dir: Folder with the user's own files of sets that are otherwise fetched.

    Raises:
        UnknownNameError: If there is no such set; close matches are named.
        ConfigurationError: If a set that is fetched cannot be had, or differs from its pin.
    """
    # Whoever watches what a method reads (`zbench check`) sees cached sets too.
    sys.audit("zbench.prompt_set", name, domain)
    if name in prompt_set_names(domain):
        return _shipped(name, domain)
    if name in external_set_names():
        return load_external_set(name, prompts_dir)
    raise UnknownNameError.of("prompt set", name, [*prompt_set_names(domain), *external_set_names()])
