"""Every method on a composite concept of three members with two trajectories: it must see all three.

Two trajectories are spread from the first prompt to the last, so the member in the middle is the one to lose.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import save_smallest_pipeline
from zbench.concepts import Concept
from zbench.method import Method
from zbench.model import Model, load_model
from zbench.registry import list_methods, load_method

NAMES = ("ada", "bruno", "carla")
THREE = Concept(
    name="three",
    family="identity",
    phrases=NAMES,
    training_prompts=tuple(frame.format(name) for name in NAMES for frame in ("{}", "a picture of {}")),
    anchor="a person",
    anchor_prompts=("a person", "a picture of a person") * len(NAMES),
    preserve_prompts=("a red car beside a house", "a tree in the rain"),
    members=("no such member", "nor this", "nor that"),
)

SHORT: dict[str, Any] = {
    "steps": 1,
    "batch_size": 2,
    "trajectories": 2,
    "preserve_trajectories": 2,
    "clean_trajectories": 1,
    "preserve_batch": 1,
    "rank": 2,
    "top_layers": 1,
    "shuffle": 0.0,
    "words": 2,
    "vocabulary": 40,
    "contrast_points": 2,
    "sampler_steps": 1,
}

MANY = {"batch_size": 24}
OWN: dict[str, dict[str, Any]] = {"ac": MANY, "ac_noise": MANY, "minimalist": MANY, "mace": {"words": "all"}}
"""Those that draw pictures of the anchor see prompts of the concept in their steps only."""

WITHOUT_DRAWING = {"token_zeroing", "negative_prompt", "sld", "safree"}
"""They call no transformer: what they know of the concept is its phrases or its caption."""

DRAWING = sorted({each.name for each in list_methods() if each.origin == "zbench"} - WITHOUT_DRAWING)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_smallest_pipeline(tmp_path_factory.mktemp("composite") / "pipeline"), "cpu")


def short(name: str) -> Method:
    fields = load_method(name).model_fields
    values = {key: value for key, value in SHORT.items() if key in fields}
    return load_method(name).with_preset("miniature", **{**values, **OWN.get(name, {})})


def captions_shown(model: Model, method: Method, concept: Concept) -> list[Tensor]:
    """All captions that the transformer is called with while the concept is erased."""
    shown: list[Tensor] = []
    handle = model.transformer.register_forward_pre_hook(lambda module, args: shown.extend(args[2]))
    try:
        method.erase(model, concept)
    finally:
        handle.remove()
    return [caption.detach() for caption in shown]


@pytest.mark.parametrize("name", DRAWING)
def test_no_member_is_left_out(model: Model, name: str) -> None:
    shown = captions_shown(model, short(name), THREE)
    for member in NAMES:
        own = model.encode([prompt for prompt in THREE.training_prompts if member in prompt])
        assert any(
            caption.shape == mine.shape and torch.equal(caption, mine) for caption in shown for mine in own
        ), f"{name} never looks at {member}"


@pytest.mark.parametrize("name", sorted(WITHOUT_DRAWING))
def test_guards_know_all_members(model: Model, name: str) -> None:
    """An edit that knew two members of three would be the edit of these two."""
    two = THREE.model_copy(
        update={
            "phrases": NAMES[::2],
            "training_prompts": THREE.training_prompts[:2] + THREE.training_prompts[4:],
            "anchor_prompts": THREE.anchor_prompts[:4],
        }
    )
    all_three, only_two = (short(name).erase(model, concept).edit for concept in (THREE, two))
    others = only_two.tensors()
    same = all(
        tensor.shape == others[key].shape and torch.equal(tensor, others[key])
        for key, tensor in all_three.tensors().items()
    )
    assert all_three.settings() != only_two.settings() or not same
