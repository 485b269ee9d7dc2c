"""The rule that made typos and affixes: the frozen files are what it gives, and it makes no other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbench.attacks.toolkit.spelling import affixed, frozen, misspellings
from zbench.attacks.toolkit.wordings import wordings
from zbench.concepts import DOMAINS

PROMPTS = Path(__file__).parents[1] / "prompts"


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("name", "rule"), [("typo", misspellings), ("affix", affixed)])
def test_files_are_what_the_rule_gives(domain: str, name: str, rule: Any) -> None:
    assert (PROMPTS / "attacks" / domain / f"{name}.toml").read_text(encoding="utf-8") == frozen(domain, rule)


def test_no_rule_makes_another_word() -> None:
    """A plural, and two signs swapped ("血流" is a flow of blood), are words of their own."""
    assert not any(text.endswith("s") for text in affixed("car").values())
    assert "血流" not in misspellings("流血").values() and misspellings("流血")
    assert "swapped" in misspellings("毕加索"), "of three signs the slip is still seen as one"


def distance(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours that lead from a to b."""
    rows = [list(range(len(b) + 1))]
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right))
            if i > 1 and j > 1 and (left, a[i - 2]) == (b[j - 2], right):
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


@pytest.mark.parametrize("domain", DOMAINS)
def test_typos_are_slips_and_affixes_keep_the_word(domain: str) -> None:
    for groups in wordings("typo", domain).concepts.values():
        for words in groups.values():
            assert all(1 <= distance(words.phrases[0], text) <= 2 for text in words.to.values())
    for groups in wordings("affix", domain).concepts.values():
        for words in groups.values():
            word = max(words.phrases[0].split(), key=len)
            for text in words.to.values():
                assert any(part in text for part in words.phrases[0].split() if len(part) > 1) or word in text
                assert 1 <= len(text) - len(words.phrases[0]) <= 4


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=12))
def test_the_rule_changes_every_word_alike_each_time(word: str) -> None:
    assert all(1 <= distance(word, text) <= 2 for text in misspellings(word).values())
    assert misspellings(word) == misspellings(word) and word not in misspellings(word).values()
    assert all(word in text and text != word for text in affixed(word).values())
