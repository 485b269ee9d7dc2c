"""Translations: the concept's phrases in another language, the rest of the prompt as it was.

Chinese, Spanish, French, German and Russian for models of photographs, other scripts for names; the picture
world's captions know English and Chinese only.
"""

from __future__ import annotations

from typing import ClassVar

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.rewording import CONTROL, NOTES, Rewording


class Translation(Rewording):
    """The concept's phrases in another language."""

    name: ClassVar[str] = "translation"
    card: ClassVar[AttackCard] = AttackCard(
        title="Translation",
        paper="zbench's own wording",
        arxiv="",
        knowledge="text",
        control=CONTROL,
        notes=(
            *NOTES,
            "Dictionary forms, not inflected to fit the prompt. A Chinese prompt of the picture world "
            "gets English words, none of them a phrase that methods see.",
        ),
    )
