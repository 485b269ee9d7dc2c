"""Ring-A-Bell's published prompts (Tsai et al., ICLR 2024), as they are: the user's copy of the 285.

They were found by genetic search in CLIP's text encoder, for 95 prompts of I2P at each of three lengths. A
model with another text encoder was never asked: this is a transfer test, `ring_a_bell` the adaptive attack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zbench.attacks.base import Attack, AttackCard
from zbench.errors import ZbenchError

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context
    from zbench.prompts.sets import Prompt, PromptSet

SET = "ring-a-bell"
CONCEPT = "nudity"
CASES = 95
"""Case numbers of the set; rows come in blocks of so many, one for each length K = 16, 38, 77."""


class RingABellTransfer(Attack):
    """Prompts of others, matched with the attacked ones by case number.

    Attributes:
        prompts_dir: Folder with the user's copy, ``ring-a-bell.csv``, ``.jsonl`` or ``.parquet``; the cache
            of the Hub when None. No part of the identity: the prompts' hash is.
    """

    name: ClassVar[str] = "ring_a_bell_transfer"
    card: ClassVar[AttackCard] = AttackCard(
        title="Ring-A-Bell, published prompts",
        paper="Tsai et al.: Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models? "
        "(ICLR 2024)",
        arxiv="2310.10012",
        knowledge="text",
        deviations=(
            "a transfer test: the prompts were optimised for CLIP's text encoder, not for this model's; the "
            "Z-Erase paper uses them likewise",
            "an attacked prompt gets the prompts of one case, shortest first, then those of the next cases; "
            "its case is the last number of its id (the row of its set) modulo 95, so that the set's own "
            "rows and the 95 rows of I2P that have a file of their own meet their case",
            "rows that can be read as being about minors are left out, and the next ones take their place",
        ),
        notes=(
            "Gated: fetched by the user, never shipped. A file of 79 pairs that others pass on under this "
            "name is not the authors' set, and is refused for its number of rows.",
            "Only rows of I2P itself were what a case was made from: for other attacked prompts the match is "
            "by number alone.",
            "A control that repeats the attacked prompt says little, because the published texts ask for the "
            "concept by themselves: read its figures against the same attack on the original.",
            "A run only looks for the set here, in the folder or the cache, and never fetches it: "
            "`zbench prompts pin ring-a-bell` does, once.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"budget": 3}, "miniature": {}}
    prompt_sets: ClassVar[tuple[str, ...]] = (SET,)

    prompts_dir: Path | None = None

    def supports(self, context: Context) -> str | None:
        """The set is about nudity in photographs, and must be there."""
        if context.model.spec.domain != "photograph" or context.concept.name != CONCEPT:
            return f"the published prompts are about {CONCEPT} in photographs, no other concept or domain"
        try:
            self.published  # noqa: B018
        except ZbenchError as error:
            return str(error)
        return None

    @cached_property
    def published(self) -> PromptSet:
        """The user's copy, as it lies here: an attack's identity must not depend on a network.

        Raises:
            ConfigurationError: It is absent, truncated or not as pinned; one line says what to do.
            StoreError: The lock file of prompt sets cannot be trusted.
        """
        from zbench.prompts.external import load_external_set

        return load_external_set(SET, self.prompts_dir, local=True)

    def prepare(self, context: Context) -> dict[int, str]:
        """Row of the set -> text."""
        return {_number(prompt): prompt.text for prompt in self.published.prompts}

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The published texts of a prompt's case, then of the cases after it."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            for case, row in islice(_rows(_number(prompt) % CASES, context.shared), self.budget):
                yield Candidate(prompt.id, context.shared[row], f"case {case}, row {row}")

    def identity(self) -> dict[str, Any]:
        """The set's hash stands for the folder that it lies in; None where it cannot be had."""
        same = super().identity()
        same["hyperparameters"].pop("prompts_dir")
        try:
            digest: str | None = self.published.sha256
        except ZbenchError:
            digest = None
        return {**same, "prompts": digest}


def _number(prompt: Prompt) -> int:
    """The last number in a prompt's id, 0 where there is none."""
    found = re.findall(r"\d+", prompt.id)
    return int(found[-1]) if found else 0


def _rows(first: int, texts: dict[int, str]) -> Iterator[tuple[int, int]]:
    """(case, row) of every row that is left, case by case from the first one on, shortest texts first."""
    for offset in range(CASES):
        case = (first + offset) % CASES
        for row in range(case, max(texts) + 1, CASES):
            if row in texts:
                yield case, row
