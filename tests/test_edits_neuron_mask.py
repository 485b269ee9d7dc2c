"""Neuron masks: image rows bit for bit, the neurons that are named and no others, gone without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import Tensor

from tests.test_edits_lora import CALLS, QUICK, filled, random_call
from zbench.edits import ComposedEdit, LoraEdit, NeuronMaskEdit, load_edit
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model

HIDDEN, HEADS = 128, 2
UNITS = {
    "layers.0.feed_forward.w2": HIDDEN,
    "layers.1.attention.to_out.0": HEADS,
    "layers.0.attention.to_v": HEADS,
    "layers.2.attention.to_v": 48,
}


def masks() -> dict[str, Tensor]:
    """About half of the units of some modules off, at least one each."""
    generator = torch.Generator().manual_seed(3)
    drawn = {path: torch.rand(units, generator=generator).round() for path, units in UNITS.items()}
    for mask in drawn.values():
        mask[0], mask[-1] = 0.0, 1.0
    return drawn


@contextmanager
def unmasked(model: Model) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What the modules are given and what they would make of it without a mask on them."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(path: str) -> object:
        def hook(module: torch.nn.Linear, args: tuple[Tensor, ...]) -> None:
            seen[path] = args[0], torch.nn.functional.linear(args[0], module.weight)

        return hook

    # Before the mask's own hooks: it is attached inside this context.
    handles = [model.transformer.get_submodule(p).register_forward_pre_hook(keep(p)) for p in UNITS]
    yield seen
    for handle in handles:
        handle.remove()


@contextmanager
def outputs(model: Model) -> Iterator[dict[str, Tensor]]:
    """What the modules give after all."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.transformer.get_submodule(path).register_forward_hook(
            lambda module, args, output, key=path: seen.update({key: output})
        )
        for path in UNITS
    ]
    yield seen
    for handle in handles:
        handle.remove()


@QUICK
@given(**CALLS)
def test_image_rows_bit_for_bit_and_text_rows_masked(
    tiny_model: Model, side: tuple[int, int], lengths: list[int], seed: int
) -> None:
    edit = NeuronMaskEdit(masks())
    with (
        torch.no_grad(),
        unmasked(tiny_model) as given_,
        tiny_model.edited(edit),
        outputs(tiny_model) as seen,
    ):
        tiny_model.velocity(*random_call(tiny_model, side, lengths, seed))
        start = tiny_model.rows.current.image[0]
        for path, mask in masks().items():
            hidden, free = given_[path]
            assert torch.equal(seen[path][:, :start], free[:, :start]), path
            weight = tiny_model.transformer.get_submodule(path).weight.double()
            text = hidden[:, start:].double()
            if path.endswith("to_v"):
                expected = (text @ weight.T) * mask.repeat_interleave(48 // len(mask))
            else:
                expected = (text * mask.repeat_interleave(text.shape[-1] // len(mask))) @ weight.T
            torch.testing.assert_close(seen[path][:, start:].double(), expected, rtol=1e-4, atol=1e-5)


def test_pictures_of_two_sizes_in_one_call(tiny_model: Model) -> None:
    width, channels = tiny_model.transformer.config.cap_feat_dim, tiny_model.latent_shape()[0]
    latents = [torch.randn(channels, 1, 8, 8), torch.randn(channels, 1, 24, 16)]
    captions = [torch.randn(40, width), torch.randn(5, width)]
    path = "layers.0.feed_forward.w2"
    with torch.no_grad(), unmasked(tiny_model) as given_:
        with tiny_model.edited(NeuronMaskEdit({path: torch.zeros(HIDDEN)})), outputs(tiny_model) as seen:
            tiny_model.transformer(latents, torch.tensor([0.5, 0.5]), captions, return_dict=False)
        changed = (seen[path] != given_[path][1]).any(dim=2)
    assert changed[0].nonzero().min() == 32 and changed[1].nonzero().min() == 96
    assert not seen[path][0, 32:96].any() and not seen[path][1, 96:].any()


def test_detaching_restores_bit_for_bit(tiny_model: Model) -> None:
    call, edit = random_call(tiny_model, (12, 20), [3, 50], 1), NeuronMaskEdit(masks())
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        for _ in range(2):
            with tiny_model.edited(edit):
                assert not torch.equal(tiny_model.velocity(*call), before)
            assert torch.equal(tiny_model.velocity(*call), before)
    assert edit.parameters() == []


def test_a_mask_of_ones_changes_nothing(tiny_model: Model) -> None:
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    edit = NeuronMaskEdit({path: torch.ones(units) for path, units in UNITS.items()})
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        with tiny_model.edited(edit):
            assert torch.equal(tiny_model.velocity(*call), before)


def test_a_picture_does_not_see_its_batch(tiny_model: Model) -> None:
    latents, timesteps, captions = random_call(tiny_model, (12, 20), [3, 50, 20], 1)
    with torch.no_grad(), tiny_model.edited(NeuronMaskEdit(masks())):
        together = tiny_model.velocity(latents, timesteps, captions)
        alone = tiny_model.velocity(latents[1:2], timesteps[1:2], captions[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_masks_do_the_same(tiny_model: Model, tmp_path: Path) -> None:
    edit, call = NeuronMaskEdit(masks()), random_call(tiny_model, (12, 20), [3, 50], 1)
    edit.save(tmp_path, tiny_model)
    loaded = load_edit(tmp_path)
    assert isinstance(loaded, NeuronMaskEdit) and loaded.settings() == edit.settings()
    assert loaded.settings()["modules"]["layers.0.attention.to_v"] == {"off": 1, "units": 2}
    with torch.no_grad():
        with tiny_model.edited(edit):
            expected = tiny_model.velocity(*call)
        with tiny_model.edited(loaded):
            assert torch.equal(tiny_model.velocity(*call), expected)


def test_masks_compose_with_a_lora_on_other_modules(tiny_model: Model) -> None:
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    lora = filled(LoraEdit(2, targets=("to_q", "to_k")), tiny_model)
    mask, results = NeuronMaskEdit(masks()), []
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        for parts in ([mask, lora], [lora, mask]):
            with tiny_model.edited(ComposedEdit(parts)):
                results.append(tiny_model.velocity(*call))
            assert torch.equal(tiny_model.velocity(*call), before)
    torch.testing.assert_close(*results)


def test_what_cannot_be_attached(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        NeuronMaskEdit({})
    with pytest.raises(ConfigurationError, match="0 and 1"):
        NeuronMaskEdit({"layers.0.feed_forward.w2": torch.tensor([0.5])})
    with pytest.raises(ConfigurationError, match="image rows only"):
        NeuronMaskEdit({"noise_refiner.0.feed_forward.w2": torch.ones(128)})
    for path in ("layers.9.feed_forward.w2", "layers.0.feed_forward"):
        with pytest.raises(ConfigurationError, match="no linear module"):
            NeuronMaskEdit({path: torch.ones(128)}).attach(tiny_model)
    with pytest.raises(WeightsError, match="5 units, the module 128"):
        NeuronMaskEdit({"layers.0.feed_forward.w2": torch.ones(5)}).attach(tiny_model)
