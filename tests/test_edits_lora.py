"""Text-row LoRA: image rows frozen bit for bit, gone without a trace, the frozen model inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from zbench.edits import ComposedEdit, LoraEdit
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model

TIME = torch.tensor([700.0, 300.0])


def filled(edit: LoraEdit, model: Model, scale: float = 0.3) -> LoraEdit:
    """A LoRA that really changes something."""
    with model.edited(edit):
        generator = torch.Generator().manual_seed(9)
        for parameter in edit.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return edit


@contextmanager
def projections(model: Model) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Input and output of every q, k, v projection of the unified layers, as the attention sees them."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        getattr(layer.attention, name).register_forward_hook(
            lambda module, args, output, key=f"layers.{index}.attention.{name}": seen.update(
                {key: (args[0], output)}
            )
        )
        for index, layer in enumerate(model.transformer.layers)
        for name in ("to_q", "to_k", "to_v")
    ]
    yield seen
    for handle in handles:
        handle.remove()


def frozen_weight(model: Model, path: str) -> Tensor:
    """The base weight, looking through an adapter."""
    module = model.transformer.get_submodule(path)
    weight: Tensor = getattr(module, "base_layer", module).weight
    return weight


def random_call(
    model: Model, side: tuple[int, int], lengths: list[int], seed: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Latents of any size, timesteps, captions of given lengths."""
    generator = torch.Generator().manual_seed(seed)
    width = model.transformer.config.cap_feat_dim
    latents = torch.randn(len(lengths), model.latent_shape()[0], *side, generator=generator)
    captions = [torch.randn(length, width, generator=generator) for length in lengths]
    return latents, torch.full((len(lengths),), 600.0), captions


