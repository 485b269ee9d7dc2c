"""EraseAnything: both levels against a float64 transcription, and the traps of the released code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from zbench_methods.erase_anything import BilevelObjective, EraseAnything

from tests.transcription import CONCEPT, Reference, assert_gradients, lora_gradients, perturb
from zbench.concepts import Concept, concept_names, load_concept
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.training import Captions, attention_norm, generator, irrelevant_concepts, reverse_contrast, spread

SMALL: dict[str, Any] = {
    "steps": 1,
    "batch_size": 2,
    "trajectories": 3,
    "contrast_points": 3,
    "irrelevant": 2,
    "rank": 2,
    "learning_rate": 0.5,
    "optimiser": "sgd",
    "weight_decay": 0.0,
    "shuffle": 0.5,
    "attention_weight": 0.7,
    "flow_weight": 0.3,
    "contrast_weight": 0.6,
}


def columns_of(model: Model, concept: Concept, prompt: str) -> list[int]:
    """Token positions of the concept, counted by hand."""
    spans = [span for phrase in concept.phrases for span in model.token_span(prompt, phrase)]
    return sorted({index for start, end in spans for index in range(start, end)})


class Equations:
    """The losses of the paper in float64, on the points that the objective is about to draw."""

    def __init__(self, method: EraseAnything, model: Model, objective: BilevelObjective, edit: Any) -> None:
        self.method, self.model, self.objective = method, model, objective
        self.reference = Reference(model)
        self.reference.adopt(edit)
        self.source = torch.Generator()
        self.source.set_state(objective.generator.get_state())

    def span(self, sample: int, columns: list[int]) -> list[Tensor]:
        """Per layer the attention to a span, [heads, image rows], in the last call."""
        rows, keys = self.reference.image_rows, [self.reference.text_start + column for column in columns]
        return [maps[sample, :, :rows, keys].sum(-1) for maps in self.reference.maps.values()]

    def forget(self) -> tuple[Tensor, Tensor]:
        """L_esd and L_attn."""
        bank, model = self.objective.bank, self.model
        draw = bank.draw(self.source, self.method.batch_size)
        entries = draw.entries.tolist()
        prompts = [bank.prompts[entry] for entry in entries]
        anchors = [CONCEPT.anchor_prompts[entry % 2] for entry in entries]
        starts = anchors if self.method.reference == "anchor" else [""] * len(entries)
        x, t, c, r = draw.latents, draw.timesteps, model.encode(prompts), model.encode(starts)
        v0_c = self.reference.velocity(x, t, c, live=False).detach()
        v0_r = self.reference.velocity(x, t, r, live=False).detach()
        v = self.reference.velocity(x, t, c, live=True)
        esd = ((v - (v0_r - self.method.eta * (v0_c - v0_r))) ** 2).mean()
        spans = [
            mass
            for sample, prompt in enumerate(prompts)
            for mass in self.span(sample, columns_of(model, CONCEPT, prompt))
        ]
        return esd, torch.stack([(mass**2).mean().sqrt() for mass in spans]).mean()

    def preserve(self) -> tuple[Tensor, Tensor]:
        """L_fm and L_rsc."""
        kept, model, count = self.objective.preserve_bank, self.model, self.method.batch_size
        draw = kept.draw(self.source, count)
        clean = kept.latents[-1, draw.entries]
        noise = torch.randn(clean.shape, generator=self.source).double()
        sigma = (draw.timesteps.double() / 1000)[:, None, None, None]
        y = (1 - sigma) * clean.double() + sigma * noise
        c_pr = model.encode([kept.prompts[entry] for entry in draw.entries.tolist()])
        v = self.reference.velocity(y, draw.timesteps, c_pr, live=True)
        flow = ((v - (noise - clean.double())) ** 2).mean()
        chosen = torch.randint(3, (count,), generator=self.source).tolist()
        return flow, torch.stack([self.contrast(point) for point in chosen]).mean()

    def contrast(self, point: int) -> Tensor:
        """L_rsc at one point."""
        bank, points = self.objective.bank, self.objective.contrast.points
        entry, step = int(points.entries[point]), int(points.steps[point])
        others = self.others()
        compared = [(CONCEPT, bank.prompts[(entry + 1) % 3])]
        prompts = [other.training_prompts for other in others]
        count = len(points.entries)
        compared += [
            (other, each[spread(each, count)[point]]) for other, each in zip(others, prompts, strict=True)
        ]
        at = bank.latents[step, [entry]], bank.timesteps[[step]]
        with torch.no_grad():
            frozen = [self.feature(at, concept, prompt, live=False) for concept, prompt in compared]
        live = self.feature(at, CONCEPT, bank.prompts[entry], live=True)
        scores = torch.stack([live @ each / (live.norm() * each.norm()) / 0.07 for each in frozen])
        return (scores[0].exp() / scores.exp().sum()).log()

    def others(self) -> list[Concept]:
        """The irrelevant concepts of this seed."""
        source = generator(self.method.training_seed)
        torch.rand(3, generator=source)
        return irrelevant_concepts(CONCEPT, self.model.spec.domain, 2, source)

    def feature(self, at: tuple[Tensor, Tensor], concept: Concept, prompt: str, *, live: bool) -> Tensor:
        self.reference.velocity(*at, self.model.encode([prompt]), live=live)
        spans = self.span(0, columns_of(self.model, concept, prompt))
        return torch.stack([mass.mean(0) for mass in spans]).mean(0)


@pytest.mark.parametrize("away_from_start", [False, True])
@pytest.mark.parametrize("reference", ["empty", "anchor"])
def test_lower_level_follows_the_equations(tiny_model: Model, reference: str, away_from_start: bool) -> None:
    method = EraseAnything(**SMALL, reference=reference)
    edit, objective = method.lora(), BilevelObjective(method, tiny_model, CONCEPT)
    with tiny_model.edited(edit):
        if away_from_start:
            perturb(edit)
        equations = Equations(method, tiny_model, objective, edit)
        esd, attention = equations.forget()
        expected = equations.reference.gradients(esd + 0.7 * attention)
        figures = objective.gradients()
        assert figures == {
            "erase": pytest.approx(esd.item(), rel=1e-3),
            "attention": pytest.approx(attention.item(), rel=1e-3),
        }
        assert_gradients(lora_gradients(edit), expected, 2e-3)


@pytest.mark.parametrize("away_from_start", [False, True])
def test_upper_level_follows_the_equations(tiny_model: Model, away_from_start: bool) -> None:
    # Without shuffling, the objective's generator has drawn nothing that `Equations.others` would not repeat.
    method = EraseAnything(**{**SMALL, "shuffle": 0.0})
    edit, objective = method.lora(), BilevelObjective(method, tiny_model, CONCEPT)
    with tiny_model.edited(edit):
        if away_from_start:
            perturb(edit)
        equations = Equations(method, tiny_model, objective, edit)
        flow, contrast = equations.preserve()
        expected = equations.reference.gradients(0.3 * flow + 0.6 * contrast)
        figures = objective.preserve()
        assert figures == {
            "flow": pytest.approx(flow.item(), rel=1e-3),
            "contrast": pytest.approx(contrast.item(), rel=1e-3),
        }
        assert_gradients(lora_gradients(edit), expected, 2e-3)


def test_first_update_forgets_and_the_second_preserves(tiny_model: Model) -> None:
    method = EraseAnything(**{**SMALL, "steps": 2})
    edit, objective = method.lora(), BilevelObjective(method, tiny_model, CONCEPT)
    with tiny_model.edited(edit):
        start = [parameter.detach().clone() for parameter in edit.parameters()]
        objective.gradients()
        gradients = [parameter.grad for parameter in edit.parameters()]
    erasure = method.erase(tiny_model, CONCEPT)
    assert [("erase" in row, "flow" in row) for row in erasure.trace] == [(True, False), (False, True)]
    assert [row["evaluations"] for row in erasure.trace] == [2, 2]
    once = method.model_copy(update={"steps": 1}).erase(tiny_model, CONCEPT).edit.parameters()
    for after, before, gradient in zip(once, start, gradients, strict=True):
        torch.testing.assert_close(after.detach() - before, -0.5 * gradient, atol=1e-6, rtol=1e-3)


def test_same_seed_same_adapter_and_other_seed_another(tiny_model: Model) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed + 17)
        method = EraseAnything(**{**SMALL, "steps": 2}, training_seed=seed)
        return method.erase(tiny_model, CONCEPT).edit.tensors()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    # Text rows' queries of the last layer reach no picture, so their B stays zero whatever the seed.
    assert sum(torch.equal(first[name], other[name]) for name in first) <= 1


def test_spans_are_found_after_the_words_were_shuffled(tiny_model: Model) -> None:
    concept = CONCEPT.model_copy(update={"phrases": ("van gogh",)})
    concept = concept.model_copy(
        update={
            "training_prompts": ("a naked person in the style of van gogh",) * 6,
            "anchor_prompts": ("a naked person",) * 6,
        }
    )
    method = EraseAnything(**{**SMALL, "shuffle": 1.0, "trajectories": 6})
    objective = BilevelObjective(method, tiny_model, concept)
    prompts = objective.bank.prompts
    assert len(set(prompts)) > 3 and all("van gogh" in prompt for prompt in prompts)
    assert objective.captions.columns == [columns_of(tiny_model, concept, prompt) for prompt in prompts]
    assert len({columns[0] for columns in objective.captions.columns}) > 1, "the span must have moved"


def test_features_are_of_each_concepts_own_tokens(tiny_model: Model) -> None:
    cat = load_concept("cat")
    captions = Captions.of(tiny_model, cat, ["a red car", "a cat beside a house", "here sits a cat"])
    repeated = captions.repeat(3)
    assert repeated.columns[0] == repeated.columns[2] != repeated.columns[1]
    assert repeated.columns[:2] == [
        columns_of(tiny_model, cat, p) for p in ("a cat beside", "here sits a cat")
    ]


@pytest.mark.parametrize("domain", ["world", "photograph"])
def test_irrelevant_concepts_have_nothing_to_do_with_the_erased_one(domain: str) -> None:
    for name in concept_names(domain)[::6]:
        concept = load_concept(name, domain)
        others = irrelevant_concepts(concept, domain, 99, torch.Generator().manual_seed(0))
        assert len(others) >= 3, name
        for other in others:
            assert other.family != concept.family and not other.members
            texts = " / ".join((*other.phrases, *other.training_prompts)).lower()
            assert not any(phrase.lower() in texts for phrase in concept.phrases)


@pytest.mark.parametrize("domain", ["world", "photograph"])
def test_every_concept_of_the_catalogue_can_serve_as_irrelevant(tiny_model: Model, domain: str) -> None:
    for name in concept_names(domain):
        concept = load_concept(name, domain)
        named = any(columns_of(tiny_model, concept, prompt) for prompt in concept.training_prompts)
        assert concept.members or named, name


def test_irrelevant_concepts_follow_the_seed() -> None:
    def names(seed: int) -> list[str]:
        return [other.name for other in irrelevant_concepts(CONCEPT, "world", 3, generator(seed))]

    assert names(0) == names(0) and len(set(names(0))) == 3
    assert len({tuple(names(seed)) for seed in range(5)}) > 1


def test_a_catalogue_without_irrelevant_concepts_is_said_in_one_line() -> None:
    everything = CONCEPT.model_copy(update={"phrases": ("a", "e", "i", "o", "u")})
    with pytest.raises(ConfigurationError, match=r"domain 'world' is irrelevant to 'nudity'"):
        irrelevant_concepts(everything, "world", 3, generator(0))


def test_a_concept_without_phrases_in_its_prompts_is_refused() -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    assert "names one of its phrases" in (EraseAnything().supports(silent) or "")
    assert EraseAnything().supports(CONCEPT) is None


def test_a_prompt_that_does_not_name_the_concept_gives_finite_gradients() -> None:
    leaf = torch.rand(2, 3, 4, requires_grad=True)
    masked = leaf * torch.tensor([1.0, 0.0])[:, None, None]
    attention_norm({0: masked, 1: masked}).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None and bool(torch.isfinite(leaf.grad).all())
    assert leaf.grad[0].any() and not leaf.grad[1].any()


def test_the_contrast_leads_from_the_synonym_to_the_irrelevant() -> None:
    frozen = torch.eye(3)[:, None, :]
    live = torch.tensor([[1.0, 0.3, 0.3]], requires_grad=True)
    before = reverse_contrast(live, frozen, 0.07)
    before.backward()  # type: ignore[no-untyped-call]
    assert live.grad is not None
    moved = (live - 0.05 * live.grad).detach()
    assert moved[0, 0] < 1.0 and bool((moved[0, 1:] > 0.3).all())
    assert reverse_contrast(moved, frozen, 0.07) < before < 0
