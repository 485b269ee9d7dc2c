"""Minimalist: the gradient through the whole sampler against a float64 transcription that unrolls it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from zbench_methods.minimalist import Minimalist, MinimalistObjective

from tests.transcription import CONCEPT, Processor, Reference, assert_gradients
from zbench.edits import NeuronMaskEdit
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.training import LearnedMask, SamplerRun

EVERY = ("feed_forward", "head_outputs", "head_values")
SMALL: dict[str, Any] = {
    "neurons": EVERY,
    "steps": 1,
    "sampler_steps": 3,
    "batch_size": 2,
    "preserve_batch": 1,
    "preserve_weight": 0.4,
    "sparsity_weight": 0.3,
    "trajectories": 3,
}

# One step of Adam that sends neurons below zero as their gradient says.
LEAP = {**SMALL, "sampler_steps": 2, "learning_rate": 4.0, "relaxation": "straight_through"}


class MaskedProcessor(Processor):
    """Plain attention with the values and the outputs of heads multiplied by gates on text rows."""

    reference: MaskedReference

    def project(self, attn: Any, name: str, hidden: Tensor) -> Tensor:
        projected = super().project(attn, name, hidden)
        if name == "to_v":
            return self.reference.gated(projected, f"layers.{self.layer}.attention.to_v", heads=True)
        return projected

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        super().__call__(attn, hidden_states, None, attention_mask, freqs_cis)
        value, maps = self.project(attn, "to_v", hidden_states), self.reference.maps[self.layer]
        heads = torch.einsum("bhqk,bkhd->bqhd", maps, value)
        heads = self.reference.gated(heads, f"layers.{self.layer}.attention.to_out.0", heads=True)
        return heads.flatten(2) @ attn.to_out[0].weight.T


class MaskedReference(Reference):
    """The float64 transformer with S_T and the gates m written out: h' = (1 - S_T) h + S_T (h m)."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.gates: dict[str, Tensor] = {}
        for index, layer in enumerate(self.transformer.layers):
            layer.attention.set_processor(MaskedProcessor(self, index))
            feed_forward, path = layer.feed_forward, f"layers.{index}.feed_forward.w2"
            feed_forward.forward = lambda x, ff=feed_forward, path=path: (
                self.gated(torch.nn.functional.silu(x @ ff.w1.weight.T) * (x @ ff.w3.weight.T), path)
                @ ff.w2.weight.T
            )

    def gated(self, hidden: Tensor, path: str, *, heads: bool = False) -> Tensor:
        if path not in self.gates:
            return hidden
        selector = (torch.arange(hidden.shape[1]) >= self.text_start).double()
        selector = selector.view(1, -1, *(1 for _ in hidden.shape[2:]))
        gate = self.gates[path][:, None] if heads else self.gates[path]
        return (1 - selector) * hidden + selector * (hidden * gate)

    def picture(self, model: Model, noise: Tensor, captions: list[Tensor], steps: int) -> Tensor:
        """The sampler, all steps in one graph."""
        sigmas = model.sigmas(steps).double()
        state = noise.double()
        for now, then in pairwise(sigmas):
            time = (1000 * now).expand(len(noise))
            state = state + (then - now) * self.velocity(state, time, captions, live=True)
        return state


def learned(method: Minimalist, model: Model, spread: float = 0.0) -> LearnedMask:
    """A mask that has been attached once; with a spread, some logits are negative."""
    mask = LearnedMask(method.neurons, method.layers, relaxation=method.relaxation)
    with model.edited(mask), torch.no_grad():
        source = torch.Generator().manual_seed(2)
        for logit in mask.parameters():
            logit.add_(spread * torch.randn(logit.shape, generator=source))
    return mask


