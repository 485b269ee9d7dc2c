"""What a text encoder makes of a concept's phrases: one caption for all, or their places in prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zbench.edits.projection import prompt_rows
from zbench.errors import ConfigurationError

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
            for models that know sentences only.

    Raises:
        ConfigurationError: See `phrase_list`.
    """
    if wording == "phrases":
        return phrase_list(model, concept)
    phrases = [phrase.lower() for phrase in concept.phrases]
    named = [sum(phrase in prompt.lower() for phrase in phrases) for prompt in concept.training_prompts]
    return concept.training_prompts[named.index(max(named))]


def phrase_list(model: Model, concept: Concept) -> str:
    """The concept's phrases as one prompt, the way negative prompts are written: with commas between them.

    Raises:
        ConfigurationError: The model truncates so long a prompt, which would drop phrases silently.
    """
    text = ", ".join(concept.phrases)
    if not all(model.token_span(text, phrase) for phrase in concept.phrases):
        raise ConfigurationError(
            f"The {len(concept.phrases)} phrases of {concept.name!r} do not fit into the "
            f"{model.spec.max_sequence_length} tokens of one prompt: erase its members one by one."
        )
    return text


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
