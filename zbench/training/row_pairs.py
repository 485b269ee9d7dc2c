"""Which rows of a concept prompt go to which rows of its anchor prompt, for closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zbench.model.rows import padded
from zbench.model.spans import apply_template
from zbench.training.attention import concept_columns

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model

Pair = tuple[list[int], list[int]]
"""Token rows of a concept prompt, and the rows of its anchor prompt that they are mapped to."""


def concept_row_pairs(model: Model, concept: Concept, *, onward: bool) -> list[Pair]:
    """The concept's own rows, paired from the end of the prompts.

    Args:
        model: Whose tokenizer and text encoder count the rows.
        concept: Its training prompts and its anchor prompts are paired one for one.
        onward: Take every row from the concept's first one on, since in a causal text encoder every later
            token knows of it.

    Returns:
        One pair per training prompt, empty where no phrase is named.
    """
    captions = model.encode(list(concept.training_prompts)), model.encode(list(concept.anchor_prompts))
    pairs: list[Pair] = []
    for prompt, caption, anchor in zip(concept.training_prompts, *captions, strict=True):
        rows = concept_columns(model, concept, prompt)
        if rows and onward:
            rows = list(range(rows[0], len(caption)))
        # The words after the concept agree, so rows are paired from the end. A concept longer than its
        # anchor maps its first rows to the row before it, the last one that both prompts share.
        shift = len(anchor) - len(caption)
        guides = [min(max(row + shift, rows[0] - 1), len(anchor) - 1) for row in rows]
        pairs.append((rows, guides))
    return pairs


def context_row_pairs(model: Model, concept: Concept, *, whole: bool = False) -> list[Pair]:
    """Words that stand beside the concept, each with itself in the anchor prompt (MACE, section 3.1).

    Such are the tokens in which both prompts begin and those in which both end, those of the chat template
    and the rows of padding after them included.

    Args:
        model: Whose tokenizer splits the prompts.
        concept: Its training prompts and its anchor prompts are paired one for one.
        whole: Take the concept's own rows as well; they go to the anchor's, paired from the end.

    Returns:
        One pair per training prompt, empty where no phrase is named.
    """
    pairs: list[Pair] = []
    for prompt, anchor in zip(concept.training_prompts, concept.anchor_prompts, strict=True):
        named = set(concept_columns(model, concept, prompt))
        found = _aligned(_tokens(model, prompt), _tokens(model, anchor), whole)
        chosen = [(row, guide) for row, guide in found if named and (whole or row not in named)]
        pairs.append(([row for row, _ in chosen], [guide for _, guide in chosen]))
    return pairs


def _tokens(model: Model, prompt: str) -> list[int]:
    tokenizer = model.pipeline.tokenizer
    text = apply_template(tokenizer, prompt)
    ids: list[int] = tokenizer(text, max_length=model.spec.max_sequence_length, truncation=True)["input_ids"]
    return ids


def _aligned(tokens: list[int], others: list[int], whole: bool) -> list[tuple[int, int]]:
    """Rows and counterparts: equal heads, equal tails with padding after them, what is between if whole."""
    head = _agreement(tokens, others)
    tail = _agreement(tokens[head:][::-1], others[head:][::-1])
    shift, start = len(others) - len(tokens), len(tokens) - tail
    between = [(row, max(row + shift, head - 1)) for row in range(head, start)] if whole else []
    after = [(row, row + shift) for row in range(start, padded(len(tokens)))]
    kept = [(row, guide) for row, guide in after if guide < padded(len(others))]
    return [(row, row) for row in range(head)] + between + kept


def _agreement(left: list[int], right: list[int]) -> int:
    """Length of the beginning that two sequences share."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(left), len(right)))
