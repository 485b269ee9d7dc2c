import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transcription import CONCEPT
from zbench import training
from zbench.model import Model
from zbench.training import candidates
from zbench.training.candidates import (
    align,
    caption_features,
    related_words,
    similarity,
    template_rows,
    vocabulary_words,
)


class Tokens:
    """A vocabulary of given texts that counts how often it was asked."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.asked = texts, 0

    def __len__(self) -> int:
        return len(self.texts)

    def decode(self, ids: list[int]) -> str:
        self.asked += 1
        return self.texts[ids[0]]


def test_vocabulary_is_whole_words_each_once_in_order() -> None:
    texts = ["!", " the", "cat", " Cat", " cat", " of", " x1", " red-", " 猫猫猫", " dog", "  ", " bird"]
    assert vocabulary_words(Tokens(texts), 100) == ["the", "cat", "猫猫猫", "dog", "bird"]
    assert vocabulary_words(Tokens(texts), 2) == ["the", "cat"]


def test_a_large_vocabulary_costs_no_more_than_the_words_asked_for() -> None:
    letters = [chr(ord("a") + index) for index in range(26)]
    large = Tokens([f" w{a}{b}{c}" for a in letters for b in letters for c in letters] * 8)
    assert len(large) > 140_000
    assert len(vocabulary_words(large, 50)) == 50
    assert large.asked == 50


def test_template_rows_are_what_all_captions_share(tiny_model: Model) -> None:
    before, after = template_rows(tiny_model)
    for prompt in ("a", "a red car", "beach"):
        start, end = tiny_model.token_span(prompt, prompt)[0]
        assert (start, len(tiny_model.encode([prompt])[0]) - end) == (before, after)


def test_row_0_knows_nothing_of_the_word_and_features_do(tiny_model: Model) -> None:
    """The Z-Erase port compares position 0 of a causal encoder: every word is equally similar there."""
    car, beach = tiny_model.encode(["a car", "a beach"])
    torch.testing.assert_close(car[0], beach[0], rtol=1e-4, atol=1e-5)
    features = caption_features(tiny_model, ["a car", "a beach"])
    assert float((features[0] - features[1]).abs().max()) > 0.01


def test_a_word_is_closest_to_itself(tiny_model: Model) -> None:
    texts = ["a car", "a beach", "a house", "a tree"]
    closeness = similarity(tiny_model, texts, ["a house"])
    assert closeness.argmax() == 2 and float(closeness[2]) == pytest.approx(1.0, abs=1e-5)
    assert float(closeness.min()) < 0.5, "centred: the template's share is taken out"


def test_related_words_leave_out_the_concept_and_minors(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["nude", "nudes", "nak", "child", "beach", "car", "house", "tree", "rain"]
    monkeypatch.setattr(candidates, "vocabulary_words", lambda tokenizer, limit: words)
    found = related_words(tiny_model, CONCEPT, vocabulary=9, closest=9, count=9)
    assert sorted(found) == ["a beach", "a car", "a house", "a rain", "a tree"]
    ranked = similarity(tiny_model, found, ["a nude", "a naked"])
    assert ranked.tolist() == sorted(ranked.tolist(), reverse=True)
    assert related_words(tiny_model, CONCEPT, vocabulary=9, closest=5, count=1) == [found[2]]
    assert related_words(tiny_model, CONCEPT, vocabulary=9, closest=1, count=3) == [found[0]]
    monkeypatch.setattr(candidates, "vocabulary_words", lambda tokenizer, limit: ["nude"])
    assert related_words(tiny_model, CONCEPT, vocabulary=9, closest=9, count=9) == []


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))
def test_alignment_keeps_the_template_and_the_order(before: int, after: int, own: int, wanted: int) -> None:
    caption = torch.arange(before + own + after)[:, None]
    rows = align(caption, before + wanted + after, (before, after))[:, 0].tolist()
    assert len(rows) == before + wanted + after and rows == sorted(rows)
    assert rows[:before] == list(range(before))
    assert rows[len(rows) - after :] == list(range(before + own, before + own + after))
    assert set(rows[before : before + wanted]) <= set(range(before, before + own))
    if wanted >= own:
        assert set(rows) == set(range(len(caption))), "a longer caption repeats rows and loses none"


def mixture_over(model: Model, prompts: list[str], **settings: float) -> training.CaptionMixture:
    bank = training.TrajectoryBank.sample(model, prompts, list(range(len(prompts))), batch_size=4)
    values = {"temperature": 2.0, "learning_rate": 0.2, **settings}
    return training.CaptionMixture(bank, template_rows(model), generator=training.generator(3), **values)


PROMPTS = ["a car", "a red car beside a house", "a beach", "an apple and a tree in the rain"]


def test_mixture_finds_a_planted_caption(tiny_model: Model) -> None:
    """A loss that grows along one caption, whichever was drawn, makes that one the likeliest."""
    mixture = mixture_over(tiny_model, PROMPTS)
    start = mixture.entropy()
    planted = tiny_model.encode([PROMPTS[3]])[0]
    mean = torch.stack([caption[-3:].mean(0) for caption in tiny_model.encode(PROMPTS)]).mean(0)
    for _ in range(60):
        draw, weights = mixture.draw(2)
        gradients = [
            align(planted - mean, len(caption), template_rows(tiny_model)) for caption in draw.embeddings
        ]
        mixture.ascend(weights, gradients)
    assert mixture.logits.argmax() == 3
    assert mixture.entropy() < start == pytest.approx(torch.log(torch.tensor(4.0)).item())


def test_draws_follow_the_logits(tiny_model: Model) -> None:
    mixture = mixture_over(tiny_model, PROMPTS)
    with torch.no_grad():
        mixture.logits.copy_(torch.tensor([0.0, 2.0, 0.0, -30.0]))
    counts = torch.bincount(mixture.draw(4000)[0].entries, minlength=4) / 4000
    expected = torch.tensor([0.0, 2.0, 0.0, -30.0]).softmax(0)
    assert float((counts - expected).abs().max()) < 0.03, "a hard Gumbel draw is one from softmax(pi)"


def test_a_drawn_point_lies_on_its_own_captions_trajectory(tiny_model: Model) -> None:
    """The Z-Erase port pairs finished samples with any t (defect D12 of the reference dossier)."""
    mixture = mixture_over(tiny_model, PROMPTS)
    draw, _ = mixture.draw(8)
    live = tiny_model.velocity(draw.latents, draw.timesteps, draw.embeddings)
    torch.testing.assert_close(live, draw.velocities, rtol=1e-3, atol=1e-3)
    finished = tiny_model.timesteps()[draw.steps]
    assert torch.equal(draw.timesteps, finished) and float(draw.timesteps.min()) > 0
    noisy = mixture.draw(64)[0]
    first = noisy.steps == 0
    noise = torch.stack([tiny_model.noise([int(entry)])[0] for entry in noisy.entries[first]])
    assert bool(first.any()) and torch.equal(noisy.latents[first], noise)
