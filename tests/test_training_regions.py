import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.transcription import CONCEPT, Reference, assert_close
from zbench.concepts import load_concept
from zbench.model import Model
from zbench.training import (
    TrajectoryBank,
    attention_maps,
    concept_columns,
    member_concepts,
    region_loss,
    regions_of,
)

MAPS = arrays("float32", (2, 7), elements=st.floats(0, 1, width=32)).map(torch.from_numpy)


@given(MAPS, st.floats(0, 1), st.floats(0, 1))
def test_regions_are_never_empty_and_shrink_with_the_threshold(
    maps: torch.Tensor, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    large, small = regions_of(maps, low), regions_of(maps, high)
    assert small.any(1).all() and (small <= large).all() and regions_of(maps, 0).all()


def test_maps_are_means_of_the_models_attention(tiny_model: Model) -> None:
    prompts = list(CONCEPT.training_prompts)
    bank = TrajectoryBank.sample(tiny_model, prompts, [1, 2], batch_size=2, steps=2)
    columns = [concept_columns(tiny_model, CONCEPT, prompt) for prompt in prompts]
    reference, expected = Reference(tiny_model), []
    for entry in range(2):
        total = torch.zeros(reference.image_rows, dtype=torch.float64)
        for step, t in enumerate(bank.timesteps):
            reference.velocity(bank.latents[step, entry][None], t[None], [bank.embeddings[entry]], live=False)
            places = [reference.text_start + column for column in columns[entry]]
            for full in reference.maps.values():
                total += full[0, :, : reference.image_rows, places].sum(-1).mean(0) / 6
        expected.append(total)
    for size in (1, 3):
        found = attention_maps(tiny_model, bank, columns, batch_size=size)
        assert_close(found, torch.stack(expected), 1e-4)


def test_only_the_region_counts() -> None:
    mass = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    regions = torch.tensor([[True, False, False, True, False], [False, True, False, False, False]])
    expected = ((mass[0, :, 0] ** 2 + mass[0, :, 3] ** 2) / 2 + mass[1, :, 1] ** 2).mean() / 2
    assert region_loss({0: mass, 1: mass}, regions).item() == pytest.approx(expected.item())
    changed = torch.where(regions[:, None], mass, 9.0)
    assert region_loss({0: changed}, regions).item() == pytest.approx(expected.item())


def test_members_come_from_the_catalogue() -> None:
    four = load_concept("four-people")
    assert member_concepts(four, "world") == [load_concept(name) for name in four.members]
    assert member_concepts(CONCEPT, "world") == [CONCEPT]


def test_a_composite_whose_members_are_not_listed_is_taken_apart() -> None:
    fifty = load_concept("celebrity", "photograph")
    parts = member_concepts(fifty, "photograph")
    assert [part.phrases for part in parts] == [(phrase,) for phrase in fifty.phrases]
    for part in parts:
        assert all(part.phrases[0].lower() in prompt.lower() for prompt in part.training_prompts)
        assert len(part.anchor_prompts) == len(part.training_prompts) and not part.members
