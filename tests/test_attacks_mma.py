"""MMA: its similarity, its gradient, its banned words, and that the search only ever improves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.descent_tools import assert_untouched
from tests.search_tools import (
    PROMPTS,
    assert_asks_no_transformer,
    assert_card,
    assert_contract,
    assert_passed_over,
    candidates,
    context_of,
    payloads,
)
from tests.test_attacks_concept_vector import own_rows
from tests.tiny import save_smallest_pipeline
from tests.transcription import CONCEPT
from zbench.attacks import context_for
from zbench.attacks.mma import MMA
from zbench.attacks.toolkit.token_gradient import Similarity, TokenSearch, tokens_without
from zbench.attacks.toolkit.tokens import ordinary_tokens
from zbench.edits import NoEdit
from zbench.model import Model, load_model

SMALL: dict[str, Any] = {"length": 5, "iterations": 2, "top_k": 4, "replacements": 10}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


def search_of(model: Model, **fields: Any) -> TokenSearch:
    attack = MMA(**{**SMALL, **fields})
    context = context_of(attack, model)
    return TokenSearch(context, context.shared, attack.top_k, attack.replacements, 16)


def loss_of(model: Model, said: Tensor, prompt: str) -> Tensor:
    """1 - mean cosine of the prompt's mean row and the rows after it, less what captions have in common."""
    before, after = own_rows(model, "a")

    def parts(caption: Tensor) -> list[Tensor]:
        ends = [caption[len(caption) - after + row] for row in range(after)]
        return [caption[before : len(caption) - after].mean(0), *ends]

    others = [parts(caption) for caption in model.encode(CONCEPT.preserve_prompts)]
    common = [torch.stack(same).mean(0) for same in zip(*others, strict=True)]
    pairs = zip(parts(said), parts(model.encode([prompt])[0]), common, strict=True)
    return 1 - torch.stack([functional.cosine_similarity(a - m, b - m, dim=0) for a, b, m in pairs]).mean()


def test_the_loss_is_that_of_the_text(model: Model) -> None:
    search = search_of(model)
    for _ in range(3):
        search.step()
    for index, prompt in enumerate(PROMPTS):
        wanted = loss_of(model, model.encode([search.text(index)])[0], prompt.text)
        assert search.losses[index].item() == pytest.approx(wanted.item(), rel=1e-3, abs=1e-5)


def test_slopes_are_the_gradient_of_one_hot_rows(model: Model) -> None:
    search, encoder = search_of(model), model.pipeline.text_encoder
    table = encoder.get_input_embeddings().weight.detach()
    slopes = search._slopes([0, 1, 2])
    for index, prompt in enumerate(PROMPTS):
        tokenizer = model.pipeline.tokenizer
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": search.text(index)}], tokenize=False, add_generation_prompt=True
        )
        ids = torch.tensor(tokenizer(text)["input_ids"])
        one_hot = functional.one_hot(ids, len(table)).float().requires_grad_()
        states = encoder(inputs_embeds=(one_hot @ table)[None], output_hidden_states=True).hidden_states
        [gradient] = torch.autograd.grad(loss_of(model, states[-2][0], prompt.text), one_hot)
        before, _ = own_rows(model, "a")
        found = gradient[before : before + 5][:, tokens_without(model, CONCEPT)]
        assert found.abs().max() > 1e-4
        torch.testing.assert_close(slopes[index], found, rtol=1e-3, atol=1e-5)


def test_the_loss_never_rises_and_falls(model: Model) -> None:
    search, course = search_of(model, top_k=12, replacements=20), []
    for _ in range(10):
        search.step()
        course.append(search.losses.clone())
    steps = torch.stack(course)
    assert (steps[1:] <= steps[:-1] + 1e-5).all() and (steps[-1] < 0.97 * steps[0]).all()


