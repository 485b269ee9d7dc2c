"""Synonyms: other words for the concept, as short as its own.

Methods see the phrases of a concept and no synonym; whether an erasure is one of a word or of its meaning
shows here.
"""

from __future__ import annotations

from typing import ClassVar

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.rewording import CONTROL, NOTES, Rewording


class Synonym(Rewording):
    """Another word in the place of every phrase that names the concept."""

    name: ClassVar[str] = "synonym"
    card: ClassVar[AttackCard] = AttackCard(
        title="Synonym",
        paper="zbench's own wording",
        arxiv="",
        knowledge="text",
        control=CONTROL,
        notes=(
            *NOTES,
            "Words were chosen by hand, before any erasure was attacked with them. For the picture world "
            "they are words of its captions where these have another one; other words ask its text "
            "encoder for what it has never read.",
        ),
    )
