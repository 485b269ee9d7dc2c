"""Where a phrase lies among the tokens of a templated prompt (D8: torn, first only, case-bound elsewhere)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny import tiny_tokenizer
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.model.spans import apply_template, token_spans

TOKENIZER = tiny_tokenizer()


def words_at(prompt: str, phrase: str) -> list[str]:
    """The text under each span."""
    ids = TOKENIZER(apply_template(TOKENIZER, prompt), max_length=200, truncation=True).input_ids
    return [TOKENIZER.decode(ids[a:b]) for a, b in token_spans(TOKENIZER, prompt, phrase, 200)]


@pytest.mark.parametrize(
    ("prompt", "phrase", "expected"),
    [
        ("a nude person", "nude", ["nude"]),
        ("A NUDE person, nude", "Nude", ["NUDE", "nude"]),
        ("in the style of Van Gogh", "van gogh", ["Van Gogh"]),
        ("the golden  gate bridge", "golden gate bridge", ["golden  gate bridge"]),
        ("nudels and denude", "nude", []),
        ("a nude, please", "nude", ["nude"]),
        ("nude", "nude", ["nude"]),
        ("一个裸体的人在海滩上", "裸体", ["裸体"]),
        ("一个nude的人", "nude", ["nude"]),
        ("a user and an assistant", "user", ["user"]),
        ("a red car", "assistant", []),
        ("", "nude", []),
        ("c++ (again)", "c++", ["c++"]),
    ],
)
def test_spans_cover_the_phrase(prompt: str, phrase: str, expected: list[str]) -> None:
    found = words_at(prompt, phrase)
    assert len(found) == len(expected)
    for text, wanted in zip(found, expected, strict=True):
        assert wanted in text and len(text.strip(" ,")) <= len(wanted)


def test_span_indexes_what_encode_returns(tiny_model: Model) -> None:
    prompt = "a red car beside a nude person"
    (span,) = tiny_model.token_span(prompt, "nude")
    changed = tiny_model.encode([prompt.replace("nude", "zzz")])[0]
    same = tiny_model.encode([prompt])[0]
    before = slice(0, span[0])
    assert (same[before] - changed[before]).abs().max() < 1e-5
    assert (same[span[0]] - changed[span[0]]).abs().max() > 1e-3
    assert span[1] <= len(same)


def test_phrase_beyond_the_token_limit_is_absent() -> None:
    prompt = "house " * 40 + "nude"
    assert token_spans(TOKENIZER, prompt, "nude", 30) == []
    assert len(token_spans(TOKENIZER, prompt, "nude", 400)) == 1


def test_empty_phrase_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="empty phrase"):
        token_spans(TOKENIZER, "a", "  ", 64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(st.sampled_from(["a", "red", "person,", "海滩", "über", "🙂", "user"]), max_size=6),
    after=st.lists(st.sampled_from(["in", "rain.", "人", "house"]), max_size=4),
    phrase=st.sampled_from(["nude", "Van Gogh", "裸体", "golden gate bridge"]),
    times=st.integers(0, 3),
)
def test_every_occurrence_is_found_once(before: list[str], after: list[str], phrase: str, times: int) -> None:
    prompt = " ".join([*before, *[phrase.upper(), "and"] * times, *after])
    found = words_at(prompt, phrase)
    assert len(found) == times
    assert all(phrase.upper() in text for text in found)
