"""Swapped text states: every text row, the nearest step, and not one bit of an image row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import Tensor

from tests.test_edits_lora import CALLS, QUICK, random_call
from tests.transcription import Reference, assert_close
from zbench.edits import StateSwapEdit, load_edit
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model

LONG = "a red car " * 12 + "and a nude person in the rain"
TIMES = torch.tensor([900.0, 500.0, 100.0])


def random_states(layers: tuple[int, ...] = (0, 2), rows: int = 32) -> dict[int, Tensor]:
    source = torch.Generator().manual_seed(3)
    return {layer: torch.randn(3, rows, 48, generator=source) for layer in layers}


def attention_inputs(
    model: Model, call: tuple[Tensor, Tensor, list[Tensor]]
) -> tuple[Tensor, dict[int, Tensor]]:
    """The velocity, and text rows entering every layer's attention, by hooks of the test's own."""
    seen: dict[int, Tensor] = {}
    _, height, width = model.latent_shape()
    start = -(-(height // 2) * (width // 2) // 32) * 32
    handles = [
        layer.attention.register_forward_pre_hook(
            lambda module, args, index=index: seen.update({index: args[0][:, start:]})
        )
        for index, layer in enumerate(model.transformer.layers)
    ]
    with torch.no_grad():
        velocity = model.velocity(*call)
    for handle in handles:
        handle.remove()
    return velocity, seen


@pytest.mark.parametrize("phrases", [(), ("nude",)], ids=["always", "phrases"])
def test_it_is_the_transcription_with_overwritten_rows(tiny_model: Model, phrases: tuple[str, ...]) -> None:
    prompts, steps = ["a nude person on a beach", "a house", LONG], [0, 1, 2]
    states, times = random_states(), torch.tensor([880.0, 699.0, 12.0])
    reference = Reference(tiny_model)
    swapped = [0, 2] if phrases else [0, 1, 2]
    lengths = [-(-len(caption) // 32) * 32 for caption in tiny_model.encode(prompts)]
    assert lengths[0] == 32 < lengths[2]

    def overwrite(layer: int) -> object:
        def hook(module: object, args: tuple[Tensor], kwargs: object) -> tuple[tuple[Tensor], object]:
            hidden = args[0].clone()
            for sample in swapped:
                for row in range(lengths[sample]):
                    stored = states[layer][steps[sample], min(row, 31)].double()
                    hidden[sample, reference.text_start + row] = stored
            return (hidden,), kwargs

        return hook

    for layer in states:
        attention = reference.transformer.layers[layer].attention
        attention.register_forward_pre_hook(overwrite(layer), with_kwargs=True)
    with torch.no_grad(), tiny_model.edited(StateSwapEdit(states, TIMES, phrases)):
        inputs = tiny_model.noise([1, 2, 3]), times, tiny_model.encode(prompts)
        assert_close(tiny_model.velocity(*inputs), reference.velocity(*inputs, live=False), 1e-4)


def test_all_layers_at_the_recorded_point_give_the_clean_prediction(tiny_model: Model) -> None:
    """What the picture sees of a caption are its keys and values, so nothing of the prompt is left."""
    noise, time = tiny_model.noise([5]), torch.tensor([700.0])
    clean, rows = attention_inputs(tiny_model, (noise, time, tiny_model.encode(["a person"])))
    edit = StateSwapEdit(rows, time)
    with torch.no_grad(), tiny_model.edited(edit):
        for prompt in ("a nude person on a beach", "a house"):
            torch.testing.assert_close(
                tiny_model.velocity(noise, time, tiny_model.encode([prompt])), clean, rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("phrases", [(), ("nude",)], ids=["always", "phrases"])
def test_every_text_row_of_a_long_caption_is_overwritten(tiny_model: Model, phrases: tuple[str, ...]) -> None:
    """Defect D14: the port left the rows beyond the clean prompt's, and with them the concept."""
    inputs: dict[str, Tensor] = {}
    module = tiny_model.transformer.layers[1].attention.to_k
    handle = module.register_forward_pre_hook(lambda module, args: inputs.update({"hidden": args[0][0]}))
    edit = StateSwapEdit(random_states((1,)), TIMES, phrases)
    with torch.no_grad(), tiny_model.edited(edit):
        caption = tiny_model.encode([LONG])
        tiny_model.velocity(tiny_model.noise([0]), torch.tensor([450.0]), caption)
    handle.remove()
    text = inputs["hidden"][Reference(tiny_model).text_start :]
    assert len(text) > 32
    assert torch.equal(text[:32], edit.states[1][1])
    assert torch.equal(text[32:], edit.states[1][1, -1:].expand(len(text) - 32, -1))


