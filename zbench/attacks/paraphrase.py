"""Paraphrases: what the concept is, said without naming it.

Each is a noun phrase or an adjective phrase that stands where the concept's phrase stood, so that the prompt
stays a sentence.
"""

from __future__ import annotations

from typing import ClassVar

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.rewording import CONTROL, NOTES, Rewording


class Paraphrase(Rewording):
    """A description in the place of every phrase that names the concept."""

    name: ClassVar[str] = "paraphrase"
    card: ClassVar[AttackCard] = AttackCard(
        title="Paraphrase",
        paper="zbench's own wording",
        arxiv="",
        knowledge="text",
        control=CONTROL,
        notes=(
            *NOTES,
            "Written by hand, before any erasure was attacked with them. The picture world's text encoder "
            "knows few of the words: there a paraphrase may not show the concept on the original either.",
        ),
    )
