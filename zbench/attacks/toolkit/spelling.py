"""The rule by which typos and affixes were made, once: what attacks read are the files that it has written.

`python -m zbench.attacks.toolkit.spelling prompts` writes `prompts/attacks/<domain>/{typo,affix}.toml` anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from zbench.attacks.toolkit.wordings import other_names
from zbench.concepts import DOMAINS, concept_names, load_concept
from zbench.phrases import names_phrase
from zbench.store import atomic_write_text

VERSION = 1

_LOOK_ALIKE = {"a": "4", "e": "3", "i": "1", "l": "1", "o": "0", "s": "5", "u": "v"}
# Chinese signs and the variant (mostly the traditional form) that a reader takes for the same.
_VARIANTS = dict(
    zip(
        "裸剑教球车飞塔铅笔鞋猫鱼毕莫伦雷高绿拥握爆伤脸纸鸟拉宾尔鲁苏凯由佩披",
        "祼劍敎毬車飛墖鉛筆鞵貓魚畢茣倫畾髙緑擁幄瀑傷臉紙鳥啦賓爾魯蘇凱甴珮柀",
        strict=True,
    )
)


def misspellings(phrase: str) -> dict[str, str]:
    """Id -> the phrase with one slip in its longest word, as a reader would still understand it.

    Every slip is at most two insertions, deletions, replacements or swaps of neighbours away.
    """
    return _kept(
        phrase,
        {
            "doubled": lambda word: word[: _middle(word)] + word[_middle(word)] + word[_middle(word) :],
            "swapped": _swapped,
            "dropped": _dropped,
            "look-alike": _look_alike,
            "stretched": lambda word: re.sub(r"([aeiou])(?!.*[aeiou])", r"\1\1\1", word),
        },
    )


def affixed(phrase: str) -> dict[str, str]:
    """Id -> the phrase with a meaningless beginning or end at its longest word, which stays whole."""
    rules: dict[str, Callable[[str], str]] = {
        "suffix-double": lambda word: word + word[-1],
        "prefix-double": lambda word: word[0] + word,
    }
    latin: dict[str, Callable[[str], str]] = {
        # No "s": a plural is a word that everybody knows.
        "suffix-x": lambda word: f"{word}x",
        "prefix-x": lambda word: f"x{word}",
        "suffix-like": lambda word: f"{word}like",
    }
    chinese: dict[str, Callable[[str], str]] = {
        "suffix-er": lambda word: f"{word}儿",
        "prefix-a": lambda word: f"阿{word}",
    }
    return _kept(phrase, rules | (latin if phrase.isascii() else chinese))


def _kept(phrase: str, rules: Mapping[str, Callable[[str], str]]) -> dict[str, str]:
    """What the rules make of the longest word, without what changes nothing or was made before."""
    word = max(phrase.split(), key=len)
    made: dict[str, str] = {}
    for name, rule in rules.items():
        changed = phrase.replace(word, rule(word))
        if changed != phrase and changed not in made.values():
            made[name] = changed
    return made


def _middle(word: str) -> int:
    return len(word) // 2


def _swapped(word: str) -> str:
    """Two neighbours change places, those nearest to the middle that differ; first and last letters stay."""
    if len(word) < (4 if word.isascii() else 3):
        return word  # "gnu" is no slip of "gun", nor is "血流" one of "流血"
    edge = 1 if word.isascii() else 0
    places = [n for n in range(edge, len(word) - 1 - edge) if word[n] != word[n + 1]]
    if not places:
        return word
    place = min(places, key=lambda n: (abs(n - _middle(word)), n))
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _dropped(word: str) -> str:
    """Without a letter behind the first, a vowel if there is one; short words keep all."""
    if len(word) < 5:
        return word  # "she" is no slip of "shoe"
    vowels = [n for n in range(1, len(word) - 1) if word[n] in "aeiou"]
    place = vowels[-1] if vowels else _middle(word)
    return word[:place] + word[place + 1 :]


def _look_alike(word: str) -> str:
    """The last letter that has a digit's or a variant's shape gives way to it."""
    for place in reversed(range(len(word))):
        other = _LOOK_ALIKE.get(word[place]) or _VARIANTS.get(word[place])
        if other:
            return word[:place] + other + word[place + 1 :]
    return word


def frozen(domain: str, rule: Callable[[str], dict[str, str]]) -> str:
    """The text of a domain's file: what a rule makes of every name of every concept."""
    lines = [f"# Made by the rule of zbench/attacks/toolkit/spelling.py and frozen.\nversion = {VERSION}"]
    for concept in concept_names(domain):
        names = (*load_concept(concept, domain).phrases, *other_names(concept, domain))
        for name in names:
            # "Salvador Daali", not "Salvadoor Dali": a longer name must not keep a shorter one as it is.
            core = min((each for each in names if names_phrase(name, each)), key=len)
            made = {key: name.replace(core, text) for key, text in rule(core).items()}
            lines.append(_table(concept, name, made))
    return "\n\n".join(lines) + "\n"


def _table(concept: str, name: str, to: Mapping[str, str]) -> str:
    words = ", ".join(f"{key} = {_quoted(text)}" for key, text in to.items())
    title = f"[concepts.{concept}.{_quoted(name.lower().replace(' ', '-'))}]"
    return f"{title}\nfrom = [{_quoted(name)}]\nto = {{ {words} }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def write(folder: Path) -> None:
    """Writes the files of both attacks.

    Args:
        folder: The `prompts/` folder of the repository.
    """
    for domain in DOMAINS:
        for attack, rule in (("typo", misspellings), ("affix", affixed)):
            atomic_write_text(folder / "attacks" / domain / f"{attack}.toml", frozen(domain, rule))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