def test_only_prompts_that_name_a_phrase(tiny_model: Model) -> None:
    prompts = ["a house", "a Nude person", "nudes", "a red car"]
    plain = tiny_model.generate(prompts, range(4), steps=2)
    for phrases, expected in ((("nude",), [False, True, False, False]), ((), [True] * 4)):
        with tiny_model.edited(StateSwapEdit(random_states(), TIMES, phrases)):
            edited = tiny_model.generate(prompts, range(4), steps=2)
        assert [not torch.equal(*pair) for pair in zip(plain, edited, strict=True)] == expected
    assert torch.equal(tiny_model.generate(prompts, range(4), steps=2), plain)


@QUICK
@given(**CALLS)
def test_image_rows_enter_the_projections_bit_for_bit(
    tiny_model: Model, side: tuple[int, int], lengths: list[int], seed: int
) -> None:
    attention, seen = tiny_model.transformer.layers[2].attention, {}
    handles = [
        attention.register_forward_pre_hook(lambda module, args: seen.update({"before": args[0]})),
        attention.to_q.register_forward_pre_hook(lambda module, args: seen.update({"after": args[0]})),
    ]
    edit = StateSwapEdit(random_states(), TIMES)
    with torch.no_grad(), tiny_model.edited(edit):
        tiny_model.velocity(*random_call(tiny_model, side, lengths, seed))
    for handle in handles:
        handle.remove()
    start = tiny_model.rows.current.image[0]
    assert edit.rows == "text" and torch.equal(seen["before"][:, :start], seen["after"][:, :start])
    assert (seen["before"][:, start:] != seen["after"][:, start:]).any(dim=2).all()


def test_saved_and_loaded(tiny_model: Model, tmp_path: Path) -> None:
    edit = StateSwapEdit(random_states(), TIMES, ("nude", "naked"), [0.5, 0.1, 0.3])
    with tiny_model.edited(edit):
        edited = tiny_model.generate(["a naked person"], [0], steps=2)
    for phrases in (("nude", "naked"), ()):
        edit.phrases = phrases
        edit.save(tmp_path / "edit", tiny_model)
        loaded = load_edit(tmp_path / "edit")
        assert isinstance(loaded, StateSwapEdit) and loaded.describe() == edit.describe()
        assert all(torch.equal(loaded.tensors()[name], value) for name, value in edit.tensors().items())
        with tiny_model.edited(loaded):
            assert torch.equal(tiny_model.generate(["a naked person"], [0], steps=2), edited)


def test_what_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least one layer"):
        StateSwapEdit({}, TIMES)
    with pytest.raises(ConfigurationError, match="one shape"):
        StateSwapEdit({0: torch.ones(3, 4, 48), 1: torch.ones(3, 5, 48)}, TIMES)
    with pytest.raises(ConfigurationError, match="3 timesteps"):
        StateSwapEdit({0: torch.ones(2, 4, 48)}, TIMES)
    with pytest.raises(ConfigurationError, match="0 to 2"):
        StateSwapEdit({5: torch.ones(3, 4, 48)}, TIMES).attach(tiny_model)
    with pytest.raises(WeightsError, match="another model"):
        StateSwapEdit({0: torch.ones(3, 4, 50)}, TIMES).attach(tiny_model)
    assert tiny_model.conditioning == []
    edit = StateSwapEdit(random_states(), TIMES)
    edit.save(tmp_path / "edit", tiny_model)
    with pytest.raises(WeightsError, match=r"1 keys missing or unknown, layers\.2"):
        StateSwapEdit._restore(tmp_path / "edit", {"layers": [0], "phrases": [], "scores": []})
