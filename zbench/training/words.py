"""Shuffling the words of a prompt without tearing the concept's phrases apart.

Z-Erase shuffles the prompt during training so that the concept's token span moves. A plain shuffle of
space-separated words would break "van gogh" and leave nothing to find a span for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from zbench.phrases import phrase_pattern


def split_words(prompt: str, phrases: Sequence[str]) -> list[str]:
    """Splits at spaces, keeping each phrase (any case, punctuation after it included) in one piece.

    Text without spaces, Chinese for example, comes back in one piece.
    """
    longest_first = sorted(phrases, key=lambda phrase: -len(" ".join(phrase.split())))
    # Where no space follows, as in Chinese, a phrase and what stands after it stay together.
    whole = [rf"{phrase_pattern(phrase).pattern}(?!\w)[^\w\s]*" for phrase in longest_first]
    return re.findall("|".join([*whole, r"\S+"]), prompt, flags=re.IGNORECASE)


def shuffle_words(prompt: str, phrases: Sequence[str], generator: torch.Generator) -> str:
    """The words of `prompt` in random order, phrases whole.

    Args:
        prompt: What to shuffle.
        phrases: Phrases that stay in one piece.
        generator: The only source of randomness.
    """
    words = split_words(prompt, phrases)
    order = torch.randperm(len(words), generator=generator).tolist()
    return " ".join(words[index] for index in order)


def shuffle_some(
    prompts: Sequence[str], phrases: Sequence[str], probability: float, generator: torch.Generator
) -> list[str]:
    """Shuffles each prompt with the given probability, independently, and leaves the others as they are."""
    drawn = torch.rand(len(prompts), generator=generator).tolist()
    return [
        shuffle_words(prompt, phrases, generator) if chance < probability else prompt
        for prompt, chance in zip(prompts, drawn, strict=True)
    ]