def gates64(mask: LearnedMask, logits: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """The relaxations as their papers write them."""
    gates = {}
    for path, logit in logits.items():
        u = torch.rand(logit.shape, generator=generator).clamp(1e-6, 1 - 1e-6).double()
        if mask.relaxation == "hard_concrete":
            s = torch.sigmoid((u.log() - (1 - u).log() + logit) / 0.83)
            gates[path] = (s * 1.2 - 0.1).clamp(0, 1)
        else:
            soft = 1 / (1 + (-logit).exp())
            gates[path] = (logit > 0).double() + soft - soft.detach()
    return gates


def expected_off64(mask: LearnedMask, logits: dict[str, Tensor]) -> Tensor:
    shift = 0.83 * math.log(0.1 / 1.1) if mask.relaxation == "hard_concrete" else 0.0
    return torch.cat([1 - torch.sigmoid(logit - shift) for logit in logits.values()]).mean()


@pytest.mark.parametrize(
    ("relaxation", "spread"), [("hard_concrete", 0.0), ("hard_concrete", 2.5), ("straight_through", 2.5)]
)
def test_gradient_through_the_sampler_follows_the_equations(
    tiny_model: Model, relaxation: str, spread: float
) -> None:
    method = Minimalist(**SMALL, relaxation=relaxation)
    mask = learned(method, tiny_model, spread)
    objective = MinimalistObjective(method, tiny_model, CONCEPT, mask)
    reference, source = MaskedReference(tiny_model), torch.Generator()
    source.set_state(objective.generator.get_state())
    logits = {path: logit.detach().double().requires_grad_() for path, logit in mask.logits.items()}
    reference.gates = gates64(mask, logits, source)
    changed = objective.anchors.draw(source, 2).entries.tolist()
    (same,) = objective.kept.draw(source, 1).entries.tolist()

    concepts = [CONCEPT.training_prompts[entry % 2] for entry in changed]
    kept = objective.kept.prompts[same]
    noise = torch.cat([objective.anchors.latents[0, changed], objective.kept.latents[0, [same]]])
    live = reference.picture(tiny_model, noise, tiny_model.encode([*concepts, kept]), 3)
    reference.gates, gates = {}, reference.gates
    anchors = [CONCEPT.anchor_prompts[entry % 2] for entry in changed]
    with torch.no_grad():
        frozen = reference.picture(tiny_model, noise, tiny_model.encode([*anchors, kept]), 3)
    erase = ((live[:2] - frozen[:2]) ** 2).mean()
    preserve = ((live[2:] - frozen[2:]) ** 2).mean()
    loss = erase + 0.4 * preserve + 0.3 * expected_off64(mask, logits)
    expected = list(torch.autograd.grad(loss, list(logits.values())))

    with tiny_model.edited(mask):
        figures = objective.gradients()
        assert figures["erase"] == pytest.approx(erase.item(), rel=1e-3)
        assert figures["preserve"] == pytest.approx(preserve.item(), rel=1e-3, abs=1e-9)
        found = [logit.grad for logit in mask.parameters() if logit.grad is not None]
        assert_gradients(found, expected, 5e-3)
    assert len(gates) == len(found) == 9


def test_the_sampler_is_the_models_own(tiny_model: Model) -> None:
    captions = tiny_model.encode(["a nude person", "a red car beside a house"])
    run = SamplerRun.sample(tiny_model, list(tiny_model.noise([5, 6])), captions)
    assert torch.equal(run.states, tiny_model.trajectory(captions, [5, 6]).latents)
    assert torch.equal(run.final, run.states[-1])


def test_gradient_at_the_noise_is_that_of_one_graph(tiny_model: Model) -> None:
    captions, start = tiny_model.encode(["a nude person"]), tiny_model.noise([5]).requires_grad_()
    timesteps, sigmas = tiny_model.timesteps(), tiny_model.sigmas()
    state = start
    for index, time in enumerate(timesteps):
        width = sigmas[index + 1] - sigmas[index]
        state = state + width * tiny_model.velocity(state, time[None], captions)
    state.square().mean().backward()  # type: ignore[no-untyped-call]
    run = SamplerRun.sample(tiny_model, list(start.detach()), captions)
    torch.testing.assert_close(run.backward(run.final.square().mean()), start.grad, rtol=1e-4, atol=1e-6)


def test_memory_is_that_of_one_step(tiny_model: Model) -> None:
    class Saved:
        alive = peak = 0

        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            Saved.alive += 1
            Saved.peak = max(Saved.peak, Saved.alive)

        def __del__(self) -> None:
            Saved.alive -= 1

    def peak(steps: int) -> int:
        run = SamplerRun.sample(tiny_model, list(tiny_model.noise([5])), captions, steps)
        Saved.peak = 0
        with saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            run.backward(run.final.square().mean())
        return Saved.peak

    captions, mask = tiny_model.encode(["a nude person"]), LearnedMask(("feed_forward",))
    with tiny_model.edited(mask):
        mask.redraw(torch.Generator().manual_seed(0))
        assert 20 < peak(6) <= peak(2) + 2


def test_straight_through_gates_are_exactly_binary(tiny_model: Model) -> None:
    mask = LearnedMask(EVERY, relaxation="straight_through")
    with tiny_model.edited(mask), torch.no_grad():
        for logit in mask.parameters():
            logit[0] = -1.7
        gates = [mask.gate(path) for path in mask.logits]
    assert all(gate[0] == 0 and bool((gate[1:] == 1).all()) for gate in gates)
    hardened = mask.hardened().masks
    assert all(torch.equal(hardened[path], mask.gate(path).to(torch.uint8)) for path in mask.logits)


def test_gates_stay_until_they_are_drawn_again(tiny_model: Model) -> None:
    source, mask = torch.Generator().manual_seed(0), LearnedMask(("feed_forward",))
    captions, noise = tiny_model.encode(["a nude person"]), list(tiny_model.noise([5]))
    with tiny_model.edited(mask):
        mask.redraw(source)
        first, again = (SamplerRun.sample(tiny_model, noise, captions).final for _ in range(2))
        mask.redraw(source)
        other = SamplerRun.sample(tiny_model, noise, captions).final
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_first_update_is_adams_and_the_masks_that_come_out_are_binary(tiny_model: Model) -> None:
    method = Minimalist(**LEAP)
    mask = learned(method, tiny_model)
    objective = MinimalistObjective(method, tiny_model, CONCEPT, mask)
    with tiny_model.edited(mask):
        objective.gradients()
    clear = {path: logit.grad for path, logit in mask.logits.items() if logit.grad is not None}
    erasure = method.erase(tiny_model, CONCEPT)
    assert type(erasure.edit) is NeuronMaskEdit and not erasure.edit.attached
    off = 0
    for path, gradient in clear.items():
        # Where Adam's epsilon does not matter, its first step is the learning rate times the sign.
        certain = gradient.abs() > 1e-6
        assert torch.equal(erasure.edit.masks[path][certain] == 0, (gradient > 0)[certain])
        off += int((gradient > 0).sum())
    total = sum(mask.numel() for mask in erasure.edit.masks.values())
    assert 0 < off < total
    assert erasure.trace[0]["off"] == pytest.approx(off / total, abs=0.02)
    assert erasure.trace[0]["preserve"] == pytest.approx(0, abs=1e-9), "all neurons are on at the start"


def test_sparsity_keeps_neurons_on(tiny_model: Model) -> None:
    def off(weight: float) -> float:
        settings = {**LEAP, "sparsity_weight": weight}
        return Minimalist(**settings).erase(tiny_model, CONCEPT).trace[-1]["off"]

    assert off(0.0) > 0 and off(100.0) == 0


def test_same_seed_same_masks_and_other_seed_others(tiny_model: Model) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed + 17)
        method = Minimalist(**{**LEAP, "relaxation": "hard_concrete"}, training_seed=seed)
        return method.erase(tiny_model, CONCEPT).edit.tensors()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_evaluations_per_step(tiny_model: Model) -> None:
    erasure = Minimalist(**SMALL).erase(tiny_model, CONCEPT)
    # Forwards, forwards again with gradient, backwards; the frozen pictures came before.
    assert erasure.trace[0]["evaluations"] == 3 * 3
    assert (erasure.cost.forwards, erasure.cost.backwards) == (2 * 2 * 3 + 2 * 3, 3)


def test_checkpointing_within_a_step_changes_nothing(tiny_model: Model) -> None:
    plain = Minimalist(**SMALL).erase(tiny_model, CONCEPT)
    frugal = Minimalist(**SMALL, gradient_checkpointing=True).erase(tiny_model, CONCEPT)
    assert frugal.trace[0]["gradient_norm"] == pytest.approx(plain.trace[0]["gradient_norm"], rel=1e-5)
    assert (plain.cost.recomputations, frugal.cost.recomputations) == (0, 3)


def test_layers_and_neurons_are_chosen(tiny_model: Model) -> None:
    settings = {**SMALL, "neurons": ("head_values",), "layers": (0, 2)}
    masks = Minimalist(**settings).erase(tiny_model, CONCEPT).edit.tensors()
    assert {path: len(mask) for path, mask in masks.items()} == {
        "layers.0.attention.to_v": 2,
        "layers.2.attention.to_v": 2,
    }
    with pytest.raises(ConfigurationError, match="layers 0 to 2"):
        Minimalist(**{**SMALL, "layers": (3,)}).erase(tiny_model, CONCEPT)
    assert not tiny_model.edits
