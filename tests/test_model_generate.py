"""Pictures through the pipeline: equal to its own, independent of batch and order, counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import save_tiny_pipeline
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model

PROMPTS = [
    "a red car",
    "a nude person on a beach, a red car beside a house, an apple and a tree in the rain",
    "",
    "一个裸体的人",
    "the golden gate bridge",
]
SEEDS = [5, 6, 7, 8, 5]


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal but for rounding at the edge between two grey levels."""
    return int((first.int() - second.int()).abs().max()) <= 1


def test_pictures_are_the_pipelines(tiny_model: Model) -> None:
    pictures = tiny_model.generate(PROMPTS, SEEDS)
    assert pictures.shape == (5, 3, tiny_model.spec.height, tiny_model.spec.width)
    assert pictures.dtype == torch.uint8
    for index, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        image = tiny_model.pipeline(
            prompt,
            height=tiny_model.spec.height,
            width=tiny_model.spec.width,
            num_inference_steps=tiny_model.spec.steps,
            guidance_scale=0.0,
            max_sequence_length=tiny_model.spec.max_sequence_length,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        assert close(torch.from_numpy(np.array(image)).permute(2, 0, 1), pictures[index])
    assert not close(pictures[0], pictures[4])


def test_picture_does_not_depend_on_batch_or_order(tiny_model: Model) -> None:
    whole = tiny_model.generate(PROMPTS, SEEDS)
    assert close(tiny_model.generate(PROMPTS, SEEDS, batch_size=1), whole)
    assert close(tiny_model.generate(PROMPTS[::-1], SEEDS[::-1], batch_size=2), whole.flip(0))
    assert close(tiny_model.generate(PROMPTS[3:4], SEEDS[3:4]), whole[3:4])


def test_batches_need_no_attention_mask(tiny_model: Model) -> None:
    """Captions that take unequally many rows never share a batch."""
    lengths: list[set[int]] = []
    handle = tiny_model.transformer.register_forward_hook(
        lambda *_: lengths.append(set(tiny_model.rows.current.text_padded))
    )
    tiny_model.generate(PROMPTS, SEEDS, steps=1)
    handle.remove()
    assert all(len(batch) == 1 for batch in lengths)
    assert len(set().union(*lengths)) > 1


def test_progress_counter_and_bad_arguments(tiny_model: Model) -> None:
    seen: list[tuple[int, int]] = []
    before = tiny_model.counter.forwards
    tiny_model.generate(
        ["a", "b", "c"], [1, 2, 3], steps=2, batch_size=2, progress=lambda *done: seen.append(done)
    )
    assert seen == [(2, 3), (3, 3)]
    assert tiny_model.counter.forwards - before == 4
    with pytest.raises(ValueError, match="seeds"):
        tiny_model.generate(["a"], [1, 2])
    with pytest.raises(ConfigurationError, match="step"):
        tiny_model.generate(["a"], [1], steps=0)
    with pytest.raises(ConfigurationError, match="batch size"):
        tiny_model.generate(["a"], [1], batch_size=0)
    assert tiny_model.generate([], []).shape[0] == 0


def test_guidance_is_the_pipelines(tmp_path: Path) -> None:
    model = load_model(save_tiny_pipeline(tmp_path / "p", guidance_scale=2.5), "cpu")
    image = model.pipeline(
        PROMPTS[0],
        height=48,
        width=80,
        num_inference_steps=4,
        guidance_scale=2.5,
        max_sequence_length=96,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    assert close(torch.from_numpy(np.array(image)).permute(2, 0, 1), model.generate(PROMPTS[:1], [1])[0])


def test_counter_counts_backwards_and_recomputations(tiny_model: Model) -> None:
    counter = tiny_model.counter
    before = (counter.forwards, counter.backwards, counter.recomputations)
    noise = tiny_model.noise([0, 1]).requires_grad_()
    embeddings = tiny_model.encode(["a", "b"])
    tiny_model.velocity(noise, torch.tensor([500.0, 400.0]), embeddings).sum().backward()
    assert (
        counter.forwards - before[0],
        counter.backwards - before[1],
        counter.recomputations - before[2],
    ) == (1, 1, 0)
    tiny_model.transformer.enable_gradient_checkpointing()
    try:
        tiny_model.velocity(noise, torch.tensor([500.0, 400.0]), embeddings).sum().backward()
    finally:
        tiny_model.transformer.disable_gradient_checkpointing()
    assert (
        counter.forwards - before[0],
        counter.backwards - before[1],
        counter.recomputations - before[2],
    ) == (2, 2, 1)
    with counter.paused():
        tiny_model.velocity(noise, torch.tensor([500.0, 400.0]), embeddings).sum().backward()
    assert (counter.forwards - before[0], counter.backwards - before[1]) == (2, 2)
