"""Where the words of a phrase lie among the tokens of a templated prompt."""

from __future__ import annotations

from typing import Any

from zbench.errors import ConfigurationError
from zbench.phrases import phrase_pattern

_MARK = "\u2983zbench\u2984"


def apply_template(tokenizer: Any, prompt: str) -> str:
    """Wraps a prompt in the chat template exactly as `ZImagePipeline` does."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    return text


def token_spans(tokenizer: Any, prompt: str, phrase: str, max_length: int) -> list[tuple[int, int]]:
    """Half-open token spans of every occurrence of a phrase in a templated prompt.

    Args:
        tokenizer: The pipeline's fast tokenizer with its chat template.
        prompt: The user's prompt, without template.
        phrase: One or several words, in any language.
        max_length: Tokens after which the pipeline truncates.

    Returns:
        Spans (start, end) into the sequence that `Model.encode` returns, in order; empty when the phrase is
        absent or was truncated away. A token that also holds a neighbouring character counts.
    """
    text = apply_template(tokenizer, prompt)
    start = prompt_start(tokenizer, text, prompt)
    found = [(start + m.start(), start + m.end()) for m in phrase_pattern(phrase).finditer(prompt)]
    if not found:
        return []
    encoded = tokenizer(text, max_length=max_length, truncation=True, return_offsets_mapping=True)
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    spans = [_cover(offsets, begin, end) for begin, end in found]
    return [span for span in spans if span is not None]


def prompt_start(tokenizer: Any, text: str, prompt: str) -> int:
    """Where the prompt begins in the templated text; found by a marker: the template may repeat its words."""
    start = apply_template(tokenizer, _MARK).find(_MARK)
    if start < 0 or not text.startswith(prompt, start):
        raise ConfigurationError("This chat template changes the prompt, so phrases cannot be located in it.")
    return start


def _cover(offsets: list[tuple[int, int]], begin: int, end: int) -> tuple[int, int] | None:
    """The tokens whose characters overlap [begin, end); special tokens of no width never do."""
    hits = [index for index, (a, b) in enumerate(offsets) if a < end and b > begin and b > a]
    return (hits[0], hits[-1] + 1) if hits else None
