"""What a published result says: one JSON file for each cell, from which every table and page follows.

It stands at ``<model>/<family>/<concept>/<method>/<cell id>.json`` below `results/`, its small pictures
beside it as ``<cell id>.webp``. It holds the cell's own result, and what else a reader needs who has neither
the run folder nor the method: cards, outcomes picture by picture, the training trace.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from zbench.method import MethodCard
from zbench.results.plain import FIGURE_DEFAULTS, complete
from zbench.runner.specs import CellResult
from zbench.store import safe_name

__all__ = ["FIGURE_DEFAULTS", "KIND", "SCHEMA_VERSION", "PublishedResult"]

SCHEMA_VERSION = 1
"""Of published results; newer ones are refused."""

KIND: Final = "zbench result"

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelFacts(BaseModel):
    """The model that was erased from.

    Attributes:
        name: Name in the catalogue, or of its folder.
        label: Name with revision, as headers give it.
        domain: What its pictures show: ``world`` or ``photograph``.
        weights: Hash of its weights, as ``sha256:...``, or the revision that was asked for.
        dtype: Number format that it was run in.
        height: Height of the pictures in pixels.
        width: Width of the pictures in pixels.
        steps: Denoising steps of a picture.
        guidance_scale: Classifier-free guidance; 0 is none.
    """

    model_config = _FROZEN

    name: str
    label: str
    domain: Literal["world", "photograph"]
    weights: str
    dtype: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    steps: int = Field(gt=0)
    guidance_scale: float = Field(ge=0)


class ConceptFacts(BaseModel):
    """What was erased.

    Attributes:
        name: Name of the concept.
        family: ``nsfw``, ``style``, ``entity``, ``abstraction`` or ``identity``.
        members: Of a composite concept, the names of what is erased together.
    """

    model_config = _FROZEN

    name: str
    family: str
    members: tuple[str, ...] = ()


class MethodFacts(BaseModel):
    """The method as its card described it then; pages show it where the method is not installed.

    Attributes:
        name: Name of the method; ``original`` for the unerased model.
        card: Its card; None for `original` and for erasures that were made elsewhere.
        fields: Hyper-parameter -> what it means.
        source: Where the method came from: a package with its version, or a file with its SHA-256.
    """

    model_config = _FROZEN

    name: str
    card: MethodCard | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    source: str = ""


class FigureOutcomes(BaseModel):
    """What a figure is made of, picture by picture: it, its interval and all paired tests follow from this.

    The pictures are those of the roles in order; within a role in the order of its prompt set, all
    repetitions of a prompt together. `PublishedResult.prompts` says how many prompts a role has.

    Attributes:
        roles: Roles of the prompts whose pictures it looks at.
        hits: One letter for each picture: ``1`` where it counts as a success, ``0`` where not, ``-`` where
            the figure does not look at it; empty for figures that are no rates.
        values: One value for each picture of a mean, None where it does not look at it; empty for rates.
    """

    model_config = _FROZEN

    roles: tuple[str, ...] = Field(min_length=1)
    hits: str = Field(default="", pattern="^[01-]*$")
    values: tuple[float | None, ...] = ()

    @cached_property
    def numbers(self) -> tuple[float | None, ...]:
        """One value for each picture, 0 or 1 for rates; None where the figure does not look at it."""
        if self.values:
            return self.values
        return tuple(None if letter == "-" else float(letter) for letter in self.hits)


class PromptFacts(BaseModel):
    """A prompt set as it was used.

    Attributes:
        set: Name of the prompt set.
        sha256: Hash of its prompts.
        prompts: How many of them were drawn and scored, from the first one on.
    """

    model_config = _FROZEN

    set: str
    sha256: Sha256
    prompts: int = Field(ge=0)


class ShownPicture(BaseModel):
    """One small picture of the gallery: a tile of ``<cell id>.webp``.

    Attributes:
        tile: Number of its tile, from 0; tiles lie in rows of `Gallery.columns`.
        kind: ``plain`` for a prompt of a prompt set, ``attack`` for a picture that an attack brought about.
        role: Role of the prompt.
        prompt_id: Its id.
        repetition: Which picture of the prompt.
        seed: Of its noise.
        prompt: Its wording; None where the prompt set may not be shown.
        sha256: Of the picture that was scored, which the tile is a small copy of.
        flagged: Whether a detector of the protocol found the concept in it.
        hidden: Whether the tile is unrecognisable on purpose: pictures of delicate concepts that may not be
            published.
        attack: Name of the attack; None for a plain picture.
        attack_prompt: What the attack asked the model; None where that is no text or may not be shown.
    """

    model_config = _FROZEN

    tile: int = Field(ge=0)
    kind: Literal["plain", "attack"] = "plain"
    role: str
    prompt_id: str
    repetition: int = 0
    seed: int
    prompt: str | None = None
    sha256: Sha256
    flagged: bool
    hidden: bool = False
    attack: str | None = None
    attack_prompt: str | None = None


class Gallery(BaseModel):
    """The small pictures of a cell.

    Attributes:
        side: Height and width of a tile in pixels.
        columns: Tiles in a row.
        sha256: Of ``<cell id>.webp``; None where there are no pictures.
        pictures: The tiles, plain ones first; cells that compare have the same plain ones in the same order.
    """

    model_config = _FROZEN

    side: int = Field(default=64, gt=0)
    columns: int = Field(default=8, gt=0)
    sha256: Sha256 | None = None
    pictures: tuple[ShownPicture, ...] = ()


class Trace(BaseModel):
    """The training trace, thinned to at most `MOST_POINTS` steps.

    Attributes:
        steps: Training steps, rising.
        series: Name -> value at each of these steps, None where it was not recorded.
    """

    model_config = _FROZEN

    steps: tuple[int, ...] = ()
    series: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)


class Release(BaseModel):
    """Which code made the result.

    Attributes:
        version: Version of zbench.
        commit: Commit of the clean checkout; None for an installed release.
        wheel_sha256: Hash of the installed release's files as its wheel lists them; None for a checkout.
    """

    model_config = _FROZEN

    version: str
    commit: str | None = None
    wheel_sha256: Sha256 | None = None


class PublishedResult(BaseModel):
    """One file of `results/`.

    Attributes:
        kind: Tells such a file from any other JSON.
        schema_version: See `SCHEMA_VERSION`.
        result: The cell's result, without folders of stages of attacks and without what only scoring needs.
        model: The model.
        concept: The concept.
        method: The method.
        release: The code.
        prompts: Role -> prompt set.
        outcomes: Figure -> its outcomes; figures that are not made picture by picture are not in it.
        gallery: Small pictures.
        trace: Training trace; empty where nothing was trained.
        samples_sha256: Of the cell's ``samples.parquet``, which holds every raw value; None for a cell that
            was made before there was one.
    """

    model_config = _FROZEN

    kind: Literal["zbench result"] = KIND
    schema_version: int = SCHEMA_VERSION
    result: CellResult
    model: ModelFacts
    concept: ConceptFacts
    method: MethodFacts
    release: Release
    prompts: dict[str, PromptFacts] = Field(default_factory=dict)
    outcomes: dict[str, FigureOutcomes] = Field(default_factory=dict)
    gallery: Gallery = Gallery()
    trace: Trace = Trace()
    samples_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """What is plain data in a cell is looked at here, and figures get the fields that files leave out."""
        complete(self.result)
        return self

    @property
    def id(self) -> str:
        """Id of the cell."""
        return self.result.id

    @property
    def protocol(self) -> str:
        """Name and version of the protocol, such as ``zbench v2``."""
        return str(self.result.provenance["protocol"])

    @property
    def place(self) -> PurePosixPath:
        """Where the file stands below `results/`."""
        return _place(self.model.name, self.concept.family, self.concept.name, self.method.name, self.id)

    @property
    def pictures_place(self) -> PurePosixPath:
        """Where its small pictures stand below `results/`."""
        return self.place.with_suffix(".webp")


@lru_cache(maxsize=1 << 14)
def _place(*names: str) -> PurePosixPath:
    *folders, cell = names
    return PurePosixPath(*map(safe_name, folders), f"{cell}.json")


MOST_POINTS = 120
"""Steps of a published trace at most."""
