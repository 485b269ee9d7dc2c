from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from zbench.training import shuffle_words, split_words

WORDS = st.lists(st.sampled_from(["a", "Van  Gogh", "van gogh,", "house", "huge", "gogh", "red"]), min_size=1)


def test_phrases_stay_whole_in_any_case_and_with_punctuation() -> None:
    prompt = "a Golden Gate  Bridge, painted by VAN GOGH at night"
    assert split_words(prompt, ("van gogh", "golden gate bridge", "golden")) == [
        "a",
        "Golden Gate  Bridge,",
        "painted",
        "by",
        "VAN GOGH",
        "at",
        "night",
    ]


def test_a_phrase_inside_a_word_does_not_split_it() -> None:
    assert split_words("a huge hug", ("hug",)) == ["a", "huge", "hug"]


def test_text_without_spaces_stays_as_it_is() -> None:
    assert split_words("一个裸体的人在海滩上", ("裸体",)) == ["一个裸体的人在海滩上"]


@given(words=WORDS, seed=st.integers(0, 10_000))
def test_shuffling_permutes_words_and_keeps_phrases(words: list[str], seed: int) -> None:
    prompt = " ".join(words)
    shuffled = shuffle_words(prompt, ("van gogh",), torch.Generator().manual_seed(seed))
    assert Counter(split_words(shuffled, ("van gogh",))) == Counter(split_words(prompt, ("van gogh",)))
    assert Counter(shuffled.split()) == Counter(prompt.split())


def test_word_order_does_change() -> None:
    prompt = "a nude person on a beach at night"
    orders = {shuffle_words(prompt, ("nude",), torch.Generator().manual_seed(seed)) for seed in range(20)}
    assert len(orders) > 10
