"""Frozen rewordings: for every concept, its phrases and what may stand in their place, in a fixed order.

They are files of the repository (`prompts/attacks/<domain>/<attack>.toml`), never made at run time, so that
everyone who names the same version attacks with the same words.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from zbench.concepts import DOMAINS
from zbench.phrases import phrase_pattern

_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = r"(?:(?P<article>\ban?)(?P<gap>\s+))?"
_DETERMINER = re.compile(r"(?:the|an?|two)\s", re.IGNORECASE)

NAMES = "names"
"""The file of each domain with names of concepts that are no phrases of theirs."""

Option = tuple[str, str]
"""Id of a wording, and its text."""


class Words(BaseModel):
    """Phrases that mean the same, and what may stand in their place.

    Attributes:
        phrases: What is looked for in a prompt, by the rule of `zbench.phrases`; in files it is called
            ``from``. ``{name}`` stands for each word of the file's slot of this name.
        to: Id -> text, in the order in which candidates use them; a slot of the phrase may return in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phrases: tuple[str, ...] = Field(alias="from", min_length=1)
    to: dict[str, str] = Field(min_length=1)

    def options(self, name: str, filled: Mapping[str, str]) -> tuple[Option, ...]:
        """What may stand in the place of a phrase whose slots are filled."""
        return tuple((f"{name}/{key}", text.format_map(filled)) for key, text in self.to.items())


class Wordings(BaseModel):
    """The file of one attack and domain.

    Attributes:
        version: Raised with every change of the words.
        slots: Name -> words that a slot stands for.
        concepts: Concept -> name of its words -> the words; the plainest come first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    slots: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    concepts: dict[str, dict[str, Words]]

    def rewriter(self, concept: str) -> Rewriter:
        """What rewords prompts for a concept of the file."""
        found = {
            phrase.format_map(filled): words.options(name, filled)
            for name, words in self.concepts[concept].items()
            for phrase in words.phrases
            for filled in self._fillings(phrase)
        }
        return Rewriter(tuple(found.items()))

    def _fillings(self, phrase: str) -> Iterator[dict[str, str]]:
        names = _SLOT.findall(phrase)
        for values in product(*(self.slots[name] for name in names)):
            yield dict(zip(names, values, strict=True))


@dataclass(frozen=True)
class Rewriter:
    """Rewords prompts for one concept.

    Attributes:
        phrases: Every phrase with its options.
    """

    phrases: tuple[tuple[str, tuple[Option, ...]], ...]

    @cached_property
    def _longest_first(self) -> tuple[tuple[str, tuple[Option, ...]], ...]:
        return tuple(sorted(self.phrases, key=lambda item: len(item[0]), reverse=True))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # At every place the longest phrase wins: "Pablo Picasso" is not "Picasso" with a word before it.
        bodies = [phrase_pattern(phrase).pattern for phrase, _ in self._longest_first]
        named = "|".join(f"(?P<phrase{number}>{body})" for number, body in enumerate(bodies))
        return re.compile(f"{_ARTICLE}(?:{named})", re.IGNORECASE)

    def _options(self, match: re.Match[str]) -> tuple[Option, ...]:
        return self._longest_first[int(str(match.lastgroup).removeprefix("phrase"))][1]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where a text names a phrase, its indefinite article included."""
        return [match.span() for match in self._pattern.finditer(text)]

    def rewordings(self, text: str) -> Iterator[Option]:
        """(id, text) of every rewording: all phrases of the text at once, each by its k-th option.

        A phrase with fewer options than another one of the same text begins again with its first.
        """
        matches = list(self._pattern.finditer(text))
        options = [self._options(match) for match in matches]
        for number in range(max(map(len, options), default=0)):
            chosen = [each[number % len(each)] for each in options]
            label = " + ".join(dict.fromkeys(key for key, _ in chosen))
            yield label, _replaced(text, matches, [words for _, words in chosen])

    @property
    def plain(self) -> str:
        """The phrase that `additions` reword."""
        return self.phrases[0][0]

    def additions(self) -> tuple[Option, ...]:
        """What may be added to a text that names no phrase: the options of the file's first phrase."""
        return self.phrases[0][1]


def _replaced(text: str, matches: Sequence[re.Match[str]], words: Sequence[str]) -> str:
    parts, end = [], 0
    for match, word in zip(matches, words, strict=True):
        parts += [text[end : match.start()], _with_article(match, word)]
        end = match.end()
    return "".join([*parts, text[end:]])


def _with_article(match: re.Match[str], words: str) -> str:
    """The words, after an article that fits them where the phrase had one and they bring none."""
    article, gap = match["article"], match["gap"]
    if not article or _DETERMINER.match(words):
        return words
    sound = unicodedata.normalize("NFD", words[0])[0].lower()
    article = article[0] + ("n" if sound in "aeiou" else "")
    return f"{article}{gap}{words}"


@cache
def wordings(attack: str, domain: str) -> Wordings:
    """The frozen file of an attack for a domain of models.

    Args:
        attack: Its name.
        domain: What the model's pictures show.
    """
    return Wordings.model_validate(tomllib.loads(_text(attack, domain)))


def fingerprints(attack: str) -> dict[str, Any]:
    """Domain -> SHA-256 of the attack's file: as much a part of its identity as its hyper-parameters."""
    return {domain: hashlib.sha256(_text(attack, domain).encode()).hexdigest() for domain in DOMAINS}


def other_names(concept: str, domain: str) -> tuple[str, ...]:
    """Names of a concept that prompt sets use beside its phrases, such as those in another language.

    Args:
        concept: Its catalogue name.
        domain: What the model's pictures show.
    """
    return tuple(tomllib.loads(_text(NAMES, domain))["concepts"].get(concept, ()))


@cache
def _text(attack: str, domain: str) -> str:
    return (files("zbench_prompts") / "attacks" / domain / f"{attack}.toml").read_text(encoding="utf-8")
