"""The training-free guards as methods: what they build, what it costs, what they refuse."""

from __future__ import annotations

import pytest
import torch
from zbench_methods.negative_prompt import NegativePrompt
from zbench_methods.safree import SAFREE
from zbench_methods.sld import SLD

from tests.transcription import CONCEPT
from zbench.concepts import Concept
from zbench.edits import NegativePromptEdit, ProjectionEdit, SafetyGuidanceEdit
from zbench.edits.projection import distances, prompt_rows
from zbench.errors import ConfigurationError
from zbench.method import Method
from zbench.model import Model

SILENT = CONCEPT.model_copy(update={"phrases": ("unclothed",)})


def crowd() -> Concept:
    """More phrases than a prompt holds."""
    return CONCEPT.model_copy(update={"phrases": tuple(f"person number {index}" for index in range(40))})


def test_guidance_is_by_the_list_of_phrases(tiny_model: Model) -> None:
    expected = tiny_model.encode(["nude, naked"])[0]
    away = NegativePrompt(scale=2.0).erase(tiny_model, CONCEPT).edit
    assert isinstance(away, NegativePromptEdit) and away.scale == 2.0
    assert torch.equal(away.concept, expected)
    safe = SLD.with_preset("paper").erase(tiny_model, CONCEPT).edit
    assert isinstance(safe, SafetyGuidanceEdit) and torch.equal(safe.concept, expected)
    assert safe.settings() == {
        "scale": 2000.0,
        "threshold": 0.025,
        "momentum_scale": 0.5,
        "momentum_decay": 0.7,
        "start": 871.0,
        "strength": 1.0,
    }


def test_guidance_by_a_prompt_takes_the_one_that_names_most(tiny_model: Model) -> None:
    prompts = ("a nude person", "a naked person who is nude", "a nude and naked person")
    concept = CONCEPT.model_copy(update={"training_prompts": prompts, "anchor_prompts": ("a person",) * 3})
    for method in (NegativePrompt(wording="prompt"), SLD(wording="prompt")):
        edit = method.erase(tiny_model, concept).edit
        assert isinstance(edit, NegativePromptEdit | SafetyGuidanceEdit)
        assert torch.equal(edit.concept, tiny_model.encode([prompts[1]])[0])


@pytest.mark.parametrize("method", [NegativePrompt(), SLD(), SAFREE()], ids=lambda method: method.name)
def test_no_transformer_call_and_the_model_is_left_alone(tiny_model: Model, method: Method) -> None:
    """The evaluations that guidance costs are counted where they are made: when pictures are drawn."""
    erasure = method.erase(tiny_model, CONCEPT)
    assert erasure.cost.forwards == erasure.cost.backwards == erasure.cost.steps == 0
    assert not erasure.edit.attached and erasure.method == method.name
    assert type(method)(**erasure.hyperparameters) == method


@pytest.mark.parametrize("method", [NegativePrompt(), SLD()], ids=lambda method: method.name)
def test_phrases_are_never_dropped_silently(tiny_model: Model, method: Method) -> None:
    with pytest.raises(ConfigurationError, match="40 phrases of 'nudity' do not fit"):
        method.erase(tiny_model, crowd())


def test_safree_without_a_mention_is_refused(tiny_model: Model) -> None:
    assert SAFREE().supports(CONCEPT) is None
    assert SAFREE().supports(SILENT) == "no training prompt names one of its phrases"
    with pytest.raises(ConfigurationError, match="safree cannot erase 'nudity'"):
        SAFREE().erase(tiny_model, SILENT)


def safree(model: Model, **settings: object) -> ProjectionEdit:
    edit = SAFREE.of(settings).erase(model, CONCEPT).edit
    assert isinstance(edit, ProjectionEdit)
    return edit


def test_safree_is_centred_on_prompts_to_preserve(tiny_model: Model) -> None:
    kept = [*CONCEPT.preserve_prompts, *CONCEPT.anchor_prompts]
    rows = [tiny_model.encode([p])[0][list(prompt_rows(tiny_model, p))] for p in kept]
    torch.testing.assert_close(safree(tiny_model).mean, torch.cat(rows).mean(0), atol=1e-5, rtol=1e-4)


def test_safree_subspace_carries_the_mentions(tiny_model: Model) -> None:
    """The residual of all mentions is the share of energy that was given up, and no direction is idle."""
    places = [
        (prompt, phrase)
        for prompt in (*CONCEPT.training_prompts, *CONCEPT.phrases)
        for phrase in CONCEPT.phrases
        if phrase in prompt
    ]
    full = safree(tiny_model, energy=1.0)
    mentions = []
    for prompt, phrase in places:
        start, end = tiny_model.token_span(prompt, phrase)[0]
        mentions.append(tiny_model.encode([prompt])[0][start:end].double().mean(0) - full.mean)
    stacked = torch.stack(mentions)
    assert full.basis.shape[1] == 4
    previous = 0
    for energy in (0.3, 0.8, 0.999):
        basis = safree(tiny_model, energy=energy).basis.double()
        carried = float((stacked @ basis).square().sum() / stacked.square().sum())
        fewer = float((stacked @ basis[:, :-1]).square().sum() / stacked.square().sum())
        assert fewer < energy <= carried + 1e-6 and basis.shape[1] >= previous
        previous = basis.shape[1]


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_safree_never_takes_a_prompt_to_preserve_for_the_concept(tiny_model: Model, margin: float) -> None:
    edit = safree(tiny_model, margin=margin, energy=1.0)
    kept = [*CONCEPT.preserve_prompts, *CONCEPT.anchor_prompts]
    before = tiny_model.encode([*kept, *CONCEPT.training_prompts])
    with tiny_model.edited(edit):
        after = tiny_model.encode([*kept, *CONCEPT.training_prompts])
    assert all(a is b for a, b in zip(after[: len(kept)], before, strict=False)), "bit for bit"
    if margin < 1:
        assert not any(a is b for a, b in zip(after[len(kept) :], before[len(kept) :], strict=True))


def test_safree_threshold_never_rises_above_the_nearest_harmless_token(tiny_model: Model) -> None:
    basis = torch.eye(4)[:, :1].double()
    harmless, mention = torch.tensor([[1.0, 0.5, 0, 0]]).double(), torch.tensor([[1.0, 0.1, 0, 0]]).double()
    near, far = float(distances(mention, basis)), float(distances(harmless, basis))
    method = SAFREE(margin=0.25)
    found = method.threshold(harmless, [mention], basis)
    assert found == pytest.approx(far - 0.25 * (far - near), rel=1e-5)
    assert method.threshold(mention, [harmless], basis) < near, (
        "the concept does not stand out: nothing is hit"
    )
