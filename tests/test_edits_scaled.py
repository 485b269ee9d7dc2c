"""Edits at another strength: 1 is the edit itself, 0 no edit, both bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.test_edits_delta import deltas
from tests.test_edits_guidance import negative, safety
from tests.test_edits_lora import filled, random_call
from zbench.edits import (
    ComposedEdit,
    DeltaEdit,
    Edit,
    LoraEdit,
    NegativePromptEdit,
    NeuronMaskEdit,
    NoEdit,
    ProjectionEdit,
    StateSwapEdit,
    TokenZeroingEdit,
    load_edit,
)
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model


@pytest.fixture(scope="module")
def model(tiny_pipeline_folder: Path) -> Model:
    """One model for all of these tests."""
    return load_model(tiny_pipeline_folder, "cpu")


def velocity(model: Model, edit: Edit) -> Tensor:
    """What an edit makes of some call."""
    with torch.no_grad(), model.edited(edit):
        return model.velocity(*random_call(model, (12, 20), [3, 50], 1))


MAKERS: dict[str, Callable[[Model], Edit]] = {
    "lora": lambda model: filled(LoraEdit(4, alpha=3.0), model),
    "all-row lora": lambda model: filled(LoraEdit(2, rows="all"), model),
    "delta": lambda model: DeltaEdit(deltas()),
    "negative prompt": negative,
    "safety guidance": safety,
    "composed": lambda model: ComposedEdit([filled(LoraEdit(2), model), DeltaEdit(deltas())]),
}


@pytest.mark.parametrize("name", MAKERS)
def test_one_is_the_edit_and_zero_is_none(model: Model, name: str) -> None:
    edit = MAKERS[name](model)
    frozen, whole = velocity(model, NoEdit()), velocity(model, edit)
    assert torch.equal(velocity(model, edit.scaled(1.0)), whole)
    assert torch.equal(velocity(model, edit.scaled(0.0)), frozen)
    half = velocity(model, edit.scaled(0.5))
    assert not torch.equal(half, whole) and not torch.equal(half, frozen)
    assert torch.equal(velocity(model, edit), whole), "scaling changed the edit itself"


def test_a_lora_at_half_its_strength_is_the_delta_of_half(model: Model) -> None:
    lora = filled(LoraEdit(4, alpha=3.0), model)
    halves = {path: 0.5 * update for path in lora.paths() if (update := lora.update_at(path)) is not None}
    assert len(halves) == 9
    torch.testing.assert_close(
        velocity(model, lora.scaled(0.5)), velocity(model, DeltaEdit(halves)), rtol=1e-4, atol=1e-4
    )
    assert lora.update_at("layers.0.attention.to_out.0") is None


def test_scaled_guidance_follows_its_formula(model: Model) -> None:
    call = random_call(model, (12, 20), [3, 50], 1)
    with torch.no_grad():
        plain = model.velocity(*call)
        concept = model.velocity(call[0], call[1], model.encode(["nude, naked"]) * 2)
    expected = plain + 0.75 * 1.5 * (plain - concept)
    torch.testing.assert_close(velocity(model, negative(model, 1.5).scaled(0.75)), expected)


def test_a_scaled_copy_does_not_follow_training_and_is_not_trained(model: Model) -> None:
    lora = filled(LoraEdit(2), model)
    copy = lora.scaled(1.0)
    before = velocity(model, copy)
    for parameter in lora.parameters():
        parameter.data.mul_(3)
    assert torch.equal(velocity(model, copy), before)
    assert not any(parameter.requires_grad for parameter in copy.parameters())


@pytest.mark.parametrize("name", MAKERS)
def test_scaled_edits_are_saved_like_any(model: Model, tmp_path: Path, name: str) -> None:
    edit = MAKERS[name](model).scaled(0.75)
    edit.save(tmp_path / "edit", model)
    assert torch.equal(velocity(model, load_edit(tmp_path / "edit")), velocity(model, edit))


def test_parts_without_a_strength_stay(model: Model) -> None:
    zeroing, lora = TokenZeroingEdit(["nude"]), filled(LoraEdit(2), model)
    scaled = ComposedEdit([zeroing, ComposedEdit([lora])]).scaled(0.5)
    assert scaled.edits[0] is zeroing
    inner = scaled.edits[1]
    assert isinstance(inner, ComposedEdit) and isinstance(inner.edits[0], LoraEdit)
    assert inner.edits[0].alpha == 1.0 and lora.alpha == 2.0


@pytest.mark.parametrize(
    "edit",
    [
        NoEdit(),
        TokenZeroingEdit(["nude"]),
        ProjectionEdit(torch.eye(6)[:, :1], torch.zeros(6), 0.01, 0.5),
        NeuronMaskEdit({"layers.0.attention.to_v": torch.zeros(2)}),
        StateSwapEdit({0: torch.zeros(1, 2, 3)}, torch.tensor([500.0])),
        ComposedEdit([NoEdit(), TokenZeroingEdit(["nude"])]),
    ],
    ids=lambda edit: edit.kind,
)
def test_what_acts_or_does_not_has_no_strength(edit: Edit) -> None:
    with pytest.raises(ConfigurationError, match="strength"):
        edit.scaled(0.5)


def test_a_negative_strength_of_guidance_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 0"):
        NegativePromptEdit(torch.zeros(2, 3), 1.0).scaled(-1.0)