CALLS = {
    "side": st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda sides: (2 * sides[0], 2 * sides[1])),
    "lengths": st.lists(st.integers(1, 90), min_size=1, max_size=4),
    "seed": st.integers(0, 1000),
}
QUICK = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@QUICK
@given(**CALLS)
def test_image_rows_equal_the_frozen_projections_bit_for_bit(
    tiny_model: Model, side: tuple[int, int], lengths: list[int], seed: int
) -> None:
    edit = filled(LoraEdit(4), tiny_model)
    with torch.no_grad(), tiny_model.edited(edit), projections(tiny_model) as seen:
        tiny_model.velocity(*random_call(tiny_model, side, lengths, seed))
        start = tiny_model.rows.current.image[0]
        assert start == -(-(side[0] // 2) * (side[1] // 2) // 32) * 32
        for path, (hidden, output) in seen.items():
            frozen = functional.linear(hidden, frozen_weight(tiny_model, path))
            assert torch.equal(output[:, :start], frozen[:, :start]), path
            # Beyond a sample's own rows the batch is padded with zeros, which no projection changes.
            for sample, length in enumerate(tiny_model.rows.current.text_padded):
                text = slice(start, start + length)
                assert (output[sample, text] != frozen[sample, text]).any(dim=1).all(), path


def test_text_rows_get_the_scaled_low_rank_product(tiny_model: Model) -> None:
    edit = filled(LoraEdit(4, alpha=6.0), tiny_model)
    with torch.no_grad(), tiny_model.edited(edit), projections(tiny_model) as seen:
        tiny_model.velocity(*random_call(tiny_model, (8, 8), [5, 40], 0))
        for path, (hidden, output) in seen.items():
            factors = [edit.tensors()[f"transformer.{path}.lora_{half}.weight"].double() for half in "AB"]
            expected = hidden[:, 32:].double() @ (
                frozen_weight(tiny_model, path).double().T + 1.5 * factors[0].T @ factors[1].T
            )
            torch.testing.assert_close(output[:, 32:].double(), expected, rtol=1e-4, atol=1e-4)


def test_all_rows_changes_image_rows_too(tiny_model: Model) -> None:
    edit = filled(LoraEdit(4, rows="all"), tiny_model)
    with torch.no_grad(), tiny_model.edited(edit), projections(tiny_model) as seen:
        tiny_model.velocity(*random_call(tiny_model, (8, 8), [5, 40], 0))
        for path, (hidden, output) in seen.items():
            frozen = functional.linear(hidden, frozen_weight(tiny_model, path))
            assert (output[0, : 32 + 32] != frozen[0, : 32 + 32]).any(dim=1).all(), path
            assert (output[1] != frozen[1]).any(dim=1).all(), path


@pytest.mark.parametrize("rows", ["text", "all"])
def test_detaching_restores_the_model_bit_for_bit(tiny_model: Model, rows: str) -> None:
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    names = [name for name, _ in tiny_model.transformer.named_modules()]
    attributes = set(tiny_model.transformer.__dict__)
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        edit = filled(LoraEdit(4, rows=rows), tiny_model)  # type: ignore[arg-type]
        with tiny_model.edited(edit):
            assert not torch.equal(tiny_model.velocity(*call), before)
        assert torch.equal(tiny_model.velocity(*call), before)
    assert [name for name, _ in tiny_model.transformer.named_modules()] == names
    assert set(tiny_model.transformer.__dict__) == attributes
    assert not any(parameter.requires_grad for parameter in tiny_model.transformer.parameters())


def test_a_fresh_lora_changes_nothing_and_leaves_the_random_state(tiny_model: Model) -> None:
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    state = torch.get_rng_state()
    first, again, other = LoraEdit(4, seed=1), LoraEdit(4, seed=1), LoraEdit(4, seed=2)
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        for edit in (first, again, other):
            with tiny_model.edited(edit):
                assert torch.equal(tiny_model.velocity(*call), before)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert len(pairs) == 2 * 3 * 3
    assert all(torch.equal(one, two) for one, two, _ in pairs)
    assert not all(torch.equal(one, three) for one, _, three in pairs)
    assert all(
        parameter.dtype == torch.float32 and parameter.requires_grad for parameter in first.parameters()
    )


def test_training_reaches_every_factor_and_survives_detaching(tiny_model: Model) -> None:
    edit = filled(LoraEdit(2, layers=[0, 1]), tiny_model)
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    parameters = edit.parameters()
    with tiny_model.edited(edit):
        assert all(mine is same for mine, same in zip(edit.parameters(), parameters, strict=True))
        tiny_model.velocity(*call).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in parameters)
    assert all(parameter.grad is None for parameter in tiny_model.transformer.parameters())


def test_gradients_are_the_same_with_checkpointing_and_another_call_between(tiny_model: Model) -> None:
    edit = filled(LoraEdit(2), tiny_model)
    call, other = random_call(tiny_model, (12, 20), [3, 50], 1), random_call(tiny_model, (24, 16), [9, 5], 2)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            tiny_model.transformer.enable_gradient_checkpointing()
        with tiny_model.edited(edit):
            loss = tiny_model.velocity(*call).square().sum()
            tiny_model.velocity(*other)
            gradients.append(torch.autograd.grad(loss, edit.parameters()))
        tiny_model.transformer.disable_gradient_checkpointing()
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_disabled_is_the_frozen_model_and_keeps_gradients_on(tiny_model: Model) -> None:
    edit, call = filled(LoraEdit(4), tiny_model), random_call(tiny_model, (12, 20), [3, 50], 1)
    with torch.no_grad():
        frozen = tiny_model.velocity(*call)
        with tiny_model.edited(edit):
            with edit.disabled():
                assert torch.equal(tiny_model.velocity(*call), frozen)
            assert not torch.equal(tiny_model.velocity(*call), frozen)
    assert all(parameter.requires_grad for parameter in edit.parameters())


def test_two_loras_compose_and_detach_in_any_order(tiny_model: Model) -> None:
    first, second = (
        filled(LoraEdit(4), tiny_model),
        filled(LoraEdit(2, targets=("to_v", "to_out.0")), tiny_model),
    )
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    with torch.no_grad():
        frozen = tiny_model.velocity(*call)
        with tiny_model.edited(first):
            only_first = tiny_model.velocity(*call)
        with tiny_model.edited(second):
            only_second = tiny_model.velocity(*call)
        first.attach(tiny_model)
        second.attach(tiny_model)
        both = tiny_model.velocity(*call)
        with first.disabled():
            torch.testing.assert_close(tiny_model.velocity(*call), only_second, rtol=0, atol=0)
        first.detach()
        torch.testing.assert_close(tiny_model.velocity(*call), only_second, rtol=0, atol=0)
        second.detach()
        with tiny_model.edited(ComposedEdit([first, second])):
            torch.testing.assert_close(tiny_model.velocity(*call), both)
        assert torch.equal(tiny_model.velocity(*call), frozen)
    assert not torch.equal(both, only_first) and not torch.equal(both, only_second)


def test_attaching_twice_or_detaching_nothing_is_an_error(tiny_model: Model) -> None:
    edit = LoraEdit(2)
    with pytest.raises(RuntimeError, match="not attached"):
        edit.detach()
    with tiny_model.edited(edit), pytest.raises(RuntimeError, match="already attached"):
        edit.attach(tiny_model)


@pytest.mark.parametrize(
    "arguments",
    [{"rank": 0}, {"rank": 2, "targets": ()}, {"rank": 2, "rows": "image"}, {"rank": 2, "layers": [7]}],
)
def test_bad_settings(tiny_model: Model, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError), tiny_model.edited(LoraEdit(**arguments)):  # type: ignore[arg-type]
        pass


def test_unknown_target_leaves_the_model_alone(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match="to_z"), tiny_model.edited(LoraEdit(2, targets=("to_z",))):
        pass
    assert not tiny_model.edits


def test_lora_of_another_model_does_not_attach(tiny_model: Model) -> None:
    edit = filled(LoraEdit(4), tiny_model)
    edit.parameters()[0].data = torch.zeros(4, 7)
    with pytest.raises(WeightsError, match="another model"):
        edit.attach(tiny_model)
