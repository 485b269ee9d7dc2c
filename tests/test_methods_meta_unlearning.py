import pytest
import torch
from torch import Tensor
from zbench_methods.meta_unlearning import MetaUnlearning, MetaUnlearningObjective

from tests.transcription import (
    CONCEPT,
    Reference,
    assert_first_update,
    assert_gradients,
    lora_gradients,
    perturb,
)
from zbench.errors import ConfigurationError, TrainingDivergedError
from zbench.model import Model
from zbench.registry import load_method

SMALL = {
    "steps": 1,
    "batch_size": 3,
    "trajectories": 3,
    "preserve_batch": 2,
    "meta_batch": 2,
    "rank": 2,
    "learning_rate": 0.5,
    "optimiser": "sgd",
}
PROMPTS = {
    "concept": CONCEPT.training_prompts,
    "related": CONCEPT.anchor_prompts,
    "unrelated": CONCEPT.preserve_prompts,
}


class Transcription:
    """The equations in float64, on the points that the objective is about to draw."""

    def __init__(self, model: Model, objective: MetaUnlearningObjective) -> None:
        self.model, self.objective = model, objective
        self.reference = Reference(model)
        self.reference.adopt(objective.edit)
        self.source = torch.Generator()
        self.source.set_state(objective.generator.get_state())

    def points(self, purpose: str, batch: int) -> tuple[Tensor, Tensor, list[Tensor], list[int]]:
        drawn = self.objective.banks[purpose].draw(self.source, batch)
        entries = drawn.entries.tolist()
        captions = self.model.encode([PROMPTS[purpose][entry % 2] for entry in entries])
        return drawn.latents, drawn.timesteps, captions, entries

    def drift(self, purpose: str, batch: int) -> Tensor:
        x, t, captions, _ = self.points(purpose, batch)
        live, frozen = (self.reference.velocity(x, t, captions, live=on) for on in (True, False))
        return ((live - frozen) ** 2).mean()

    def erase(self, eta: float, reference: str) -> Tensor:
        x, t, captions, entries = self.points("concept", 3)
        names = [CONCEPT.anchor_prompts[entry % 2] if reference == "anchor" else "" for entry in entries]
        v_r = self.reference.velocity(x, t, self.model.encode(names), live=False)
        v_c = self.reference.velocity(x, t, captions, live=False)
        live = self.reference.velocity(x, t, captions, live=True)
        return ((live - (v_r - eta * (v_c - v_r))) ** 2).mean()

    def descend(self, share: float, graph: bool) -> None:
        """theta' = theta - share L / ||grad L||^2 grad L, with or without a graph through it."""
        loss = self.drift("concept", 2)
        leaves = [leaf for pair in self.reference.factors.values() for leaf in pair]
        gradients = torch.autograd.grad(loss, leaves, create_graph=graph)
        square = sum((gradient**2).sum() for gradient in gradients)
        length = share * loss / square if square.item() > 0 else 0.0
        moved = [leaf - length * gradient for leaf, gradient in zip(leaves, gradients, strict=True)]
        if not graph:
            moved = [factor.detach().requires_grad_() for factor in moved]
        pairs = zip(moved[::2], moved[1::2], strict=True)
        self.reference.factors = dict(zip(self.reference.factors, pairs, strict=True))


WEIGHTS = {
    "unrelated_weight": 0.6,
    "related_weight": 0.3,
    "meta_concept": 0.5,
    "meta_related": 0.2,
    "meta_unrelated": 0.1,
}


