"""Text-row deltas for closed forms: the same promises as the LoRA's, without training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch.nn import functional

from tests.test_edits_lora import CALLS, QUICK, filled, frozen_weight, projections, random_call
from zbench.edits import ComposedEdit, DeltaEdit, LoraEdit, load_edit
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model

PATHS = ("layers.0.attention.to_k", "layers.0.attention.to_v", "layers.2.attention.to_q")


def deltas() -> dict[str, torch.Tensor]:
    """Random updates of some projections."""
    generator = torch.Generator().manual_seed(4)
    return {path: torch.randn(48, 48, generator=generator, dtype=torch.float64) for path in PATHS}


@QUICK
@given(**CALLS)
def test_image_rows_bit_for_bit_and_text_rows_shifted(
    tiny_model: Model, side: tuple[int, int], lengths: list[int], seed: int
) -> None:
    edit = DeltaEdit(deltas())
    with torch.no_grad(), tiny_model.edited(edit), projections(tiny_model) as seen:
        tiny_model.velocity(*random_call(tiny_model, side, lengths, seed))
        start = tiny_model.rows.current.image[0]
        for path, (hidden, output) in seen.items():
            frozen = functional.linear(hidden, frozen_weight(tiny_model, path))
            assert torch.equal(output[:, :start], frozen[:, :start])
            shift = hidden[:, start:].double() @ deltas()[path].T if path in PATHS else torch.zeros(())
            torch.testing.assert_close(
                output[:, start:].double(), frozen[:, start:].double() + shift, rtol=1e-4, atol=1e-4
            )


def test_pictures_of_two_sizes_in_one_call(tiny_model: Model) -> None:
    width, channels = tiny_model.transformer.config.cap_feat_dim, tiny_model.latent_shape()[0]
    latents = [torch.randn(channels, 1, 8, 8), torch.randn(channels, 1, 24, 16)]
    captions = [torch.randn(40, width), torch.randn(5, width)]
    for edit in (DeltaEdit(deltas()), filled(LoraEdit(2), tiny_model)):
        with torch.no_grad(), tiny_model.edited(edit), projections(tiny_model) as seen:
            tiny_model.transformer(latents, torch.tensor([0.5, 0.5]), captions, return_dict=False)
            hidden, output = seen[PATHS[0]]
            frozen = functional.linear(hidden, frozen_weight(tiny_model, PATHS[0]))
            changed = (output != frozen).any(dim=2)
            assert changed[0].nonzero().min() == 32 and changed[1].nonzero().min() == 96
            assert changed[0, 32:96].all() and changed[1, 96:].all()


def test_detaching_and_disabling_restore_bit_for_bit(tiny_model: Model) -> None:
    call, edit = random_call(tiny_model, (12, 20), [3, 50], 1), DeltaEdit(deltas())
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        with tiny_model.edited(edit):
            assert not torch.equal(tiny_model.velocity(*call), before)
            with edit.disabled():
                assert torch.equal(tiny_model.velocity(*call), before)
        assert torch.equal(tiny_model.velocity(*call), before)
    assert edit.parameters() == []


def test_delta_equals_the_lora_it_multiplies_out_to(tiny_model: Model) -> None:
    lora = filled(LoraEdit(4, alpha=2.0), tiny_model)
    factors = {name.removeprefix("transformer."): value.detach() for name, value in lora.tensors().items()}
    paths = sorted({name.rsplit(".lora_", 1)[0] for name in factors})
    product = {
        path: 0.5 * factors[f"{path}.lora_B.weight"] @ factors[f"{path}.lora_A.weight"] for path in paths
    }
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    for rows in ("text", "all"):
        lora.rows = rows
        with torch.no_grad():
            with tiny_model.edited(lora):
                expected = tiny_model.velocity(*call)
            with tiny_model.edited(DeltaEdit(product, rows=rows)):
                torch.testing.assert_close(tiny_model.velocity(*call), expected, rtol=1e-4, atol=1e-4)


def test_delta_composes_with_a_lora_on_the_same_module(tiny_model: Model, tmp_path: Path) -> None:
    delta, lora = DeltaEdit(deltas()), filled(LoraEdit(2), tiny_model)
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    with torch.no_grad():
        before, results = tiny_model.velocity(*call), []
        for parts in ([delta, lora], [lora, delta]):
            with tiny_model.edited(ComposedEdit(parts)):
                results.append(tiny_model.velocity(*call))
            assert torch.equal(tiny_model.velocity(*call), before)
        torch.testing.assert_close(results[0], results[1])
        ComposedEdit([lora, delta]).save(tmp_path / "both", tiny_model)
        with tiny_model.edited(load_edit(tmp_path / "both")):
            torch.testing.assert_close(tiny_model.velocity(*call), results[1], rtol=0, atol=0)


def test_what_cannot_be_attached(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        DeltaEdit({})
    with pytest.raises(ConfigurationError, match="image rows only"):
        DeltaEdit({"noise_refiner.0.attention.to_k": torch.ones(48, 48)})
    with pytest.raises(ConfigurationError, match=r"layers\.9"):
        DeltaEdit({"layers.9.attention.to_k": torch.ones(48, 48)}).attach(tiny_model)
    with pytest.raises(WeightsError, match=r"\(4, 4\)"):
        DeltaEdit({PATHS[0]: torch.ones(4, 4)}).attach(tiny_model)