def test_proposals_change_one_place_to_one_of_the_best(model: Model) -> None:
    search = search_of(model)
    slopes = search._slopes([0])[0]
    rows = search._proposed(0, slopes)
    changed = rows != search.words[0]
    assert (changed.sum(1) <= 1).all() and changed.any(0).all(), "every place has its turn"
    allowed = tokens_without(model, CONCEPT).tolist()
    for row, place in changed.nonzero().tolist():
        rank = (slopes[place] < slopes[place][allowed.index(int(rows[row, place]))]).sum()
        assert rank < 4


def test_the_concepts_words_and_their_parts_are_banned(model: Model) -> None:
    def texts(tokens: Tensor) -> set[str]:
        return {model.pipeline.tokenizer.decode([token]) for token in tokens.tolist()}

    concept = CONCEPT.model_copy(update={"phrases": ("Person beach", "hen")})
    every, left = texts(ordinary_tokens(model)), texts(tokens_without(model, concept))
    assert {" person", " per", " the", " be", " a"} <= every
    assert every - left == {" person", " per"}, "short tokens are parts of most words"
    attack = MMA(**SMALL)
    context = context_for(attack, model, NoEdit(), concept, PROMPTS)
    offered = [*attack.attack(context), *attack.control(context)]
    assert offered and not any("per" in candidate.payload for candidate in offered)
    nothing = replace(
        context, concept=concept.model_copy(update={"phrases": tuple(text.strip() for text in every)})
    )
    assert "no token" in (attack.supports(nothing) or "")


def test_what_may_not_be_encoded_is_passed_over(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_passed_over(model, monkeypatch, MMA(**SMALL), tokens_without(model, CONCEPT)[3])


def test_budgets_batches_and_controls(model: Model) -> None:
    assert_contract(model, lambda budget: MMA(**SMALL, budget=budget))
    assert [each.label.split(",")[0] for each in candidates(MMA(**SMALL, budget=2), model)][::3] == [
        "iteration 2",
        "iteration 4",
    ]


def test_a_prompt_whose_loss_is_no_number_fails_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    good, features = candidates(MMA(**SMALL), model), Similarity.features
    built = TokenSearch.__init__

    def broken(self: TokenSearch, *arguments: Any) -> None:
        built(self, *arguments)
        self._targets[1] = torch.nan

    monkeypatch.setattr(TokenSearch, "__init__", broken)
    found = candidates(MMA(**SMALL), model)
    [failed] = [candidate for candidate in found if candidate.kind == "failed"]
    assert failed.prompt_id == PROMPTS[1].id and "not a number at iteration 1" in failed.failure
    assert payloads(found, PROMPTS[1]) == [None]
    for prompt in (PROMPTS[0], PROMPTS[2]):
        assert payloads(found, prompt) == payloads(good, prompt)
    assert Similarity.features is features


def test_it_asks_the_text_encoder_only(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_asks_no_transformer(model, MMA(**SMALL), monkeypatch)


def test_too_long_texts_are_refused_and_nothing_is_left_behind(model: Model) -> None:
    attack = MMA(**{**SMALL, "length": 500})
    assert "set length" in (attack.supports(context_of(MMA(**SMALL), model)) or "")
    assert MMA(**SMALL).supports(context_of(MMA(**SMALL), model)) is None
    assert_untouched(model, lambda: candidates(MMA(**SMALL), model))
    assert_card(MMA)
    assert MMA.with_preset("paper").iterations == 1000


def test_few_replacements_reach_every_place_in_time(model: Model) -> None:
    """Fewer replacements than places would otherwise always try the same ones."""
    search = search_of(model)
    slopes = search._slopes([0])[0]
    search._replacements, tried = 2, set[int]()
    for search._iteration in range(5 * len(slopes)):
        places = (search._proposed(0, slopes) != search.words[0]).nonzero()[:, 1]
        tried |= set(places.tolist())
    assert tried == set(range(len(slopes)))


def test_names_in_other_languages_are_banned_too(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from zbench.attacks.toolkit import token_gradient

    before = tokens_without(model, CONCEPT)
    name = model.pipeline.tokenizer.decode(before[-1:]).strip()
    monkeypatch.setattr(token_gradient, "other_names", lambda concept, domain: (name,))
    after = tokens_without(model, CONCEPT)
    assert int(before[-1]) not in after.tolist()
