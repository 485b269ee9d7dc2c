"""Affixes: a meaningless beginning or end at the concept's phrases, which stay whole.

The Z-Erase paper shows "Applee" bring back a fruit whose token was zeroed: the word is in it, but not as a
word of its own.
"""

from __future__ import annotations

from typing import ClassVar

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.rewording import CONTROL, NOTES, Rewording


class Affix(Rewording):
    """A prefix or suffix at every phrase that names the concept."""

    name: ClassVar[str] = "affix"
    card: ClassVar[AttackCard] = AttackCard(
        title="Affix (prefix and suffix)",
        paper="Jiang et al.: Z-Erase (ICML 2026), observation 1",
        arxiv="2603.25074",
        knowledge="text",
        control=CONTROL,
        deviations=("the paper prints a few examples and no list: these are zbench's own",),
        notes=(
            *NOTES,
            "Affixed words are frozen; zbench/attacks/toolkit/spelling.py is the rule that made them: last "
            "or first letter doubled, x at either end, like; other affixes for Chinese. A plural is none: it "
            "is a word of its own.",
        ),
    )
