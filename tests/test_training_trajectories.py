from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transcription import assert_close
from zbench.model import Model
from zbench.training import FrozenPredictions, TrajectoryBank, seeds_for, shuffle_some, spread

PROMPTS = ["a nude person on a beach", "a house", "a red car " * 12, "a house", "naked"]


def bank_of(model: Model, batch_size: int = 2) -> TrajectoryBank:
    return TrajectoryBank.sample(model, PROMPTS, seeds_for("test", 0, len(PROMPTS)), batch_size=batch_size)


def test_bank_holds_real_trajectories_and_their_frozen_velocities(tiny_model: Model) -> None:
    bank = bank_of(tiny_model)
    seeds = seeds_for("test", 0, len(PROMPTS))
    for entry, prompt in enumerate(PROMPTS):
        embeddings = tiny_model.encode([prompt])
        expected = tiny_model.trajectory(embeddings, [seeds[entry]])
        assert_close(bank.latents[:, entry], expected.latents[:, 0].double(), 1e-4)
        for step, timestep in enumerate(bank.timesteps):
            with torch.no_grad():
                velocity = tiny_model.velocity(bank.latents[step, entry, None], timestep[None], embeddings)
            assert_close(bank.velocities[step, entry], velocity[0].double(), 1e-3)


def test_sampling_costs_one_call_per_step_and_batch(tiny_model: Model) -> None:
    before = tiny_model.counter.forwards
    bank = bank_of(tiny_model)
    assert tiny_model.counter.forwards - before == 3 * len(bank.timesteps)
    before = tiny_model.counter.forwards
    FrozenPredictions.compute(tiny_model, bank, tiny_model.encode([""] * 5), batch_size=4)
    assert tiny_model.counter.forwards - before == -(-5 * len(bank.timesteps) // 4)


def test_draws_come_from_the_generator_alone_and_reach_every_point(tiny_model: Model) -> None:
    bank = bank_of(tiny_model)
    torch.manual_seed(1)
    first = bank.draw(torch.Generator().manual_seed(3), 200)
    torch.manual_seed(2)
    second = bank.draw(torch.Generator().manual_seed(3), 200)
    assert torch.equal(first.latents, second.latents) and torch.equal(first.steps, second.steps)
    assert set(first.entries.tolist()) == set(range(5))
    assert set(first.steps.tolist()) == set(range(len(bank.timesteps)))
    sample = 17
    entry, step = int(first.entries[sample]), int(first.steps[sample])
    assert torch.equal(first.latents[sample], bank.latents[step, entry])
    assert torch.equal(first.velocities[sample], bank.velocities[step, entry])
    assert first.timesteps[sample] == bank.timesteps[step]
    assert torch.equal(first.embeddings[sample], tiny_model.encode([PROMPTS[entry]])[0])


def test_batches_visit_every_point_once(tiny_model: Model) -> None:
    bank = bank_of(tiny_model)
    seen = [
        pair
        for draw in bank.batches(3)
        for pair in zip(draw.steps.tolist(), draw.entries.tolist(), strict=True)
    ]
    assert sorted(seen) == [(step, entry) for step in range(len(bank.timesteps)) for entry in range(5)]


def test_frozen_predictions_are_those_of_each_points_conditioning(tiny_model: Model) -> None:
    bank = bank_of(tiny_model)
    conditioning = tiny_model.encode(["", "a person", "an apple", "a tree", "rain"])
    frozen = FrozenPredictions.compute(tiny_model, bank, conditioning, batch_size=3)
    draw = bank.draw(torch.Generator().manual_seed(0), 7)
    with torch.no_grad():
        expected = tiny_model.velocity(
            draw.latents, draw.timesteps, [conditioning[entry] for entry in draw.entries.tolist()]
        )
    assert_close(frozen.at(draw), expected.double(), 1e-4)
    assert not torch.allclose(frozen.at(draw), draw.velocities, atol=1e-3), "conditioning must matter here"


def test_seeds_differ_between_purposes_training_seeds_and_entries() -> None:
    seeds = [seed for p in ("erase", "preserve") for s in range(3) for seed in seeds_for(p, s, 10)]
    assert len(set(seeds)) == 60
    assert seeds_for("erase", 1, 4) == seeds_for("erase", 1, 10)[:4]


def test_spread_is_even() -> None:
    assert spread("abc", 7) == [0, 1, 2, 0, 1, 2, 0]
    assert spread(range(9), 1) == [0] and spread(range(9), 2) == [0, 8]


@given(choices=st.integers(1, 60), count=st.integers(1, 80))
def test_spread_reaches_both_ends_of_the_list(choices: int, count: int) -> None:
    found = spread(range(choices), count)
    assert len(found) == count and found[0] == 0 and set(found) <= set(range(choices))
    if 2 <= count < choices:
        gaps = {after - before for before, after in pairwise(found)}
        assert found[-1] == choices - 1 and max(gaps) - min(gaps) <= 1, "what stands last has its share"
    else:
        times = [found.count(choice) for choice in range(choices)]
        assert count < choices or max(times) - min(times) <= 1


def test_shuffling_follows_its_probability() -> None:
    prompts = ["one two three four five six seven"] * 200
    shuffled = shuffle_some(prompts, (), 0.5, torch.Generator().manual_seed(0))
    assert 70 < sum(prompt == prompts[0] for prompt in shuffled) < 130
    assert shuffle_some(prompts, (), 0.0, torch.Generator().manual_seed(0)) == prompts
