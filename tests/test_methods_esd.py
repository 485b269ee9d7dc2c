"""ESD-x and ESD-u against their equation in float64, and against what the release makes of ESD."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from torch import Tensor
from zbench_methods.esd_u import ESDu
from zbench_methods.esd_x import ESDObjective, ESDx

from tests.transcription import (
    CONCEPT,
    Reference,
    assert_first_update,
    assert_gradients,
    lora_gradients,
    perturb,
)
from zbench.model import Model

SMALL: dict[str, Any] = {
    "steps": 1,
    "batch_size": 3,
    "trajectories": 2,
    "rank": 2,
    "learning_rate": 0.5,
    "optimiser": "sgd",
    "weight_decay": 0.0,
}


class AnyLinear(Reference):
    """The float64 transformer with stock attention and H' = H W + S_T H dW on any linear module."""

    def adopt(self, edit: Any) -> None:
        super().adopt(edit)
        for layer in self.transformer.layers:
            layer.attention.set_processor(ZSingleStreamAttnProcessor())
        for path in self.factors:
            self.transformer.get_submodule(path).register_forward_hook(self.hook(path))

    def hook(self, path: str) -> Any:
        def add(module: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
            down, up = self.factors[path]
            rows = torch.arange(args[0].shape[1]) >= self.text_start
            return output + self.live * rows[None, :, None] * (args[0] @ down.T @ up.T)

        return add


class Equation:
    """The loss on the points that the objective is about to draw."""

    def __init__(self, method: ESDx, model: Model, objective: ESDObjective, edit: Any) -> None:
        self.reference = AnyLinear(model)
        self.reference.adopt(edit)
        self.eta = method.eta
        source = torch.Generator()
        source.set_state(objective.generator.get_state())
        bank = objective.erasure.bank
        entries = torch.randint(2, (3,), generator=source).tolist()
        steps = torch.randint(model.spec.steps, (3,), generator=source)
        self.t = model.timesteps()[steps]
        self.x = bank.latents[steps, entries]
        self.concept = model.encode([CONCEPT.training_prompts[entry] for entry in entries])
        self.empty = model.encode([""] * 3)

    def velocity(self, prompts: list[Tensor], live: bool) -> Tensor:
        return self.reference.velocity(self.x, self.t, prompts, live=live)

    def loss(self) -> Tensor:
        v0_c, v0_0 = (self.velocity(prompts, live=False).detach() for prompts in (self.concept, self.empty))
        return ((self.velocity(self.concept, True) - (v0_0 - self.eta * (v0_c - v0_0))) ** 2).mean()

    def loss_as_released(self) -> Tensor:
        """ESD of the Z-Erase release: both terms of the target are the model's in training."""
        v_c, v_0 = (self.velocity(prompts, live=True).detach() for prompts in (self.concept, self.empty))
        return ((self.velocity(self.concept, True) - (v_0 - self.eta * (v_c - v_0))) ** 2).mean()

    def ablation_as_released(self) -> Tensor:
        """AC of the Z-Erase release."""
        return ((self.velocity(self.concept, True) - self.velocity(self.empty, True).detach()) ** 2).mean()


def gradient_of(equation: Equation, loss: Tensor) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in equation.reference.gradients(loss)])


@pytest.mark.parametrize("away_from_start", [False, True])
@pytest.mark.parametrize("kind", [ESDx, ESDu])
def test_gradient_follows_the_equation(tiny_model: Model, kind: type[ESDx], away_from_start: bool) -> None:
    method = kind(**SMALL, eta=1.5)
    edit, objective = method.lora(), ESDObjective(method, tiny_model, CONCEPT)
    with tiny_model.edited(edit):
        if away_from_start:
            perturb(edit)
        equation = Equation(method, tiny_model, objective, edit)
        loss = equation.loss()
        # Row-wise modules of the last layer's text rows reach no picture: zero gradients, not missing ones.
        leaves = [leaf for pair in equation.reference.factors.values() for leaf in pair]
        expected = equation.reference.gradients(loss + 0 * sum(leaf.sum() for leaf in leaves))
        figures = objective.gradients()
        assert figures["erase"] == pytest.approx(loss.item(), rel=1e-3)
        assert_gradients(lora_gradients(edit), expected, 2e-3)


@pytest.mark.parametrize("kind", [ESDx, ESDu])
def test_first_update_is_a_step_along_that_gradient(tiny_model: Model, kind: type[ESDx]) -> None:
    method = kind(**SMALL)
    assert_first_update(tiny_model, method, lambda edit: ESDObjective(method, tiny_model, CONCEPT))


def test_x_and_u_part_the_weights_between_them() -> None:
    x, u = set(ESDx().targets), set(ESDu().targets)
    assert not x & u
    assert x | u == {"to_q", "to_k", "to_v", "to_out.0", *(f"feed_forward.w{i}" for i in (1, 2, 3))}
    for preset in ("paper", "miniature"):
        assert set(ESDx.with_preset(preset).targets) == x and set(ESDu.with_preset(preset).targets) == u


def test_esd_is_not_ac_as_it_is_in_the_release(tiny_model: Model) -> None:
    """Defect D16: with references from the live model, ESD's gradient is AC's times 1 + eta."""
    method = ESDx(**SMALL, eta=1.0)
    edit, objective = method.lora(), ESDObjective(method, tiny_model, CONCEPT)
    with tiny_model.edited(edit):
        perturb(edit)
        equation = Equation(method, tiny_model, objective, edit)
        ours, released, ablation = (
            gradient_of(equation, loss())
            for loss in (equation.loss, equation.loss_as_released, equation.ablation_as_released)
        )
        torch.testing.assert_close(released, 2 * ablation, rtol=1e-6, atol=1e-9)
        objective.gradients()
        found = torch.cat([gradient.flatten().double() for gradient in lora_gradients(edit)])
    for other in (released, ablation):
        assert torch.cosine_similarity(found, other, dim=0) < 0.95
    assert torch.cosine_similarity(found, ours, dim=0) > 0.9999


def test_the_target_stays_where_it_was_while_the_model_moves(tiny_model: Model) -> None:
    method = ESDx(**SMALL)
    edit, objective = method.lora(), ESDObjective(method, tiny_model, CONCEPT)
    draw = objective.erasure.bank.draw(torch.Generator().manual_seed(0), 3)
    before = draw.velocities.clone(), objective.erasure.reference.at(draw).clone()
    with tiny_model.edited(edit):
        perturb(edit)
        objective.gradients()
        assert torch.equal(draw.velocities, before[0])
        assert torch.equal(objective.erasure.reference.at(draw), before[1])


def test_a_step_costs_one_forward_and_one_backward(tiny_model: Model) -> None:
    erasure = ESDx(**SMALL).erase(tiny_model, CONCEPT)
    assert erasure.trace[0]["evaluations"] == 2
    # One batch for each of the sampler's steps, and eight points in batches of three for the empty prompt.
    assert erasure.cost.forwards == tiny_model.spec.steps + 3 + 1


@pytest.mark.parametrize("kind", [ESDx, ESDu])
def test_same_seed_same_weights(tiny_model: Model, kind: type[ESDx]) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed + 5)
        return kind(**SMALL, training_seed=seed).erase(tiny_model, CONCEPT).edit.tensors()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first if ".lora_B." in name)
