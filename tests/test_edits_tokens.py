"""Token zeroing: the columns it says, whoever carries the caption to the transformer, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.test_edits_lora import filled, frozen_weight, projections, random_call
from tests.test_training_attention import Shapes
from tests.tiny import save_tiny_pipeline
from tests.transcription import Processor, Reference, assert_close
from zbench.edits import ComposedEdit, LoraEdit, TokenZeroingEdit, load_edit
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model

PHRASES = ("nude", "naked")
PROMPTS = ["a nude person on a beach", "a house", "a red car " * 12 + "and a Naked nude person in the rain"]


class ZeroedProcessor(Processor):
    """Explicit maps with columns set to zero: after the softmax, or before it."""

    def __init__(self, reference: Reference, layer: int, columns: list[list[int]], before: bool) -> None:
        super().__init__(reference, layer)
        self.columns, self.before = columns, before

    def output(self, attn: Any, scores: Tensor, value: Tensor) -> Tensor:
        zeroed = torch.zeros(value.shape[:2], dtype=torch.bool)
        for sample, columns in enumerate(self.columns):
            for column in columns:
                zeroed[sample, self.reference.text_start + column] = True
        if self.before:
            scores = scores.masked_fill(zeroed[:, None, None, :], -torch.inf)
        maps = scores.softmax(dim=-1).masked_fill(zeroed[:, None, None, :], 0.0)
        return torch.einsum("bhqk,bkhd->bqhd", maps, value).flatten(2) @ attn.to_out[0].weight.T


def spans(model: Model, prompt: str) -> list[int]:
    found = [span for phrase in PHRASES for span in model.token_span(prompt, phrase)]
    return sorted(index for start, end in found for index in range(start, end))


def call(model: Model, prompts: list[str]) -> tuple[Tensor, Tensor, list[Tensor]]:
    count = len(prompts)
    return model.noise(range(count)), torch.linspace(900.0, 200.0, count), model.encode(prompts)


@pytest.mark.parametrize("renormalise", [False, True], ids=["after softmax", "before softmax"])
@pytest.mark.parametrize(("tokens", "layers"), [("span", None), ("onward", (1, 2)), ("span", (0,))])
def test_it_is_the_map_with_zeroed_columns(
    tiny_model: Model, tokens: str, layers: tuple[int, ...] | None, renormalise: bool
) -> None:
    columns = [spans(tiny_model, prompt) for prompt in PROMPTS]
    assert [bool(found) for found in columns] == [True, False, True]
    if tokens == "onward":
        lengths = [len(embedding) for embedding in tiny_model.encode(PROMPTS)]
        columns = [list(range(c[0], length)) if c else c for c, length in zip(columns, lengths, strict=True)]
    reference = Reference(tiny_model)
    for layer in (0, 1, 2) if layers is None else layers:
        replaced = ZeroedProcessor(reference, layer, columns, renormalise)
        reference.transformer.layers[layer].attention.set_processor(replaced)
    edit = TokenZeroingEdit(PHRASES, tokens, layers, renormalise)  # type: ignore[arg-type]
    with torch.no_grad(), tiny_model.edited(edit):
        inputs = call(tiny_model, PROMPTS)
        assert len({-(-len(embedding) // 32) for embedding in inputs[2]}) > 1, "captions must pad unequally"
        assert_close(tiny_model.velocity(*inputs), reference.velocity(*inputs, live=False), 1e-4)


def test_no_attention_map_is_ever_built(tiny_model: Model) -> None:
    with torch.no_grad(), tiny_model.edited(TokenZeroingEdit(PHRASES)):
        inputs = call(tiny_model, [PROMPTS[0], "a naked person"])
        with Shapes() as shapes:
            tiny_model.velocity(*inputs)
    length = Reference(tiny_model).text_start + 32
    # Two samples of two heads: a map is [2, 2, S, S] or [4, S, S].
    per_head = [shape for shape in shapes.seen if len(shape) == 4 or (len(shape) == 3 and shape[0] == 4)]
    assert any(length in shape for shape in per_head), "keys do pass by"
    assert not [shape for shape in per_head if shape[-1] == shape[-2] == length]


def test_pictures_of_named_prompts_change_and_no_others(tiny_model: Model) -> None:
    prompts = [PROMPTS[1], PROMPTS[0], PROMPTS[2], "an apple and a tree", "NAKED"]
    plain = tiny_model.generate(prompts, range(5), steps=2)
    with tiny_model.edited(TokenZeroingEdit(PHRASES)):
        together = tiny_model.generate(prompts, range(5), steps=2)
        alone = torch.cat([tiny_model.generate([p], [seed], steps=2) for seed, p in enumerate(prompts)])
    changed = [not torch.equal(*pair) for pair in zip(plain, together, strict=True)]
    assert changed == [False, True, True, False, True]
    assert (together.int() - alone.int()).abs().max() <= 1, "the batch changed a picture"


def test_captions_are_known_after_casts_and_in_any_order(tiny_model: Model) -> None:
    with torch.no_grad(), tiny_model.edited(TokenZeroingEdit(PHRASES)) as edit:
        noise, time, captions = call(tiny_model, PROMPTS)
        expected = tiny_model.velocity(noise, time, captions)
        wide = [caption.double() for caption in captions]
        assert torch.equal(tiny_model.velocity(noise, time, wide), expected)
        copies = [caption.clone().requires_grad_() for caption in captions]
        assert torch.equal(tiny_model.velocity(noise, time, copies), expected)
        back = tiny_model.velocity(noise.flip(0), time.flip(0), captions[::-1]).flip(0)
        torch.testing.assert_close(back, expected, rtol=1e-4, atol=1e-4)
        narrow = [caption.bfloat16() for caption in captions]
        edited = tiny_model.velocity(noise, time, narrow)
        edit.detach()
        unedited = tiny_model.velocity(noise, time, narrow)
        edit.attach(tiny_model)
    assert [not torch.equal(*pair) for pair in zip(edited, unedited, strict=True)] == [True, False, True]


def test_unknown_captions_are_left_alone(tiny_model: Model) -> None:
    before = call(tiny_model, PROMPTS[:1])
    with torch.no_grad():
        plain = tiny_model.velocity(*before)
        with tiny_model.edited(TokenZeroingEdit(PHRASES)):
            assert torch.equal(tiny_model.velocity(*before), plain), "no prompt came with it"
            known = tiny_model.encode(PROMPTS[:1])[0]
            assert not torch.equal(tiny_model.velocity(*before), plain)
            moved = known.clone()
            moved[3, 5] += 0.1
            inside = tiny_model.velocity(*before[:2], [moved])
        assert torch.equal(inside, tiny_model.velocity(*before[:2], [moved]))


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a nude person", True),
        ("a NuDe, person", True),
        ("a nudee person", False),
        ("an unnude person", False),
        ("a n-ude person", False),
        ("a nakedness", False),
    ],
)
def test_misspellings_and_affixes_escape(tiny_model: Model, prompt: str, found: bool) -> None:
    """Observation 1 of the Z-Erase paper: "Applee" brings the apple back."""
    plain = tiny_model.generate([prompt], [0], steps=1)
    with tiny_model.edited(TokenZeroingEdit(PHRASES, "onward")):
        assert torch.equal(tiny_model.generate([prompt], [0], steps=1), plain) is not found


def test_detached_exactly_saved_and_loaded(tiny_model: Model, tmp_path: Path) -> None:
    plain = tiny_model.generate(PROMPTS[:2], [0, 1], steps=1)
    edit = TokenZeroingEdit(PHRASES, "onward", (2, 0), renormalise=True)
    with tiny_model.edited(edit):
        edited = tiny_model.generate(PROMPTS[:2], [0, 1], steps=1)
    assert torch.equal(tiny_model.generate(PROMPTS[:2], [0, 1], steps=1), plain)
    assert tiny_model.conditioning == []
    edit.save(tmp_path / "edit", tiny_model)
    loaded = load_edit(tmp_path / "edit")
    assert loaded.describe() == edit.describe() and edit.describe()["layers"] == [0, 2]
    with tiny_model.edited(loaded):
        assert torch.equal(tiny_model.generate(PROMPTS[:2], [0, 1], steps=1), edited)


def test_captions_stay_known_while_another_edit_is_saved(tiny_model: Model, tmp_path: Path) -> None:
    with torch.no_grad(), tiny_model.edited(TokenZeroingEdit(PHRASES)):
        inputs = call(tiny_model, PROMPTS[:1])
        expected = tiny_model.velocity(*inputs)
        filled(LoraEdit(2), tiny_model).save(tmp_path / "lora", tiny_model)
        assert torch.equal(tiny_model.velocity(*inputs), expected)


def test_adapters_are_zeroed_with_the_values_in_either_order(tiny_model: Model) -> None:
    lora, zeroing, results = filled(LoraEdit(2), tiny_model), TokenZeroingEdit(PHRASES), []
    with torch.no_grad():
        for parts in ([lora, zeroing], [zeroing, lora]):
            with tiny_model.edited(ComposedEdit(parts)):
                results.append(tiny_model.velocity(*call(tiny_model, PROMPTS)))
    assert torch.equal(results[0], results[1])


def test_gradients_are_those_of_the_call_with_checkpointing_too(tiny_model: Model) -> None:
    lora, results = filled(LoraEdit(2), tiny_model), []
    edit = ComposedEdit([lora, TokenZeroingEdit(PHRASES)])
    for checkpointing in (False, True):
        with tiny_model.edited(edit):
            if checkpointing:
                tiny_model.transformer.enable_gradient_checkpointing()
            loss = tiny_model.velocity(*call(tiny_model, PROMPTS)).square().mean()
            # A call in between must not lend its captions to the layers that run again.
            with torch.no_grad():
                tiny_model.velocity(*call(tiny_model, ["a house"]))
            results.append(torch.autograd.grad(loss, lora.parameters()))
            tiny_model.transformer.disable_gradient_checkpointing()
    assert any(bool(gradient.any()) for gradient in results[0])
    for plain, again in zip(*results, strict=True):
        torch.testing.assert_close(plain, again)


def test_projections_of_all_rows_are_the_frozen_ones(tiny_model: Model) -> None:
    with (
        torch.no_grad(),
        tiny_model.edited(TokenZeroingEdit(PHRASES)) as edit,
        projections(tiny_model) as seen,
    ):
        assert edit.rows == "text"
        tiny_model.velocity(*call(tiny_model, PROMPTS))
        start = tiny_model.rows.current.image[0]
        for path, (hidden, output) in seen.items():
            frozen = torch.nn.functional.linear(hidden, frozen_weight(tiny_model, path))
            assert torch.equal(output[:, :start], frozen[:, :start])


def test_runs_in_bfloat16(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "pipeline", layers=2)
    settings = json.loads((folder / "zbench-model.json").read_text())
    (folder / "zbench-model.json").write_text(json.dumps({**settings, "dtype": "bfloat16"}))
    model = load_model(folder, "cpu")
    plain = model.generate(PROMPTS, [0, 1, 2], steps=1)
    for renormalise in (False, True):
        with model.edited(TokenZeroingEdit(PHRASES, renormalise=renormalise)):
            edited = model.generate(PROMPTS, [0, 1, 2], steps=1)
            # Attacks keep captions in float32 although the transformer runs in bfloat16.
            wide = [caption.float() for caption in model.encode(PROMPTS)]
            call_ = model.noise([0, 1, 2]), torch.full((3,), 700.0)
            with torch.no_grad():
                same = [model.velocity(*call_, captions) for captions in (wide, model.encode(PROMPTS))]
            assert torch.equal(*same)
        changed = [not torch.equal(*pair) for pair in zip(plain, edited, strict=True)]
        assert changed == [True, False, True]


def test_what_is_refused(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match="needs phrases"):
        TokenZeroingEdit(())
    with pytest.raises(ConfigurationError, match="not 'all'"):
        TokenZeroingEdit(PHRASES, "all")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="empty phrase"):
        TokenZeroingEdit(("nude", " "))
    with pytest.raises(ConfigurationError, match="at least one layer"):
        TokenZeroingEdit(PHRASES, layers=())
    with pytest.raises(ConfigurationError, match=r"layers \[1, 7\].*0 to 2"):
        TokenZeroingEdit(PHRASES, layers=(7, 1)).attach(tiny_model)
    assert tiny_model.conditioning == []
    random = random_call(tiny_model, (8, 8), [5], 0)
    with torch.no_grad(), tiny_model.edited(TokenZeroingEdit(PHRASES)):
        inside = tiny_model.velocity(*random)
    assert torch.equal(inside, tiny_model.velocity(*random))
