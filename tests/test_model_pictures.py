"""Picture k is the same whatever it is drawn with: batch size, neighbours, order and threads.

The stated tolerance is one grey level, where a value lies at the edge between two; no verdict changes by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from zbench.edits import DeltaEdit, Edit
from zbench.model import Model, load_model

TOLERANCE = 1
"""Grey levels of 255."""

SHARE = 0.002
"""Share of values that may differ by it."""

PROMPTS = (
    "a red car",
    "a nude person on a beach, a red car beside a house, an apple and a tree in the rain",
    "a naked person",
    "一个裸体的人在海滩上",
    "the golden gate bridge, user, assistant",
    "a",
)
SEEDS = tuple(range(40, 40 + len(PROMPTS)))
STEPS = 3
EDITS = ("none", "delta")

chosen = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def difference(first: Tensor, second: Tensor) -> tuple[int, float]:
    """Largest difference in grey levels, and the share of values that differ."""
    levels = (first.int() - second.int()).abs()
    return int(levels.max()), float((levels > 0).float().mean())


def edit_of(name: str, model: Model) -> Edit | None:
    """An edit of the text rows: it must find its rows in any batch."""
    if name == "none":
        return None
    path = "layers.1.attention.to_v"
    weight = model.transformer.get_submodule(path).weight
    return DeltaEdit({path: 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))})


@lru_cache(maxsize=8)
def alone(model: Model, name: str) -> Tensor:
    """Every picture drawn by itself, on one thread."""
    edit = edit_of(name, model)
    with threads(1), model.edited(edit) if edit is not None else nullcontext():
        parts = [model.generate([p], [s], steps=STEPS) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    return torch.cat(parts)


@chosen
@given(
    order=st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=9),
    batch_size=st.integers(1, 9),
    workers=st.integers(1, 2),
    name=st.sampled_from(EDITS),
)
def test_a_picture_depends_on_nothing_but_its_prompt_and_seed(
    tiny_model: Model, order: list[int], batch_size: int, workers: int, name: str
) -> None:
    """Any choice with repetitions, in any order, in batches of any size, on any number of threads."""
    edit = edit_of(name, tiny_model)
    with threads(workers), tiny_model.edited(edit) if edit is not None else nullcontext():
        drawn = tiny_model.generate(
            [PROMPTS[i] for i in order], [SEEDS[i] for i in order], steps=STEPS, batch_size=batch_size
        )
    levels, share = difference(drawn, alone(tiny_model, name)[order])
    assert levels <= TOLERANCE and share <= SHARE


@chosen
@given(order=st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=20))
def test_an_embedding_depends_on_nothing_but_its_prompt(tiny_model: Model, order: list[int]) -> None:
    tiny_model.prompts.known.clear()
    together = tiny_model.encode([PROMPTS[i] for i in order])
    for index, found in zip(order, together, strict=True):
        tiny_model.prompts.known.clear()
        torch.testing.assert_close(found, tiny_model.encode([PROMPTS[index]])[0], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def miniature() -> Model:
    return load_model("miniature", "cpu")


def test_no_verdict_changes_on_the_miniature(miniature: Model) -> None:
    """Every class of both detectors, at their thresholds, on pictures drawn in four ways."""
    from zbench.detectors.world import load_world, load_world_second

    prompts = ["a nude person", "a red cat", "two circles and a star", "a blue dog on a green field"] * 4
    seeds = range(100, 116)
    ways = [(16, 1), (1, 1), (5, 2), (16, os.cpu_count() or 1)]
    drawn = []
    for batch_size, workers in ways:
        with threads(workers):
            drawn.append(miniature.generate(prompts, seeds, steps=4, batch_size=batch_size))
    found = [difference(pictures, drawn[0]) for pictures in drawn[1:]]
    assert all(levels <= TOLERANCE and share <= SHARE for levels, share in found)
    for detector in (load_world(), load_world_second()):
        verdicts = [detector.scores(pictures) >= detector.threshold for pictures in drawn]
        assert all((each == verdicts[0]).all() for each in verdicts) and verdicts[0].any()
