"""When a text names a phrase: one rule for concepts, methods, edits and prompts, without torch."""

from __future__ import annotations

import re

from zbench.errors import ConfigurationError

UNSPACED = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Ranges of the scripts written without spaces: a phrase in one of them needs no word boundary around it."""

_WORD = f"[^\\W{UNSPACED}]"


def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """A pattern for whole occurrences of a phrase: any case, any white space between its words.

    Raises:
        ConfigurationError: The phrase has no words.
    """
    words = phrase.split()
    if not words:
        raise ConfigurationError("An empty phrase has no place in a prompt; give the words to look for.")
    body = r"\s+".join(re.escape(word) for word in words)
    before = f"(?<!{_WORD})" if re.match(_WORD, words[0]) else ""
    after = f"(?!{_WORD})" if re.match(_WORD, words[-1][-1]) else ""
    return re.compile(before + body + after, re.IGNORECASE)


def names_phrase(text: str, phrase: str) -> bool:
    """Whether a text names a phrase, as whole words: "huge" does not name "hug".

    Raises:
        ConfigurationError: The phrase has no words.
    """
    return phrase_pattern(phrase).search(text) is not None
