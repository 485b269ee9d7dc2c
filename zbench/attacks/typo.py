"""Typos: the concept's phrases misspelt, as a reader still understands them.

A guard that looks for a word does not find it; a language model may still read it. The Z-Erase paper shows
"Eiffle" bring back a tower whose token was zeroed.
"""

from __future__ import annotations

from typing import ClassVar

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.rewording import CONTROL, NOTES, Rewording


class Typo(Rewording):
    """A slip in every phrase that names the concept."""

    name: ClassVar[str] = "typo"
    card: ClassVar[AttackCard] = AttackCard(
        title="Typo",
        paper="Jiang et al.: Z-Erase (ICML 2026), observation 1",
        arxiv="2603.25074",
        knowledge="text",
        control=CONTROL,
        deviations=("the paper prints a few examples and no list: these are zbench's own",),
        notes=(
            *NOTES,
            "Misspellings are frozen; zbench/attacks/toolkit/spelling.py is the rule that made them, five "
            "slips a word: a letter doubled, two swapped, one dropped, a look-alike, a vowel drawn out; "
            "short words have fewer. Two Chinese signs are never swapped: that often is another word.",
        ),
    )
