"""Localisation scores: the score as written, and a planted layer found wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.transcription import CONCEPT, Processor, Reference
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.training import SpanContributions, dominant_layers, localisation_scores, seeds_for

LONG = CONCEPT.model_copy(
    update={"training_prompts": (*CONCEPT.training_prompts[:1], "a red car " * 12 + "and a naked person")}
)
ARTEFACT = [19, 22, 21, 20, 17, 16]


class Contributions(Processor):
    """Explicit maps: the norm of W_O (A[I, span] V[span]) per image query, kept by the reference."""

    def __init__(self, reference: Reference, layer: int, columns: list[int], norms: list[Tensor]) -> None:
        super().__init__(reference, layer)
        self.columns, self.norms = columns, norms

    def output(self, attn: Any, scores: Tensor, value: Tensor) -> Tensor:
        maps, out = scores.softmax(dim=-1), attn.to_out[0].weight.T
        span = [self.reference.text_start + column for column in self.columns]
        part = torch.einsum("bhqk,bkhd->bqhd", maps[..., span], value[:, span]).flatten(2) @ out
        self.norms.append(part[:, : self.reference.image_rows].norm(dim=-1).mean())
        return torch.einsum("bhqk,bkhd->bqhd", maps, value).flatten(2) @ out


def transcribed_scores(model: Model, trajectories: int) -> list[float]:
    """One sample at a time, so that no batch padding can be got wrong."""
    reference = Reference(model)
    norms: list[list[Tensor]] = [[] for _ in reference.transformer.layers]
    for entry, seed in enumerate(seeds_for("localisation", 0, trajectories)):
        prompt, phrase = LONG.training_prompts[entry % 2], ("nude", "naked")[entry % 2]
        columns = list(range(*model.token_span(prompt, phrase)[0]))
        for layer, kept in enumerate(norms):
            processor = Contributions(reference, layer, columns, kept)
            reference.transformer.layers[layer].attention.set_processor(processor)
        path = model.trajectory(model.encode([prompt]), [seed])
        for state, time in zip(path.latents, path.timesteps, strict=False):
            with torch.no_grad():
                reference.velocity(state, time[None], model.encode([prompt]), live=False)
    assert all(len(kept) == trajectories * model.spec.steps for kept in norms)
    return [float(torch.stack(kept).mean()) for kept in norms]


@pytest.mark.parametrize("batch_size", [2, 3])
def test_scores_are_the_transcription_with_explicit_maps(tiny_model: Model, batch_size: int) -> None:
    lengths = [-(-len(caption) // 32) for caption in tiny_model.encode(LONG.training_prompts)]
    assert lengths[0] != lengths[1], "the batch must be padded"
    scores = localisation_scores(tiny_model, LONG, trajectories=3, batch_size=batch_size)
    assert scores == pytest.approx(transcribed_scores(tiny_model, 3), rel=1e-4)


@contextmanager
def planted(model: Model, layer: int, module: str, scale: float) -> Iterator[None]:
    weight = model.transformer.get_submodule(f"layers.{layer}.attention.{module}").weight
    before = weight.detach().clone()
    weight.data.mul_(scale)
    try:
        yield
    finally:
        weight.data.copy_(before)


@pytest.mark.parametrize("module", ["to_v", "to_out.0"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_planted_layer_ranks_first(tiny_model: Model, layer: int, module: str) -> None:
    """Defect D13: the released scores were zero everywhere, whatever the weights."""
    plain = localisation_scores(tiny_model, CONCEPT, trajectories=2)
    with planted(tiny_model, layer, module, 20.0):
        scores = localisation_scores(tiny_model, CONCEPT, trajectories=2)
    assert dominant_layers(scores, 3)[0] == layer
    assert scores[layer] > 3 * max(score for index, score in enumerate(scores) if index != layer)
    assert scores[:layer] == pytest.approx(plain[:layer], rel=0.9), "layers before it are not blown up"


def test_a_layer_planted_for_the_span_only(tiny_model: Model) -> None:
    """Values of the concept's rows grow in one layer, and of no other rows: still found; others are not."""
    layer, prompt = 1, CONCEPT.training_prompts[0]
    start, span = Reference(tiny_model).text_start, tiny_model.token_span(prompt, "nude")[0]
    other = tiny_model.token_span(prompt, "beach")[0]

    def enlarge(module: object, args: object, values: Tensor) -> Tensor:
        factor = torch.ones(values.shape[1])
        factor[start + span[0] : start + span[1]] = 50.0
        return values * factor[None, :, None]

    handle = tiny_model.transformer.layers[layer].attention.to_v.register_forward_hook(enlarge)
    try:
        totals = {}
        for name, (begin, end) in (("concept", span), ("other", other)):
            with SpanContributions(tiny_model, [list(range(begin, end))]) as seen:
                tiny_model.trajectory(tiny_model.encode([prompt]), [3])
            totals[name] = [float(total) for total in seen.totals.values()]
    finally:
        handle.remove()
    assert dominant_layers(totals["concept"], 1) == [layer]
    assert totals["concept"][layer] > 10 * totals["other"][layer]


def test_scores_differ_and_are_no_artefact(tiny_model: Model) -> None:
    scores = localisation_scores(tiny_model, CONCEPT, trajectories=2)
    assert min(scores) > 0 and len(set(scores)) == len(scores)
    assert dominant_layers([0.0] * 30, 6) == [0, 1, 2, 3, 4, 5] != ARTEFACT
    assert dominant_layers([0.1, 0.3, 0.2, 0.3], 3) == [1, 3, 2]


def test_watching_changes_nothing_and_ends(tiny_model: Model) -> None:
    captions = tiny_model.encode(CONCEPT.training_prompts)
    plain = tiny_model.trajectory(captions, [1, 2]).latents
    with SpanContributions(tiny_model, [[3], [4]]) as seen:
        inside = tiny_model.trajectory(captions, [1, 2]).latents
    totals = {layer: total.clone() for layer, total in seen.totals.items()}
    assert torch.equal(inside, plain) and seen.calls == tiny_model.spec.steps
    tiny_model.trajectory(captions, [1, 2])
    assert seen.calls == tiny_model.spec.steps
    assert all(torch.equal(total, totals[layer]) for layer, total in seen.totals.items())
    assert not tiny_model.transformer.layers[0].attention.to_v._forward_hooks


def test_what_is_refused(tiny_model: Model) -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    with pytest.raises(ConfigurationError, match="No training prompt of 'nudity'"):
        localisation_scores(tiny_model, silent)
    with pytest.raises(ConfigurationError, match="top 4 layers of 3"):
        dominant_layers([1.0, 2.0, 3.0], 4)
    with (
        pytest.raises(ValueError, match="columns for 1 samples"),
        SpanContributions(tiny_model, [[3]]),
    ):
        tiny_model.trajectory(tiny_model.encode(CONCEPT.training_prompts), [1, 2])
