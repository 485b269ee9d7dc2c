"""Quantised weights: bounded rounding, the edit rounded with them, and everything taken back bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tests.test_edits_delta import PATHS, deltas
from tests.test_edits_lora import filled, projections, random_call
from zbench.edits import (
    ComposedEdit,
    DeltaEdit,
    Edit,
    LoraEdit,
    NeuronMaskEdit,
    NoEdit,
    QuantisedEdit,
    TokenZeroingEdit,
    load_edit,
)
from zbench.edits.quantised import quantised
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model, load_model
from zbench.stages.integrity import ModelState

WHERE = "layers.1.attention.to_k"


@pytest.fixture(scope="module")
def model(tiny_pipeline_folder: Path) -> Model:
    """One model for all of these tests."""
    return load_model(tiny_pipeline_folder, "cpu")


def velocity(model: Model, edit: Edit) -> Tensor:
    """What an edit makes of some call."""
    with torch.no_grad(), model.edited(edit):
        return model.velocity(*random_call(model, (12, 20), [3, 50], 1))


def weight_at(model: Model, path: str) -> Tensor:
    module = model.transformer.get_submodule(path)
    assert isinstance(module, nn.Linear)
    return module.weight.detach().clone()


# Rounding -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 40),
    bits=st.integers(2, 8),
    group=st.none() | st.integers(1, 48),
    size=st.floats(1e-6, 1e6),
    seed=st.integers(0, 99),
)
def test_rounding_errs_by_half_a_step_at_most(
    rows: int, columns: int, bits: int, group: int | None, size: float, seed: int
) -> None:
    weight = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    rounded, levels, width = quantised(weight, bits, group), 2 ** (bits - 1) - 1, group or columns
    assert rounded.shape == weight.shape and torch.equal(quantised(-weight, bits, group), -rounded)
    for start in range(0, columns, width):
        for before, after in zip(
            weight[:, start : start + width], rounded[:, start : start + width], strict=True
        ):
            step = before.abs().max() / levels
            assert (after - before).abs().max() <= step * 0.5001
            assert len(after.unique()) <= 2 * levels + 1
            torch.testing.assert_close(after.abs().max(), before.abs().max())


def test_groups_are_rounded_apart_and_zeros_stay() -> None:
    weight = torch.tensor([[100.0, -3.0, 0.01, 0.02], [0.0, 0.0, 0.0, 0.0], [1e-45, 0.0, 1.0, -1.0]])
    assert torch.equal(quantised(weight, 8)[0, 2:], torch.zeros(2))
    torch.testing.assert_close(quantised(weight, 8, 2)[0, 2:], weight[0, 2:], rtol=1e-2, atol=0)
    assert torch.equal(quantised(weight, 4, 2)[1], torch.zeros(4))
    assert bool(quantised(weight, 4, 2).isfinite().all())
    # A last group may be smaller: here it holds the fourth channel alone, which so keeps its value.
    assert quantised(weight, 2, 3)[0, 3] == weight[0, 3]


# What is rounded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 16)])
def test_image_rows_go_through_the_weights_and_text_rows_through_the_edited_ones(
    model: Model, bits: int, group: int | None
) -> None:
    lora = filled(LoraEdit(4, alpha=3.0), model)
    original, update = weight_at(model, WHERE), lora.update_at(WHERE)
    assert update is not None
    with torch.no_grad(), model.edited(QuantisedEdit(lora, bits, group)), projections(model) as seen:
        model.velocity(*random_call(model, (12, 20), [3, 50], 1))
        start, (hidden, output) = model.rows.current.image[0], seen[WHERE]
    image = functional.linear(hidden, quantised(original, bits, group))
    text = functional.linear(hidden, quantised(original + update, bits, group))
    torch.testing.assert_close(output[:, :start], image[:, :start], rtol=0, atol=0)
    torch.testing.assert_close(output[:, start:], text[:, start:])
    assert not torch.allclose(image[:, start:], text[:, start:])


@pytest.mark.parametrize("make", [LoraEdit, DeltaEdit])
def test_edits_of_all_rows_are_rounded_in_place(model: Model, make: type[Edit]) -> None:
    edit = filled(LoraEdit(2, rows="all"), model) if make is LoraEdit else DeltaEdit(deltas(), rows="all")
    assert isinstance(edit, LoraEdit | DeltaEdit)
    path = PATHS[0]
    original, update = weight_at(model, path), edit.update_at(path)
    assert update is not None
    with model.edited(QuantisedEdit(edit, 4, 16)):
        assert torch.equal(weight_at(model, path), quantised(original + update, 4, 16))


def test_text_only_modules_are_rounded_in_place_and_others_added(model: Model) -> None:
    refiner, embedder = "context_refiner.0.attention.to_v", "cap_embedder.1"
    updates = {path: torch.full_like(weight_at(model, path), 0.05) for path in (refiner, embedder)}
    before = {path: weight_at(model, path) for path in updates}
    with model.edited(QuantisedEdit(DeltaEdit(updates))):
        for path, update in updates.items():
            assert torch.equal(weight_at(model, path), quantised(before[path] + update, 8))


def test_every_projection_of_the_blocks_is_rounded_and_nothing_else(model: Model) -> None:
    before = {name: value.clone() for name, value in model.transformer.state_dict().items()}
    with model.edited(QuantisedEdit(NoEdit())):
        now = model.transformer.state_dict()
        changed = {name for name in before if not torch.equal(before[name], now[name])}
    blocks = len(model.transformer.layers) + 2
    assert len(changed) == 7 * blocks
    assert all(".attention.to_" in name or ".feed_forward.w" in name for name in changed)


def test_a_small_update_is_lost_in_four_bits_and_a_large_one_is_not(model: Model) -> None:
    nothing = velocity(model, QuantisedEdit(NoEdit(), 4, 16))
    assert not torch.equal(nothing, velocity(model, NoEdit()))
    small = DeltaEdit({path: 1e-7 * delta for path, delta in deltas().items()})
    torch.testing.assert_close(velocity(model, QuantisedEdit(small, 4, 16)), nothing)
    assert not torch.allclose(velocity(model, QuantisedEdit(DeltaEdit(deltas()), 4, 16)), nothing)


def test_eight_bits_are_nearer_to_the_edit_than_four(model: Model) -> None:
    lora = filled(LoraEdit(4), model)
    whole = velocity(model, lora)
    eight, four = (velocity(model, QuantisedEdit(lora, bits)) - whole for bits in (8, 4))
    assert 0 < eight.norm() < four.norm() / 4


def test_guards_and_masks_act_on_rounded_weights(model: Model) -> None:
    mask = NeuronMaskEdit({WHERE: torch.zeros(48)})
    edit = QuantisedEdit(ComposedEdit([filled(LoraEdit(2), model), mask, TokenZeroingEdit(["nude"])]))
    with torch.no_grad(), model.edited(edit), projections(model) as seen:
        [caption] = model.encode(["a nude person on a beach"])
        model.velocity(model.noise([0]), torch.tensor([600.0]), [caption])
        start = model.rows.current.image[0]
        assert not seen[WHERE][1][:, start:].any() and seen[WHERE][1][:, :start].any()
        assert len(model.conditioning) == 1
    assert not model.conditioning


# Taking it back -------------------------------------------------------------------------------------------


def test_nothing_is_left(model: Model) -> None:
    edit = QuantisedEdit(ComposedEdit([filled(LoraEdit(2), model), TokenZeroingEdit(["nude"])]), 4, 16)
    before, plain = ModelState.of(model), velocity(model, NoEdit())
    for _ in range(2):
        velocity(model, edit)
    assert not before.changes(model)
    assert torch.equal(velocity(model, NoEdit()), plain)


def test_beside_other_edits(model: Model) -> None:
    other, fingerprint = filled(LoraEdit(2, rows="all"), model), model.fingerprint()
    inner, outer = QuantisedEdit(DeltaEdit(deltas())), QuantisedEdit(NoEdit(), 4)
    for edit in (other, inner, outer):
        edit.attach(model)
    for edit in (outer, other, inner):
        edit.detach()
    assert model.fingerprint() == fingerprint


def test_an_edit_of_another_model_leaves_the_weights_alone(model: Model) -> None:
    before = ModelState.of(model)
    wrong = {PATHS[0]: deltas()[PATHS[0]], PATHS[2]: torch.ones(4, 4)}
    with pytest.raises(WeightsError, match="another model"):
        QuantisedEdit(DeltaEdit(wrong)).attach(model)
    with pytest.raises(ConfigurationError, match=r"layers\.9"):
        QuantisedEdit(DeltaEdit({"layers.9.attention.to_k": torch.ones(48, 48)})).attach(model)
    assert not before.changes(model) and not model.edits


def test_bfloat16(tiny_pipeline_folder: Path) -> None:
    half = load_model(tiny_pipeline_folder, "cpu")
    half.transformer.to(torch.bfloat16)
    before, lora = half.fingerprint(), filled(LoraEdit(4), half)
    original, update = weight_at(half, WHERE), lora.update_at(WHERE)
    with model_quantised(half, lora):
        expected = quantised(original, 4, 16).to(torch.bfloat16)
        assert torch.equal(weight_at(half, WHERE), expected) and update is not None
        assert bool(half.velocity(*random_call(half, (12, 20), [3, 50], 1)).isfinite().all())
    assert half.fingerprint() == before


def model_quantised(model: Model, edit: Edit) -> Any:
    return model.edited(QuantisedEdit(edit, 4, 16))


# Files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [NoEdit, lambda: DeltaEdit(deltas()), lambda: ComposedEdit([DeltaEdit(deltas()), NoEdit()])]
)
def test_round_trip_is_exact(model: Model, tmp_path: Path, make: Any) -> None:
    edit = QuantisedEdit(make(), 4, 16)
    edit.save(tmp_path / "edit", model)
    loaded = load_edit(tmp_path / "edit")
    assert isinstance(loaded, QuantisedEdit) and loaded.describe() == edit.describe()
    assert torch.equal(velocity(model, loaded), velocity(model, edit))


def test_another_number_of_bits_does_not_reproduce_the_probe(model: Model, tmp_path: Path) -> None:
    QuantisedEdit(DeltaEdit(deltas()), 8).save(tmp_path / "edit", model)
    description = json.loads((tmp_path / "edit" / "edit.json").read_text())
    description["settings"]["bits"] = 4
    (tmp_path / "edit" / "edit.json").write_text(json.dumps(description))
    with pytest.raises(WeightsError, match="reproduce"):
        load_edit(tmp_path / "edit").attach(model)
    (tmp_path / "edit" / "inner" / "edit.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_edit(tmp_path / "edit")


class OwnWeights(Edit):
    """Changes weights by means of its own."""

    kind = "test-own-weights"
    seam = "weights"

    def _install(self, model: Model) -> None:
        raise AssertionError("never attached")

    def _remove(self, model: Model) -> None:
        pass

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls()


@pytest.mark.parametrize("inner", [QuantisedEdit(NoEdit()), ComposedEdit([OwnWeights()])])
def test_what_cannot_be_rounded(inner: Edit) -> None:
    with pytest.raises(ConfigurationError, match="unknown"):
        QuantisedEdit(inner)


@pytest.mark.parametrize(("bits", "group"), [(1, None), (9, None), (4, 0)])
def test_bad_values(bits: int, group: int | None) -> None:
    with pytest.raises(ConfigurationError, match="2 to 8"):
        QuantisedEdit(NoEdit(), bits, group)
