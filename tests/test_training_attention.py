import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.transcription import CONCEPT, Reference, assert_close
from zbench.model import Model
from zbench.training import AttentionColumns, concept_columns
from zbench.training.attention import column_mass

PROMPTS = ["a nude person on a beach", "naked", "a red car " * 12 + "and a nude person", "a house"]


def call(model: Model, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    count = len(prompts)
    return model.noise(range(count)), torch.linspace(900.0, 200.0, count), model.encode(prompts)


def test_masses_are_the_columns_of_the_full_softmax(tiny_model: Model) -> None:
    columns = [concept_columns(tiny_model, CONCEPT, prompt) for prompt in PROMPTS]
    assert [len(found) > 0 for found in columns] == [True, True, True, False]
    inputs = call(tiny_model, PROMPTS)
    assert len({-(-len(embedding) // 32) for embedding in inputs[2]}) > 1, (
        "captions must pad to unequal lengths"
    )
    with AttentionColumns(tiny_model, columns) as attention, torch.no_grad():
        tiny_model.velocity(*inputs)

    reference = Reference(tiny_model)
    with torch.no_grad():
        reference.velocity(*inputs, live=False)
    assert sorted(attention.masses) == sorted(reference.maps)
    for layer, maps in reference.maps.items():
        for sample, found in enumerate(columns):
            keys = [reference.text_start + column for column in found]
            expected = maps[sample, :, : reference.image_rows, keys].sum(-1)
            if found:
                assert_close(attention.masses[layer][sample], expected)
            else:
                assert not attention.masses[layer][sample].any()


def test_every_key_together_has_mass_one(tiny_model: Model) -> None:
    inputs = call(tiny_model, ["a red car"])
    columns = list(range(32))
    with AttentionColumns(tiny_model, [columns], [1]) as attention, torch.no_grad():
        tiny_model.velocity(*inputs)
    mass = attention.masses[1]
    assert list(attention.masses) == [1]
    assert bool(((mass > 0) & (mass < 1)).all()), "text alone holds a proper part of the attention"


def test_the_indicator_is_cast_before_it_is_spread_over_the_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision a cast of the spread values would hold a number for every head."""
    given: list[torch.Tensor] = []
    attention = functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **rest: object) -> torch.Tensor:
        given.append(value)
        return attention(query, key, value, **rest)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    keys = torch.randn(2, 5, 3, 8, dtype=torch.bfloat16)
    mass = column_mass(keys[:, :4], keys, torch.eye(5)[:2], None)
    assert mass.dtype == given[0].dtype == torch.bfloat16 and given[0].stride(1) == 0
    expected = torch.einsum("bqhd,bshd->bhqs", keys[:, :4], keys).float().div(8**0.5).softmax(-1)
    torch.testing.assert_close(
        mass.float(), torch.stack([expected[0, ..., 0], expected[1, ..., 1]]), atol=0.02, rtol=0
    )


class Shapes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.seen.add(tuple(tensor.shape))
        return result


def test_no_attention_map_is_ever_built(tiny_model: Model) -> None:
    inputs = call(tiny_model, ["a nude person", "a naked person"])
    length = Reference(tiny_model).text_start + 32
    with Shapes() as shapes, AttentionColumns(tiny_model, [[3], [4]]) as attention:
        tiny_model.velocity(*inputs)
    rows = attention.masses[0].shape[-1]
    assert any(shape[-1:] == (24,) and length in shape for shape in shapes.seen), "keys do pass by"
    # Two samples of two heads: a map is [2, 2, Q, S] or [4, Q, S].
    per_head = [shape for shape in shapes.seen if len(shape) == 4 or (len(shape) == 3 and shape[0] == 4)]
    assert not [shape for shape in per_head if shape[-1] == length and shape[-2] >= rows]


def test_outside_the_context_nothing_is_recorded(tiny_model: Model) -> None:
    inputs = call(tiny_model, ["a nude person"])
    with torch.no_grad():
        with AttentionColumns(tiny_model, [[3]]) as attention:
            inside = tiny_model.velocity(*inputs)
        recorded = dict(attention.masses)
        outside = tiny_model.velocity(*inputs)
    assert recorded.keys() == attention.masses.keys()
    assert all(attention.masses[layer] is mass for layer, mass in recorded.items())
    assert torch.equal(inside, outside), "recording must not change the prediction"


def test_columns_for_another_batch_size_are_refused(tiny_model: Model) -> None:
    inputs = call(tiny_model, ["a nude person", "a house"])
    with pytest.raises(ValueError, match="columns for 1 samples"), AttentionColumns(tiny_model, [[3]]):
        tiny_model.velocity(*inputs)


def test_columns_hold_every_phrase_and_occurrence(tiny_model: Model) -> None:
    prompt = "Nude, a house and a naked nude person"
    columns = concept_columns(tiny_model, CONCEPT, prompt)
    spans = [*tiny_model.token_span(prompt, "nude"), *tiny_model.token_span(prompt, "naked")]
    assert len(spans) == 3
    assert columns == sorted(index for start, end in spans for index in range(start, end))