@pytest.mark.parametrize(
    ("reference", "clip", "away_from_start"), [("empty", None, False), ("anchor", 0.01, True)]
)
def test_gradient_follows_the_equations(
    tiny_model: Model, reference: str, clip: float | None, away_from_start: bool
) -> None:
    method = MetaUnlearning(
        **SMALL, **WEIGHTS, eta=0.7, reference=reference, inner_steps=2, inner_share=0.4, gradient_clip=clip
    )
    edit = method.lora()
    objective = MetaUnlearningObjective(method, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        if away_from_start:
            perturb(edit)
        before = [parameter.detach().clone() for parameter in edit.parameters()]
        written = Transcription(tiny_model, objective)
        start = written.reference.factors
        written.descend(0.4, graph=False)
        written.descend(0.4, graph=False)
        meta = 0.5 * written.drift("concept", 2) + 0.2 * written.drift("related", 2)
        bracket = written.reference.gradients(meta + 0.1 * written.drift("unrelated", 2))
        written.reference.factors = start
        total = written.erase(0.7, reference) + 0.3 * written.drift("related", 2)
        here = written.reference.gradients(total + 0.6 * written.drift("unrelated", 2))
        expected = [at - there for at, there in zip(here, bracket, strict=True)]
        norm = sum(float((gradient**2).sum()) for gradient in expected) ** 0.5
        if clip is not None:
            assert norm > clip, "a clip that does nothing proves nothing"
            expected = [gradient * clip / norm for gradient in expected]

        figures = objective.gradients()
        assert_gradients(lora_gradients(edit), expected, 5e-3)
        assert (figures["forgotten"] > 1e-3) == away_from_start
        for parameter, old in zip(edit.parameters(), before, strict=True):
            assert torch.equal(parameter, old), "the simulated fine-tuning is taken back bit for bit"


def test_meta_gradient_tends_to_the_exact_one(tiny_model: Model) -> None:
    """First order leaves out the derivative of the inner step: the error shrinks with that step."""
    errors = []
    for share in (0.4, 0.02):
        method = MetaUnlearning(**SMALL, meta_concept=1.0, meta_related=1.0, inner_share=share)
        edit = method.lora()
        objective = MetaUnlearningObjective(method, tiny_model, CONCEPT, edit)
        with tiny_model.edited(edit):
            perturb(edit)
            written = Transcription(tiny_model, objective)
            leaves = [leaf for pair in written.reference.factors.values() for leaf in pair]
            written.descend(share, graph=True)
            loss = -written.drift("concept", 2) - written.drift("related", 2)
            exact = torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)])
            objective.meta_gradients(list(edit.parameters()))
            found = torch.cat([gradient.flatten().double() for gradient in lora_gradients(edit)])
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 0.05 and errors[0] > 4 * errors[1]


def test_first_update_is_a_step_along_that_gradient(tiny_model: Model) -> None:
    method = MetaUnlearning(**SMALL, weight_decay=0.0)
    assert_first_update(
        tiny_model, method, lambda edit: MetaUnlearningObjective(method, tiny_model, CONCEPT, edit)
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 12),
        ({"inner_steps": 3, "meta_unrelated": 0.1}, 18),
        ({"meta_concept": 0.0, "meta_related": 0.0, "related_weight": 0.0, "unrelated_weight": 0.0}, 2),
    ],
)
def test_evaluations_per_step(tiny_model: Model, settings: dict[str, float], expected: int) -> None:
    erasure = MetaUnlearning(**{**SMALL, **settings}).erase(tiny_model, CONCEPT)
    assert erasure.trace[0]["evaluations"] == expected


def test_same_seed_same_weights_recomputed_or_not(tiny_model: Model) -> None:
    settings = {**SMALL, "steps": 2, "batch_size": 2, "trajectories": 2, "optimiser": "adamw"}
    first = MetaUnlearning(**settings).erase(tiny_model, CONCEPT).edit.parameters()
    again = MetaUnlearning(**settings, gradient_checkpointing=True).erase(tiny_model, CONCEPT)
    for left, right in zip(first, again.edit.parameters(), strict=True):
        assert torch.equal(left, right)


def test_refusals_and_divergence(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match=r"meta_unlearning\.inner_share = 2"):
        load_method("meta_unlearning").of({"inner_share": 2})
    settings = {**SMALL, "steps": 20, "learning_rate": 1e30, "gradient_clip": None}
    with pytest.raises(TrainingDivergedError, match="learning rate"):
        MetaUnlearning(**settings).erase(tiny_model, CONCEPT)
