"""LoRAs added up: exactly the sum of products, never products of averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.test_edits_lora import filled, random_call
from zbench.edits import LoraEdit, load_edit
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model

QUICK = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def trained(model: Model, seed: int, rank: int = 3, **arguments: Any) -> LoraEdit:
    """A LoRA whose factors are random and its own."""
    edit = filled(LoraEdit(rank, seed=seed, **arguments), model)
    generator = torch.Generator().manual_seed(100 + seed)
    for parameter in edit.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return edit


def products(edit: LoraEdit) -> dict[str, Tensor]:
    """alpha / r B A of every changed module, in float64."""
    tensors = {name: value.detach().double() for name, value in edit.tensors().items()}
    return {
        name.removesuffix(".lora_A.weight"): edit.alpha
        / edit.rank
        * (tensors[name.replace("lora_A", "lora_B")] @ tensors[name])
        for name in tensors
        if "lora_A" in name
    }


@QUICK
@given(
    ranks=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    alphas=st.lists(st.floats(0.5, 8), min_size=4, max_size=4),
    weights=st.lists(st.floats(-2, 15), min_size=4, max_size=4),
)
def test_the_update_is_the_weighted_sum_of_products(
    tiny_model: Model, ranks: list[int], alphas: list[float], weights: list[float]
) -> None:
    edits = [trained(tiny_model, seed, rank, alpha=alphas[seed]) for seed, rank in enumerate(ranks)]
    joined = LoraEdit.combined(edits, weights[: len(edits)])
    assert joined.rank == sum(ranks) and joined.alpha == joined.rank
    parts = [products(edit) for edit in edits]
    for path, product in products(joined).items():
        expected = sum(weight * part[path] for weight, part in zip(weights, parts, strict=False))
        torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-5)


def test_by_default_products_are_averaged_and_factors_are_not(tiny_model: Model) -> None:
    edits = [trained(tiny_model, seed) for seed in range(3)]
    found, parts = products(LoraEdit.combined(edits)), [products(edit) for edit in edits]
    for path, product in found.items():
        torch.testing.assert_close(product, sum(part[path] for part in parts) / 3, rtol=1e-5, atol=1e-6)
    factors = [edit.tensors() for edit in edits]
    down, up = (f"{next(iter(found))}.lora_{half}.weight" for half in "AB")
    averaged = sum(f[up] for f in factors).double() @ sum(f[down] for f in factors).double() / 9
    assert not torch.allclose(averaged, found[next(iter(found))], rtol=0.1, atol=0.1)


def test_the_model_sees_the_average(tiny_model: Model) -> None:
    """In one linear module the outputs of the parts average exactly."""
    edits = [trained(tiny_model, seed, targets=("to_k",), layers=[0]) for seed in range(2)]
    call, outputs = random_call(tiny_model, (8, 8), [5, 40], 0), list[Tensor]()
    with torch.no_grad():
        for edit in (*edits, LoraEdit.combined(edits)):
            with tiny_model.edited(edit):
                module = tiny_model.transformer.layers[0].attention.to_k
                handle = module.register_forward_hook(lambda *seen: outputs.append(seen[2]))
                tiny_model.velocity(*call)
                handle.remove()
    torch.testing.assert_close(outputs[2], (outputs[0] + outputs[1]) / 2, rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs[2][:, :32], outputs[0][:, :32])


def test_one_edit_at_another_strength_is_alpha(tiny_model: Model) -> None:
    edit = trained(tiny_model, 1)
    stronger = LoraEdit(3, alpha=45.0)
    filled(stronger, tiny_model)
    for mine, theirs in zip(stronger.parameters(), edit.parameters(), strict=True):
        mine.data = theirs.data.clone()
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    with torch.no_grad():
        with tiny_model.edited(stronger):
            expected = tiny_model.velocity(*call)
        with tiny_model.edited(LoraEdit.combined([edit], [15.0])):
            torch.testing.assert_close(tiny_model.velocity(*call), expected, rtol=1e-4, atol=1e-4)
        with tiny_model.edited(LoraEdit.combined([edit], [0.0])):
            nothing = tiny_model.velocity(*call)
        assert torch.equal(tiny_model.velocity(*call), nothing)


def test_layers_and_targets_are_united(tiny_model: Model) -> None:
    first = trained(tiny_model, 0, 2, layers=[0], targets=("to_q",))
    second = trained(tiny_model, 1, 3, layers=[1], targets=("to_k", "feed_forward.w1"))
    joined = LoraEdit.combined([first, second], [1.0, 1.0])
    assert joined.layers == (0, 1) and joined.targets == ("to_q", "to_k", "feed_forward.w1")
    found = products(joined)
    own = {**products(first), **products(second)}
    for path, product in found.items():
        expected = own.get(path, torch.zeros_like(product))
        torch.testing.assert_close(product, expected, rtol=1e-6, atol=1e-6)
    assert set(own) < set(found)


def test_it_is_saved_and_loaded_and_leaves_its_parts_alone(tiny_model: Model, tmp_path: Path) -> None:
    edits = [trained(tiny_model, seed) for seed in range(2)]
    before = [parameter.clone() for edit in edits for parameter in edit.parameters()]
    joined = LoraEdit.combined(edits)
    joined.save(tmp_path, tiny_model)
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    loaded = load_edit(tmp_path)
    with torch.no_grad():
        with tiny_model.edited(joined):
            expected = tiny_model.velocity(*call)
        with tiny_model.edited(loaded):
            assert torch.equal(tiny_model.velocity(*call), expected)
        joined.parameters()[0].mul_(2)
    after = [parameter for edit in edits for parameter in edit.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not any(parameter.requires_grad for parameter in joined.parameters())
    assert all(parameter.requires_grad for parameter in after)


def test_what_cannot_be_combined(tiny_model: Model) -> None:
    edit = trained(tiny_model, 0)
    with pytest.raises(ConfigurationError, match="nothing to combine"):
        LoraEdit.combined([])
    with pytest.raises(ConfigurationError, match="as many finite weights"):
        LoraEdit.combined([edit], [1.0, 2.0])
    with pytest.raises(ConfigurationError, match="as many finite weights"):
        LoraEdit.combined([edit], [float("nan")])
    with pytest.raises(ConfigurationError, match="all rows"):
        LoraEdit.combined([edit, trained(tiny_model, 1, rows="all")])
    with pytest.raises(ConfigurationError, match="train it first"):
        LoraEdit.combined([edit, LoraEdit(2)])
    other = trained(tiny_model, 1)
    path = next(iter(other.tensors())).removeprefix("transformer.").removesuffix(".lora_A.weight")
    other._factors[f"{path}.lora_A.weight"].data = torch.zeros(3, 7)
    with pytest.raises(WeightsError, match="different models"):
        LoraEdit.combined([edit, other])
