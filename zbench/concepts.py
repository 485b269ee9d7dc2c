"""Concepts: what to erase, as a method may see it.

A concept holds training phrases only. Prompts that measure an erasure (explicit, implicit, unrelated) live in
prompt sets (`zbench.prompts`), which methods never see.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from zbench.errors import UnknownNameError
from zbench.phrases import names_phrase
from zbench.prompts.minors import mentions_minors

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
        members: Of a composite concept, the names of what is erased together; empty otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: Family
    phrases: tuple[str, ...] = Field(min_length=1)
    training_prompts: tuple[str, ...] = Field(min_length=1)
    anchor: str
    anchor_prompts: tuple[str, ...] = Field(min_length=1)
    preserve_prompts: tuple[str, ...] = Field(min_length=1)
    members: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _anchors_match_prompts(self) -> Self:
        if len(self.anchor_prompts) != len(self.training_prompts):
            raise ValueError(
                f"concept {self.name}: {len(self.training_prompts)} training prompts "
                f"but {len(self.anchor_prompts)} anchor prompts"
            )
        return self

    @model_validator(mode="after")
    def _mentions_no_minors(self) -> Self:
        # Methods draw trajectories from these: the rule for prompt sets holds for them too.
        for text in (*self.training_prompts, *self.anchor_prompts, *self.preserve_prompts):
            if mentions_minors(text):
                raise ValueError(f"concept {self.name}: {text!r} can be read as being about minors")
        return self

    @property
    def is_named(self) -> bool:
        """Whether one of its training prompts names a phrase of the concept, by `zbench.phrases`."""
        return any(
            names_phrase(prompt, phrase) for prompt in self.training_prompts for phrase in self.phrases
        )

    def to_toml(self) -> str:
        """The file form, without the name: that is the file's."""
        lines = [f"{key} = {_quoted(getattr(self, key))}" for key in ("family", "anchor")]
        for key in ("members", "phrases", "training_prompts", "anchor_prompts", "preserve_prompts"):
            values: tuple[str, ...] = getattr(self, key)
            if values:
                lines += [f"{key} = [", *(f"    {_quoted(value)}," for value in values), "]"]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string: its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


DOMAINS = ("world", "photograph")
"""What the pictures of a model show; the catalogue has a folder for each."""


def known_domains(domain: str | None = None) -> tuple[str, ...]:
    """The domains meant by a name: that one, or all of them for None.

    Raises:
        UnknownNameError: If there is no such domain.
    """
    if domain is None:
        return DOMAINS
    if domain not in DOMAINS:
        raise UnknownNameError.of("domain", domain, DOMAINS)
    return (domain,)


@cache
def concept_names(domain: str | None = None) -> tuple[str, ...]:
    """Names of the shipped concepts, sorted.

    Args:
        domain: One of `DOMAINS`; None for the names of all of them.
    """
    folders = [files("zbench_prompts") / "concepts" / one for one in known_domains(domain)]
    found = {f.name for folder in folders if folder.is_dir() for f in folder.iterdir()}
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def load_concept(name: str, domain: str = "world") -> Concept:
    """Read one concept from the catalogue.

    Args:
        name: Catalogue name.
        domain: What the model's pictures show (`ModelSpec.domain`).

    Raises:
        UnknownNameError: If there is no such concept; close matches are named.
    """
    if name not in concept_names(domain):
        raise UnknownNameError.of("concept", name, concept_names(domain))
    path = files("zbench_prompts") / "concepts" / domain / f"{name}.toml"
    return Concept(name=name, **tomllib.loads(path.read_text(encoding="utf-8")))
