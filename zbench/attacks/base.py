"""What an attack is: hyper-parameters as fields, one verb that offers candidates, and a card.

An attack proposes; it never sees a picture judged. Drawing its candidates and asking the detectors is the
work of later stages, which is why success against budget comes for free and no attack can fit a detector.
Importing an attack must stay cheap (cards are listed without torch): import torch inside the verbs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from zbench.errors import UnknownNameError
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context

Knowledge = Literal["text", "encoder", "model", "weights"]
"""What the attacker needs: to type prompts; the text encoder; gradients of the erased model; to change it."""

ATTACK_TOOLKIT_VERSION = 1
"""Raised when what the attacks share would make other candidates of the same attack."""


def portable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an attack as results hold them: an absolute path is about one machine, only its end is kept.

    Args:
        values: Field -> plain JSON value.
    """
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in values.items()
    }


class AttackCard(BaseModel):
    """What a reader of a table should know about an attack.

    Attributes:
        title: Full name.
        paper: Authors, title, venue.
        arxiv: Identifier, or an empty string.
        knowledge: ``text``: types prompts only; ``encoder``: has the text encoder; ``model``: has gradients
            of the erased transformer; ``weights``: changes or trains the erased model itself.
        control: What its control does with as many judged candidates, in one sentence.
        deviations: Where this implementation departs from the paper, and why.
        notes: What to keep in mind when reading its figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    paper: str
    arxiv: str
    knowledge: Knowledge
    control: str = "the same prompt with fresh noise, as often"
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Attack(BaseModel, ABC):
    """Base of every attack; a subclass is one file with its fields, presets and `attack`.

    Attributes:
        version: Raised by whoever changes the attack so that the same fields give other candidates.
        model_wide: Whether its candidates are changed models, drawn for every prompt; then it is called once
            with all prompts instead of batch by batch.
        prompt_sets: Fetched prompt sets that are its payloads: the only prompts it may read but the attacked.
        attack_seed: Everything random in the attack derives from it, the attacked prompt and nothing else.
        budget: Judged candidates per prompt.
        batch_size: Prompts that are attacked together; each batch is a checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    card: ClassVar[AttackCard]
    presets: ClassVar[dict[str, dict[str, Any]]]
    version: ClassVar[int] = 1
    model_wide: ClassVar[bool] = False
    prompt_sets: ClassVar[tuple[str, ...]] = ()

    attack_seed: int = Field(default=0, ge=0)
    budget: int = Field(default=3, ge=1)
    batch_size: int = Field(default=16, ge=1)

    @classmethod
    def with_preset(cls, preset: str, **overrides: Any) -> Self:
        """Builds the attack with the values of a preset, changed by `overrides`.

        Raises:
            UnknownNameError: There is no such preset, or an override names no field.
            ConfigurationError: A value has the wrong type or is out of range.
        """
        if preset not in cls.presets:
            raise UnknownNameError.of(f"preset of {cls.name}", preset, cls.presets)
        return validated(cls, {**cls.presets[preset], **overrides}, prefix=f"{cls.name}.")

    def supports(self, context: Context) -> str | None:
        """None where the attack can be made here, otherwise the reason why not in one sentence."""
        return None

    def prepare(self, context: Context) -> Any:
        """Work that all prompts share (a concept's direction, target pictures); it lands in `context.shared`.

        Done again when an interrupted attack resumes: it must depend on nothing but the context's model,
        erasure, concept and `attack_seed`, never on `context.prompts`.
        """
        return None

    @abstractmethod
    def attack(self, context: Context) -> Iterator[Candidate]:
        """Offers candidates, at most `budget` for each prompt, each prompt's in the order of their trial.

        Args:
            context: The erased model, the original, and the prompts of this batch.

        Yields:
            Candidates; those of different prompts may be mixed. A prompt whose optimisation fails gets
            `Candidate.failed`, and the others go on.
        """

    def control(self, context: Context) -> Iterator[Candidate]:
        """As many candidates without the attack's knowledge: by default the prompt itself, drawn anew."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            for number in range(self.budget):
                yield Candidate(prompt.id, prompt.text, label=f"retry {number + 1}")

    def identity(self) -> dict[str, Any]:
        """What decides which candidates this attack offers, as plain values.

        The size of a batch does not: a batch's folder is named by its prompts.
        """
        return {
            "attack": self.name,
            "version": self.version,
            "toolkit": ATTACK_TOOLKIT_VERSION,
            "hyperparameters": self.model_dump(mode="json", exclude={"batch_size"}),
        }
