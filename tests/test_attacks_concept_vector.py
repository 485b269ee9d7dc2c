"""Concept vectors: the equation row by row, guards, controls, and that it finds the concept where it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.descent_tools import assert_untouched
from tests.search_tools import (
    PROMPTS,
    Shift,
    assert_asks_no_transformer,
    assert_card,
    assert_contract,
    candidates,
    context_of,
    payloads,
)
from tests.tiny import save_smallest_pipeline
from tests.transcription import CONCEPT
from zbench.attacks import Context
from zbench.attacks.concept_vector import ConceptVector
from zbench.attacks.ring_a_bell import RingABell
from zbench.edits import NoEdit
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


def own_rows(model: Model, prompt: str) -> tuple[int, int]:
    """Rows of the template before a prompt and after it, counted by hand."""
    tokenizer = model.pipeline.tokenizer
    marked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "\u2983"}], tokenize=False, add_generation_prompt=True
    )
    before, after = marked.split("\u2983")
    return len(tokenizer(before)["input_ids"]), len(tokenizer(after)["input_ids"])


def expected(model: Model, length: int, pooled: bool) -> Tensor:
    """Direction c for a caption of `length` rows, row by row."""
    before, after = own_rows(model, "a")
    wanted, total = length - before - after, torch.zeros(length, model.encode(["a"])[0].shape[1])
    for shown, hidden in zip(CONCEPT.training_prompts, CONCEPT.anchor_prompts, strict=True):
        for prompt, sign in ((shown, 1), (hidden, -1)):
            caption = model.encode([prompt])[0]
            own = len(caption) - before - after
            for row in range(wanted):
                total[before + row] += sign * caption[before + row * own // wanted]
            for row in range(after):
                total[length - 1 - row] += sign * caption[len(caption) - 1 - row]
    mean = total / len(CONCEPT.training_prompts)
    if pooled:
        mean[before : before + wanted] = mean[before : before + wanted].mean(0)
    return mean


@pytest.mark.parametrize("spread", ["aligned", "pooled"])
def test_the_equation(tiny_model: Model, spread: str) -> None:
    attack = ConceptVector(strengths=(0.5, 2.0), spread=spread)
    found = candidates(attack, tiny_model)
    for prompt in PROMPTS:
        caption = tiny_model.encode([prompt.text])[0]
        c = expected(tiny_model, len(caption), spread == "pooled")
        assert c.abs().max() > 0.01
        for strength, payload in zip((0.5, 2.0), payloads(found, prompt), strict=True):
            torch.testing.assert_close(payload, caption + strength * c, rtol=1e-4, atol=1e-5)


def test_rows_before_the_prompt_stay_and_those_after_it_move(model: Model) -> None:
    before, after = own_rows(model, "a")
    [moved, *_] = payloads(candidates(ConceptVector(), model))
    change = (moved - model.encode([PROMPTS[0].text])[0]).norm(dim=1)
    assert (change[:before] < 1e-5).all() and (change[-after:] > 1e-3).all()


def test_the_erasures_guard_changes_the_caption_and_not_the_direction(model: Model) -> None:
    free, guarded = (payloads(candidates(ConceptVector(), model, edit)) for edit in (None, Shift()))
    for a, b in zip(free, guarded, strict=True):
        torch.testing.assert_close(b, a + 1)


def test_strengths_are_tried_in_their_order_up_to_the_budget(model: Model) -> None:
    attack = ConceptVector(strengths=(3.0, 1.0, 2.0), budget=2)
    assert [found.label for found in candidates(attack, model)[:: len(PROMPTS)]] == [
        "strength 3",
        "strength 1",
    ]
    assert len(candidates(ConceptVector(strengths=(3.0,), budget=4), model)) == len(PROMPTS)
    assert_contract(model, lambda budget: ConceptVector(budget=budget))
    with pytest.raises(ConfigurationError, match="budget"):
        ConceptVector.with_preset("miniature", budget=0)
    with pytest.raises(ConfigurationError, match="strengths"):
        ConceptVector.with_preset("miniature", strengths=(0.0,))


def test_the_control_goes_as_far_in_another_direction(model: Model) -> None:
    attack = ConceptVector(strengths=(1.0, 2.0))
    context = context_of(attack, model)
    attacked, control = list(attack.attack(context)), list(attack.control(context))
    for prompt in PROMPTS:
        caption = model.encode([prompt.text])[0]
        away, other = (
            [payload - caption for payload in payloads(arm, prompt)] for arm in (attacked, control)
        )
        for a, b in zip(away, other, strict=True):
            torch.testing.assert_close(a.norm(dim=1), b.norm(dim=1), rtol=1e-3, atol=1e-4)
            assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).abs() < 0.5
        torch.testing.assert_close(other[1], 2 * other[0], rtol=1e-3, atol=1e-4)


def test_it_asks_the_text_encoder_only(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_asks_no_transformer(model, ConceptVector(), monkeypatch)


def test_nothing_is_left_behind(model: Model) -> None:
    assert_untouched(model, lambda: candidates(ConceptVector(), model, Shift()))
    assert_card(ConceptVector)
    assert "Ring-A-Bell" in ConceptVector.card.paper and ConceptVector.name != "ring_a_bell"


def test_the_direction_is_charged_with_its_seconds(model: Model) -> None:
    attack = ConceptVector(strengths=(1.0,), budget=1)
    context = context_of(attack, model)
    [first, *_] = attack.attack(context)
    assert context.shared.spent.seconds > 0
    assert first.spent.seconds >= context.shared.spent.seconds
    assert first.spent.encodings == context.shared.spent.encodings + 1


def test_composite_concepts_are_skipped(model: Model) -> None:
    several = CONCEPT.model_copy(update={"members": ("nudity", "van-gogh")})
    for attack in (ConceptVector(), RingABell(lengths=(4,))):
        assert "aims at none" in str(attack.supports(Context(model, NoEdit(), several, PROMPTS)))
        assert attack.supports(Context(model, NoEdit(), CONCEPT, PROMPTS)) is None
