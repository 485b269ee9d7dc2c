"""What attacks that only type prompts share: no query, no gradient, the same words for every erasure."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zbench.attacks.base import Attack
from zbench.attacks.toolkit.wordings import Option, fingerprints, wordings
from zbench.phrases import UNSPACED

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.wordings import Rewriter

NOTES = (
    "Nothing is fitted to the erasure: every erased model faces the same prompts.",
    "A prompt has as many candidates as it has wordings, at most `budget`; its control has as many.",
    "Which names are looked for was read off the prompt sets, those of evaluation included, where they use "
    "others than the concept's phrases; what stands in their place owes them nothing.",
)
"""Notes that hold for all of them."""

CONTROL = (
    "the prompt itself with fresh noise, as often as it has wordings; where words were added to a prompt "
    "that names nothing, the concept's plain phrase is"
)
"""What the control of those with frozen words does."""


class TextAttack(Attack):
    """Base of attacks whose candidates are prompts that can be written down beforehand.

    The first `budget` variants of a prompt that differ from it and from each other are its candidates, so a
    bigger budget only appends. A prompt without any is a failed one, with the reason.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "miniature": {}}

    @abstractmethod
    def variants(self, context: Context, text: str) -> Iterator[Option]:
        """(id, text) of everything that may be tried in the place of a prompt, in the order of trial."""

    @abstractmethod
    def why_none(self, context: Context) -> str:
        """Why a prompt may have no variant."""

    def tried(self, context: Context, text: str) -> list[Option]:
        """The variants of a prompt that are candidates: admissible, all different, within the budget."""

        def fresh() -> Iterator[Option]:
            seen = {text}
            for label, variant in self.variants(context, text):
                if variant not in seen and context.admissible(variant):
                    seen.add(variant)
                    yield label, variant

        return list(islice(fresh(), self.budget))

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The variants of every prompt."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            variants = self.tried(context, prompt.text)
            if not variants:
                yield Candidate.failed(prompt.id, self.why_none(context))
            for label, variant in variants:
                yield Candidate(prompt.id, variant, label)

    def plain(self, context: Context, text: str) -> str:
        """What the control draws, as often as a prompt has variants: the prompt itself."""
        return text

    def control(self, context: Context) -> Iterator[Candidate]:
        """The plain prompt, as often as it has variants."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            plain = self.plain(context, prompt.text)
            for number in range(len(self.tried(context, prompt.text))):
                yield Candidate(prompt.id, plain, label=f"retry {number + 1}")


class Rewording(TextAttack):
    """Base of attacks that put frozen words in the place of the concept's phrases.

    Attributes:
        unnamed: What to do with a prompt that names no phrase: ``append`` the words that would have stood in
            a phrase's place, or ``fail``.
    """

    unnamed: Literal["append", "fail"] = "append"

    def supports(self, context: Context) -> str | None:
        """The concept must have words in the frozen file."""
        domain = context.model.spec.domain
        if context.concept.name in wordings(self.name, domain).concepts:
            return None
        return f"the frozen set of {self.name} for {domain} models has no words for {context.concept.name}"

    def prepare(self, context: Context) -> Rewriter:
        """What rewords prompts for the concept."""
        return wordings(self.name, context.model.spec.domain).rewriter(context.concept.name)

    def variants(self, context: Context, text: str) -> Iterator[Option]:
        """All phrases reworded at once; of a prompt that names none, the prompt with the words added."""
        rewriter: Rewriter = context.shared
        if rewriter.spans(text):
            yield from rewriter.rewordings(text)
        elif self.unnamed == "append":
            for label, words in rewriter.additions():
                yield f"added {label}", _with_added(text, words)

    def plain(self, context: Context, text: str) -> str:
        """With the plain phrase where the attack adds words: what they replace, not what they bring."""
        rewriter: Rewriter = context.shared
        added = self.unnamed == "append" and not rewriter.spans(text)
        return _with_added(text, rewriter.plain) if added else text

    def why_none(self, context: Context) -> str:
        """Nothing to reword, or nothing that may be shown to a model."""
        return f"the prompt has no admissible rewording: does it name {context.concept.name}?"

    def identity(self) -> dict[str, Any]:
        """With the words themselves."""
        return {**super().identity(), "wordings": fingerprints(self.name)}


def _with_added(text: str, words: str) -> str:
    body = text.rstrip(" .,。，")
    return f"{body}，{words}" if re.search(f"[{UNSPACED}]$", body) else f"{body}, {words}"
