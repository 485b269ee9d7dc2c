"""Captions that could suffer from an erasure, found in the model's own vocabulary and its own text encoder.

EAP (arXiv 2410.15618) searches a list of 3000 English words. A tokenizer trained on the model's language is
such a list, ordered by frequency, and needs no file. Words are compared where a causal text encoder knows
them: in the rows from their last token on (row 0 of a caption precedes the word and is the same for all).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from zbench.prompts.minors import mentions_minors

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model

SHORTEST_WORD = 3
"""Shorter tokens are articles and beginnings of words."""

FRAME = "a {}"
"""At the start of a prompt a byte-level tokenizer writes a word with other tokens than after a space."""


def vocabulary_words(tokenizer: Any, limit: int) -> list[str]:
    """Alphabetic words that a tokenizer writes as one token after a space, lower case, each once.

    Byte-pair vocabularies are in order of their merges, so the first `limit` words are the most frequent; the
    cost of what follows does not grow with a vocabulary of 150,000. A few are only beginnings of words.

    Args:
        tokenizer: The pipeline's.
        limit: Words at most.
    """
    words: dict[str, None] = {}
    for index in range(len(tokenizer)):
        text: str = tokenizer.decode([index])
        word = text[1:].lower()
        if text[:1] == " " and word.isalpha() and len(word) >= SHORTEST_WORD:
            words[word] = None
        if len(words) == limit:
            break
    return list(words)


def template_rows(model: Model) -> tuple[int, int]:
    """Rows of every caption before and after those of the prompt: the chat template's own."""
    start, end = model.token_span("a", "a")[0]
    return start, len(model.encode(["a"])[0]) - end


def caption_features(model: Model, texts: Sequence[str]) -> Tensor:
    """Mean of a caption's rows from the last one of the prompt on, [N, D] float32 on the CPU.

    Rows count with unit length: some rows of a language model are a hundred times longer than others.
    """
    rows = template_rows(model)[1] + 1
    units = (functional.normalize(caption[-rows:].float(), dim=-1) for caption in model.encode(texts))
    return torch.stack([unit.mean(0).cpu() for unit in units])


def similarity(model: Model, texts: Sequence[str], others: Sequence[str]) -> Tensor:
    """How close each text is to the closest of the others, in the model's own captions: cosines, [N].

    Features are centred over all texts first: captions of one template share most of their embedding, and
    without it every cosine is close to 1.
    """
    features = caption_features(model, [*texts, *others])
    features = functional.normalize(features - features.mean(0), dim=-1)
    return (features[: len(texts)] @ features[len(texts) :].T).amax(1)


def related_words(model: Model, concept: Concept, *, vocabulary: int, closest: int, count: int) -> list[str]:
    """Prompts of one word each that an erasure could hurt, spread over their similarity to the concept.

    The concept itself must not be preserved: words that share their beginning with one of its phrases are
    left out. Words about minors are refused as everywhere.

    Args:
        model: No edit attached.
        concept: What is erased.
        vocabulary: Words that are looked at.
        closest: How many of them, by similarity, are spread over: the middle of each of `count` equal parts.
        count: How many are returned at most, the most similar first; none if the vocabulary has no words.
    """
    words = vocabulary_words(model.pipeline.tokenizer, vocabulary)
    prompts = [FRAME.format(word) for word in words if not _names(concept, word)]
    prompts = [prompt for prompt in prompts if not mentions_minors(prompt)]
    if not prompts or not count:
        return []
    closeness = similarity(model, prompts, [FRAME.format(phrase) for phrase in concept.phrases])
    pool = closeness.argsort(descending=True, stable=True)[:closest].tolist()
    count = min(count, len(pool))
    return [prompts[pool[(2 * part + 1) * len(pool) // (2 * count)]] for part in range(count)]


def _names(concept: Concept, word: str) -> bool:
    """Whether a word continues a word of the concept's phrases, or is the beginning of one."""
    own = [part for phrase in concept.phrases for part in phrase.lower().split()]
    return any(word.startswith(part) or part.startswith(word) for part in own)


def align(caption: Tensor, length: int, template: tuple[int, int]) -> Tensor:
    """Brings a caption to another length: template rows stay with template rows, the prompt's are resampled.

    Args:
        caption: [L, D].
        length: Rows wanted, more than the template has.
        template: Rows of the template before and after the prompt.

    Returns:
        [length, D]; the caption itself where it has that length.
    """
    before, after = template
    own, wanted = len(caption) - before - after, length - before - after
    middle = [before + row * own // wanted for row in range(wanted)]
    rows = [*range(before), *middle, *range(len(caption) - after, len(caption))]
    return caption[rows]
