"""An independent float64 Z-Image transformer with explicit text-row LoRA and explicit attention maps.

Nothing of zbench's edits or toolkit is used: projections follow H' = H W + S_T H dW as written, attention is
a plain softmax whose maps are kept, and the row split is computed from the latents by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zbench.concepts import Concept
from zbench.model import Model

CONCEPT = Concept(
    name="nudity",
    family="nsfw",
    phrases=("nude", "naked"),
    training_prompts=("a nude person on a beach", "a naked person in the style of van gogh"),
    anchor="a person",
    anchor_prompts=("a person on a beach", "a person in the style of van gogh"),
    preserve_prompts=("a red car beside a house", "an apple and a tree in the rain"),
)


class Processor:
    """Plain attention of one layer, with low-rank updates on chosen rows."""

    def __init__(self, reference: Reference, layer: int) -> None:
        self.reference, self.layer = reference, layer

    def project(self, attn: Any, name: str, hidden: Tensor) -> Tensor:
        projected = hidden @ getattr(attn, name).weight.T
        factors = self.reference.factors.get(f"layers.{self.layer}.attention.{name}")
        if factors is not None and self.reference.live:
            down, up = factors
            selector = (torch.arange(hidden.shape[1]) >= self.reference.first_edited_row).double()
            projected = projected + selector[None, :, None] * (hidden @ down.T @ up.T)
        return projected.unflatten(-1, (attn.heads, -1))

    def scores(
        self, attn: Any, hidden: Tensor, mask: Tensor | None, rotations: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scores before the softmax, [B, heads, S, S], and values, [B, S, heads, D]."""
        assert rotations is not None
        query, key, value = (self.project(attn, name, hidden) for name in ("to_q", "to_k", "to_v"))
        query, key = (rotate64(norm(x), rotations) for norm, x in ((attn.norm_q, query), (attn.norm_k, key)))
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        return scores, value

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        return self.output(attn, *self.scores(attn, hidden_states, attention_mask, freqs_cis))

    def output(self, attn: Any, scores: Tensor, value: Tensor) -> Tensor:
        """What the layer gives, [B, S, heads * D], from what `scores` returns."""
        maps = scores.softmax(dim=-1)
        self.reference.maps[self.layer] = maps
        out = torch.einsum("bhqk,bkhd->bqhd", maps, value).flatten(2)
        return out @ attn.to_out[0].weight.T


def rotate64(states: Tensor, frequencies: Tensor) -> Tensor:
    even, odd = states[..., 0::2], states[..., 1::2]
    cosine, sine = frequencies.real.double().unsqueeze(2), frequencies.imag.double().unsqueeze(2)
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


class Reference:
    """The float64 transformer; `live` switches the updates on, `factors` holds (A, B) per module path."""

    def __init__(self, model: Model, rows: str = "text") -> None:
        source = model.transformer
        self.transformer = type(source).from_config(source.config)
        # While a LoRA is attached, peft has renamed the frozen weights and added its own.
        frozen = {name: tensor for name, tensor in source.state_dict().items() if ".lora_" not in name}
        self.transformer.load_state_dict({name.replace(".base_layer.", "."): w for name, w in frozen.items()})
        self.transformer.double().eval().requires_grad_(False)
        _, height, width = model.latent_shape()
        self.image_rows = (height // 2) * (width // 2)
        self.text_start = math.ceil(self.image_rows / 32) * 32
        self.first_edited_row = self.text_start if rows == "text" else 0
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        self.maps: dict[int, Tensor] = {}
        self.live = True
        for index, layer in enumerate(self.transformer.layers):
            layer.attention.set_processor(Processor(self, index))

    def adopt(self, edit: Any) -> None:
        """Copies the factors of an attached LoRA, as float64 leaves."""
        named = edit.tensors()
        for name in (name for name in named if ".lora_A." in name):
            path = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            pair = named[name], named[name.replace(".lora_A.", ".lora_B.")]
            down, up = (factor.detach().double().clone().requires_grad_() for factor in pair)
            self.factors[path] = down, up

    def velocity(self, latents: Tensor, timesteps: Tensor, embeddings: list[Tensor], *, live: bool) -> Tensor:
        self.live = live
        pictures = list(latents.double().unsqueeze(2).unbind(0))
        captions = [embedding.double() for embedding in embeddings]
        raw = self.transformer(pictures, 1 - timesteps.double() / 1000, captions, return_dict=False)[0]
        return -torch.stack(list(raw))[:, :, 0]

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Gradients in the order A, B of every module, as `LoraEdit.parameters` lists them by name."""
        leaves = [leaf for pair in self.factors.values() for leaf in pair]
        return list(torch.autograd.grad(loss, leaves, allow_unused=False))


def lora_gradients(edit: Any) -> list[Tensor]:
    """Gradients of an edit's factors in the order of `Reference.gradients`."""
    named = edit.tensors()
    downs = [name for name in named if ".lora_A." in name]
    pairs = [(named[name], named[name.replace(".lora_A.", ".lora_B.")]) for name in downs]
    return [factor.grad for pair in pairs for factor in pair]


def perturb(edit: Any, seed: int = 5) -> None:
    """Gives every factor random values, so that the live model differs from the frozen one."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in edit.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 2e-4) -> None:
    """Largest difference relative to the largest value."""
    scale = expected.abs().max().item()
    assert scale > 0, "the expected value is zero: the test would prove nothing"
    error = (actual.double() - expected).abs().max().item() / scale
    assert error < tolerance, f"relative error {error:.2e}"


def assert_gradients(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compares tensor by tensor; one whose true gradient is zero must be zero up to rounding.

    Such are text rows' queries of the last layer, which no picture depends on, and A while B is zero.
    """
    overall = max(tensor.abs().max().item() for tensor in expected)
    assert len(found) == len(expected) and overall > 0
    meaningful = 0
    for actual, wanted in zip(found, expected, strict=True):
        if wanted.abs().max().item() > 1e-6 * overall:
            assert_close(actual, wanted, tolerance)
            meaningful += 1
        else:
            assert actual.abs().max().item() <= 1e-5 * overall
    assert meaningful >= len(expected) // 3, "too few gradients to prove anything"


def assert_first_update(
    model: Model, method: Any, make_objective: Callable[[Any], Any], least: float = 1e-4
) -> None:
    """The first step of plain gradient descent goes along the objective's gradient, weights not decayed.

    Args:
        model: Without edits.
        method: A `LoraMethod` with one step of ``sgd``.
        make_objective: Adapter -> objective, drawing what `erase` will draw.
        least: The step must be larger than this somewhere.
    """
    assert (method.optimiser, method.steps, method.weight_decay) == ("sgd", 1, 0.0)
    edit = method.lora()
    objective = make_objective(edit)
    with model.edited(edit):
        start = [parameter.detach().clone() for parameter in edit.parameters()]
        objective.gradients()
        gradients = [parameter.grad for parameter in edit.parameters()]
    erased = method.erase(model, CONCEPT).edit.parameters()
    moved = [after.detach() - before for after, before in zip(erased, start, strict=True)]
    assert max(float(step.abs().max()) for step in moved) > least
    for step, gradient in zip(moved, gradients, strict=True):
        expected = torch.zeros_like(step) if gradient is None else -method.learning_rate * gradient
        torch.testing.assert_close(step, expected, atol=1e-6, rtol=1e-3)
