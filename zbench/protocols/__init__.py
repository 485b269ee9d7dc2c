"""Protocols: named, versioned choices of what is measured and how.

A protocol has one table for each domain of models (``world`` for the miniature, ``photograph`` for Z-Image):
the scale is data, and no code asks which model it is.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zbench.errors import ConfigurationError, UnknownNameError

__all__ = ["ROLES", "DomainProtocol", "Protocol", "load_protocol", "protocol_names"]

ROLES = ("explicit", "implicit", "unrelated")
"""What prompts are for: they name the concept, they bring it about unnamed, or they have nothing to do with
it."""


class DomainProtocol(BaseModel):
    """What is measured on models of one domain.

    Attributes:
        prompt_sets: Role -> name of a prompt set; ``{concept}`` stands for the concept's name.
        detectors: Names of detectors; the first one gives the success rates, the others their agreement.
        thresholds: Detector -> score from which a class is found; a detector's own default where it is not
            named.
        clip: CLIP model (see `zbench.metrics.clip.ClipSpec.parse`).
        fidelity: Feature space of FID and KID: ``clip`` (the same image tower) or an extractor of
            torch-fidelity.
        reference: Reference pictures as ``SOURCE:NAME`` through the entry points ``zbench.references``; None
            where the user must give a folder.
        reference_pictures: How many of them.
        kid_subset_size: Pictures in one KID subset.
        repetitions: Pictures for each prompt.
        steps: Sampler steps; the model's own number when None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_sets: dict[str, str]
    detectors: tuple[str, ...] = Field(min_length=1)
    thresholds: dict[str, float] = Field(default_factory=dict)
    clip: str
    fidelity: str = "clip"
    reference: str | None = None
    reference_pictures: int = Field(default=512, ge=10)
    kid_subset_size: int = Field(default=50, ge=2)
    repetitions: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)

    @field_validator("prompt_sets")
    @classmethod
    def _known_roles(cls, prompt_sets: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(prompt_sets) - set(ROLES))
        if unknown or not prompt_sets:
            raise ValueError(f"prompt_sets must name roles out of {', '.join(ROLES)}, not {unknown}")
        return prompt_sets

    @model_validator(mode="after")
    def _thresholds_have_a_detector(self) -> DomainProtocol:
        unknown = sorted(set(self.thresholds) - set(self.detectors))
        if unknown:
            raise ValueError(f"thresholds for detectors that the protocol does not use: {', '.join(unknown)}")
        return self

    def sets_for(self, concept: str) -> dict[str, str]:
        """Role -> name of the prompt set for a concept, in the order of `ROLES`."""
        return {
            role: self.prompt_sets[role].format(concept=concept) for role in ROLES if role in self.prompt_sets
        }


class Protocol(BaseModel):
    """A named, versioned protocol; tables never mix two of them.

    Attributes:
        name: Such as ``zbench``.
        version: Raised whenever a figure could come out differently.
        summary: One line for listings.
        domains: Domain of a model -> what is measured on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = Field(ge=1)
    summary: str
    domains: dict[str, DomainProtocol] = Field(min_length=1)

    @property
    def label(self) -> str:
        """Name and version as a table's header prints them."""
        return f"{self.name} v{self.version}"

    def domain(self, name: str) -> DomainProtocol:
        """The table of one domain.

        Raises:
            ConfigurationError: The protocol does not cover the domain.
        """
        if name not in self.domains:
            raise ConfigurationError(
                f"The protocol {self.name!r} covers {', '.join(self.domains)}, not {name!r}."
            )
        return self.domains[name]


@cache
def protocol_names() -> tuple[str, ...]:
    """Names of all shipped protocols, sorted."""
    found = (entry.name for entry in files("zbench.protocols").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


@cache
def load_protocol(name: str) -> Protocol:
    """Reads one shipped protocol.

    Raises:
        UnknownNameError: There is no such protocol; close matches are named.
        ConfigurationError: Its file is malformed.
    """
    if name not in protocol_names():
        raise UnknownNameError.of("protocol", name, protocol_names())
    text = (files("zbench.protocols") / f"{name}.toml").read_text(encoding="utf-8")
    try:
        return Protocol.model_validate({"name": name, **tomllib.loads(text)})
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"protocols/{name}.toml: {error}") from error
