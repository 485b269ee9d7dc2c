"""What a text encoder makes of a concept's phrases: one caption for all, or their places in prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zbench.edits.projection import prompt_rows
from zbench.errors import ConfigurationError
from zbench.phrases import names_phrase

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model


Wording = Literal["phrases", "prompt"]
"""How guidance names a concept: by the list of its phrases, or by a training prompt."""


def describe(model: Model, concept: Concept, wording: Wording) -> str:
    """The prompt that guidance keeps away from.

    Args:
        model: Whose tokens are counted.
        concept: What to name.
        wording: ``phrases`` is how negative prompts are written, and fits models that were trained on text of
            all kinds. ``prompt`` is the training prompt that names most of the phrases, the first of equals:
            for models that know sentences only. Of a composite concept it is as many such prompts, with
            commas between them, as name every member.

    Raises:
        ConfigurationError: The model truncates so long a prompt, which would drop phrases silently.
    """
    parts = list(concept.phrases) if wording == "phrases" else naming_prompts(concept)
    text = ", ".join(parts)
    phrases = [phrase for phrase in concept.phrases if names_phrase(text, phrase)]
    if not all(model.token_span(text, phrase) for phrase in phrases):
        raise ConfigurationError(
            f"The {len(phrases)} phrases of {concept.name!r} do not fit into the "
            f"{model.spec.max_sequence_length} tokens of one prompt: erase its members one by one."
        )
    return text


def naming_prompts(concept: Concept) -> list[str]:
    """Few training prompts that name as much of a concept as there is to name.

    Returns:
        The one that names most phrases, the first of equals; of a composite concept, after it those that
        name most of what is left, until every phrase that a prompt names is there.
    """
    named = {
        prompt: {phrase for phrase in concept.phrases if names_phrase(prompt, phrase)}
        for prompt in concept.training_prompts
    }
    left, chosen = set(concept.phrases), list[str]()
    while not chosen or concept.members:
        best = max(named, key=lambda prompt: len(named[prompt] & left))
        if chosen and not named[best] & left:
            break
        chosen.append(best)
        left -= named[best]
    return chosen


def mentions(model: Model, phrases: Sequence[str], prompts: Sequence[str]) -> list[Tensor]:
    """Rows of every mention of a phrase in the captions of prompts, one [rows, D] float64 on the CPU each."""
    return [
        caption[start:end].double().cpu()
        for prompt, caption in zip(prompts, model.encode(prompts), strict=True)
        for phrase in phrases
        for start, end in model.token_span(prompt, phrase)
    ]


def prompt_tokens(model: Model, prompts: Sequence[str]) -> Tensor:
    """The prompts' own rows of their captions below each other, [N, D] float64 on the CPU."""
    captions = model.encode(prompts)
    parts = [caption[list(prompt_rows(model, p))] for p, caption in zip(prompts, captions, strict=True)]
    return torch.cat(parts).double().cpu()
