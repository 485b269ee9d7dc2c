"""Concepts: what to erase, as a method may see it.

A concept holds training phrases only. Prompts that measure an erasure (explicit, implicit, unrelated) live in
prompt sets (`zbench.prompts`), which methods never see.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from zbench.errors import UnknownNameError

Family = Literal["nsfw", "style", "entity", "abstraction", "identity"]


class Concept(BaseModel):
    """One concept to erase.

    Attributes:
        name: Catalogue name, e.g. ``nudity``.
        family: The family of the paper's tables that the concept belongs to.
        phrases: Words that name the concept; methods look for their token spans.
        training_prompts: Prompts that show the concept and that methods may train on.
        anchor: What stands in its place, e.g. ``a person``.
        anchor_prompts: `training_prompts` with the concept replaced by its anchor, one for one.
        preserve_prompts: Prompts without the concept whose pictures must not change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: Family
    phrases: tuple[str, ...] = Field(min_length=1)
    training_prompts: tuple[str, ...] = Field(min_length=1)
    anchor: str
    anchor_prompts: tuple[str, ...] = Field(min_length=1)
    preserve_prompts: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _anchors_match_prompts(self) -> Self:
        if len(self.anchor_prompts) != len(self.training_prompts):
            raise ValueError(
                f"concept {self.name}: {len(self.training_prompts)} training prompts "
                f"but {len(self.anchor_prompts)} anchor prompts"
            )
        return self


@cache
def concept_names() -> tuple[str, ...]:
    """Names of all shipped concepts, sorted."""
    folder = files("zbench_prompts") / "concepts"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load_concept(name: str) -> Concept:
    """Read one concept from the catalogue.

    Raises:
        UnknownNameError: If there is no such concept; close matches are named.
    """
    if name not in concept_names():
        raise UnknownNameError.of("concept", name, concept_names())
    text = (files("zbench_prompts") / "concepts" / f"{name}.toml").read_text(encoding="utf-8")
    return Concept(name=name, **tomllib.loads(text))
