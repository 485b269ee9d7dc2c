"""No two methods are one: names in a table must stand for different edits (defect D16 of the dossier).

Every method that is installed is run once at short settings from the same start, with the optimiser it has by
itself (AdamW divides a factor between two losses out, so equal directions show as equal weights).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.transcription import CONCEPT
from zbench.edits import DeltaEdit, Edit, LoraEdit
from zbench.method import Method
from zbench.model import Model, load_model
from zbench.registry import load_method, method_names

SHORT = {
    "steps": 2,
    "batch_size": 2,
    "trajectories": 2,
    "preserve_trajectories": 2,
    "preserve_batch": 2,
    "rank": 2,
    "learning_rate": 0.05,
    "training_seed": 1,
}
"""Taken by every method that has such a field; the others keep their miniature preset."""

OWN: dict[str, dict[str, Any]] = {"minimalist": {"learning_rate": 5.0}}
"""Where the above is too short to change anything: learned masks start three units from the first flip."""

SAME = 0.02
"""Relative difference below which two edits are one."""

PROMPTS = [*CONCEPT.training_prompts, CONCEPT.preserve_prompts[0]]


def short(name: str, **settings: Any) -> Method:
    """A method at short settings."""
    method = load_method(name)
    fields = {field: value for field, value in SHORT.items() if field in method.model_fields}
    return method.with_preset("miniature", **{**fields, **OWN.get(name, {}), **settings})


class Outcome:
    """What a method made: its updates where it changes weights, and what the edited model draws."""

    def __init__(self, name: str, model: Model) -> None:
        edit = short(name).erase(model, CONCEPT).edit
        self.updates = updates_of(edit)
        with model.edited(edit):
            self.drawn = model.trajectory(model.encode(PROMPTS), [1, 2, 3]).latents[-1]


class Outcomes:
    """Runs every method when it is first asked for, once; an error is raised to everyone who asks."""

    def __init__(self, model: Model) -> None:
        self.model, self.known = model, dict[str, Outcome | Exception]()
        self.original = model.trajectory(model.encode(PROMPTS), [1, 2, 3]).latents[-1]

    def __getitem__(self, name: str) -> Outcome:
        if name not in self.known:
            try:
                self.known[name] = Outcome(name, self.model)
            except Exception as error:
                self.known[name] = error
        found = self.known[name]
        if isinstance(found, Exception):
            raise found
        return found


def updates_of(edit: Edit) -> dict[str, Tensor]:
    """Module path -> dW of an edit of weights; empty for any other."""
    if isinstance(edit, DeltaEdit):
        return {path: delta.double() for path, delta in edit.deltas.items()}
    if not isinstance(edit, LoraEdit):
        return {}
    factors = {name.removeprefix("transformer."): t.detach().double() for name, t in edit.tensors().items()}
    downs = [name for name in factors if ".lora_A." in name]
    return {
        name.removesuffix(".lora_A.weight"): edit.alpha
        / edit.rank
        * factors[name.replace(".lora_A.", ".lora_B.")]
        @ factors[name]
        for name in downs
    }


def difference(first: Tensor, second: Tensor) -> float:
    """Relative to the larger of the two."""
    scale = max(float(first.norm()), float(second.norm()))
    return float((first.double() - second.double()).norm()) / scale if scale else 0.0


def weights_differ(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two sets of updates are not the same; other modules are another edit."""
    moved = [{path for path, update in updates.items() if update.any()} for updates in (first, second)]
    if moved[0] != moved[1]:
        return True
    flat = [torch.cat([updates[path].flatten() for path in sorted(moved[0])]) for updates in (first, second)]
    return difference(*flat) > SAME


@pytest.fixture(scope="module")
def outcomes(tiny_pipeline_folder: Path) -> Outcomes:
    return Outcomes(load_model(tiny_pipeline_folder, "cpu"))


@pytest.mark.parametrize("name", method_names())
def test_a_method_is_no_other_method(outcomes: Outcomes, name: str) -> None:
    own = outcomes[name]
    assert bool(own.drawn.isfinite().all())
    assert difference(own.drawn, outcomes.original) > 1e-5, f"{name} changes nothing"
    for other in method_names():
        if other == name:
            continue
        try:
            theirs = outcomes[other]
        except Exception:
            # It fails its own test.
            continue
        if own.updates and theirs.updates:
            assert weights_differ(own.updates, theirs.updates), f"{name} and {other} give the same weights"
        else:
            assert difference(own.drawn - outcomes.original, theirs.drawn - outcomes.original) > SAME, (
                f"{name} and {other} give the same pictures"
            )


def test_equal_training_is_noticed(outcomes: Outcomes) -> None:
    """The check itself: one method twice is the same; another seed or other modules are not."""

    def trained(**settings: Any) -> dict[str, Tensor]:
        method = short("esd_x", **settings)
        return updates_of(method.erase(outcomes.model, CONCEPT).edit)

    assert not weights_differ(trained(), outcomes["esd_x"].updates)
    assert weights_differ(trained(training_seed=2), outcomes["esd_x"].updates)
    assert weights_differ(trained(targets=("to_k",)), outcomes["esd_x"].updates)
