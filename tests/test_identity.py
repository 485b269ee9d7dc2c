"""Identity: which field of a run names which stage anew, and which must not.

Every field of a run stands in `tests.identity_trials` with the stages whose own configuration it enters; one
that nobody classified fails `test_every_field_is_classified`. Stages are named apart from each other (see
`tests.identity_tools`), and then chained: what follows a stage moves with it, and nothing else does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.identity_tools import Ids, Planner
from tests.identity_trials import (
    ATTACK,
    CELL,
    DRAW,
    ERASE,
    NAMES,
    NONE,
    SCORE,
    Trial,
    reference_pictures,
    trials_in,
)
from zbench.attacks.base import Attack
from zbench.config import RunConfig
from zbench.method import Method
from zbench.registry import load_attack, load_method, own_attack_names, own_method_names
from zbench.runner.launchers.settings import Launch, SlurmSettings
from zbench.runner.planning import plan
from zbench.runner.specs import BY_CONTENT, EXCLUDED, AttackSpec, CellSpec

FOLLOWS = {ERASE: {DRAW, SCORE, ATTACK}, DRAW: {SCORE}}
"""What a stage's content is part of, wherever its configuration is not."""

EXAMPLES = settings(max_examples=3, deadline=None, phases=(Phase.explicit, Phase.generate))


@dataclass(frozen=True)
class World:
    """Files that fields point at, each with a copy elsewhere, and planners that share them."""

    folder: Path
    trials: tuple[Trial, ...]
    apart: Planner
    chained: Planner

    def base(self, data: st.DataObject) -> dict[str, Any]:
        """Any run: one value of every field."""
        first = {trial.field: trial for trial in reversed(self.trials)}
        flags = {name: data.draw(st.sampled_from(_all(trial.same)), name) for name, trial in first.items()}
        return {name: value for name, value in flags.items() if value is not None}


def _all(same: Sequence[Sequence[Any]]) -> list[Any]:
    return [value for values in same for value in values]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("identity")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZBENCH_MODEL", raising=False)
        patch.chdir(folder)
        planners = [Planner(folder / name, name == "chained") for name in ("apart", "chained")]
        yield World(folder, trials_in(folder), *planners)


# Which field does what ------------------------------------------------------------------------------------


def _changed(before: Ids, after: Ids) -> frozenset[str]:
    return frozenset(kind for kind in before if before[kind] != after[kind])


def _outcomes(trial: Trial, planner: Planner, first: Any, second: Any, base: dict[str, Any]) -> list[Any]:
    """(cell's label, stages named anew) of the cells that two runs have in common."""
    runs = []
    for value in (first, second):
        flags = {**base, **(trial.more or {}), trial.field: value}
        runs.append(planner.ids(RunConfig.create(flags)))
    return [(label, _changed(runs[0][label], runs[1][label])) for label in runs[0] if label in runs[1]]


def _expected(trial: Trial, label: str) -> frozenset[str]:
    if trial.only and not label.startswith(trial.only):
        return NONE
    return trial.changes - {ERASE} if label == "original" else trial.changes


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
@given(data=st.data())
@EXAMPLES
def test_a_field_names_the_stages_that_it_changes_and_no_others(
    world: World, number: int, data: st.DataObject
) -> None:
    trial, base = world.trials[number], world.base(data)
    first, second = data.draw(st.permutations(trial.same).map(lambda kinds: (kinds[0], kinds[-1])))
    values = data.draw(st.sampled_from(first)), data.draw(st.sampled_from(second))
    outcomes = _outcomes(trial, world.apart, *values, base)
    assert outcomes
    for label, changed in outcomes:
        expected = NONE if first is second else _expected(trial, label)
        assert expected <= changed <= expected | trial.may, (trial.field, label, values)


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
@given(data=st.data())
@EXAMPLES
def test_values_that_mean_the_same_name_the_same(world: World, number: int, data: st.DataObject) -> None:
    """Defaults are resolved, files count by content, and what changes no picture counts for nothing."""
    trial, base = world.trials[number], world.base(data)
    same = data.draw(st.sampled_from(trial.same))
    values = data.draw(st.sampled_from(same)), data.draw(st.sampled_from(same))
    assert {changed for _, changed in _outcomes(trial, world.apart, *values, base)} == {NONE}


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_what_follows_a_stage_moves_with_it(world: World, number: int) -> None:
    trial = world.trials[number]
    base = {each.field: each.same[0][0] for each in reversed(world.trials)}
    values = trial.same[0][0], trial.same[-1][-1]
    apart = dict(_outcomes(trial, world.apart, *values, base))
    for label, changed in _outcomes(trial, world.chained, *values, base):
        moved = set(apart[label]).union(*(FOLLOWS.get(kind, set()) for kind in apart[label]))
        assert changed == moved


def test_more_methods_and_seeds_add_cells(world: World) -> None:
    base = {each.field: each.same[0][0] for each in reversed(world.trials)}
    small = world.apart.ids(RunConfig.create(base))
    large = world.apart.ids(RunConfig.create({**base, "methods": ("fade", "uce"), "training_seeds": 2}))
    assert set(small) < set(large) == {"original", "fade s0", "fade s1", "uce s0", "uce s1"}
    assert len({ids[CELL] for ids in large.values()}) == len(large)
    trained = [ids[ERASE] for label, ids in large.items() if label != "original"]
    assert len(set(trained)) == len(trained)


# Every field is there -------------------------------------------------------------------------------------


def test_every_field_is_classified(world: World) -> None:
    """Whoever adds a field decides what it changes, and says so in `trials_in`."""
    assert len(NAMES) == len(world.trials)
    assert {trial.field for trial in world.trials} == set(RunConfig.model_fields)


OF_A_RUN = {
    name: name for name in ("concept", "model", "protocol", "prompts", "repetitions", "steps", "height")
}
OF_A_RUN |= {name: name for name in ("width", "references", "prompts_dir", "batch_size", "device", "preset")}
OF_A_RUN |= {"method": "methods", "imported": "methods", "plugin": "plugins", "hyperparameters": "settings"}
OF_A_RUN |= {"attacks": "attacks", "attack_prompts": "attack_prompts"}
"""Field of a cell -> field of a run that it comes from; the others have tests of their own."""


def test_every_field_of_a_cell_is_classified() -> None:
    assert set(OF_A_RUN) | {"guidance_scale", "problem"} == set(CellSpec.model_fields)
    assert set(OF_A_RUN.values()) <= set(RunConfig.model_fields)
    assert {*EXCLUDED, *BY_CONTENT} <= set(CellSpec.model_fields) and not EXCLUDED & BY_CONTENT


def _cell(world: World, **changes: Any) -> CellSpec:
    base = {each.field: each.same[0][0] for each in reversed(world.trials)}
    return plan(RunConfig.create(base))[1].model_copy(update=changes)


def test_guidance_comes_from_the_protocol_and_changes_what_is_sampled(world: World) -> None:
    before = world.apart.of(_cell(world))
    # The protocol, whose field it is, is part of a cell by itself: the cell alone tells 0 from "its own".
    assert _changed(before, world.apart.of(_cell(world, guidance_scale=0.0))) == {CELL}
    after = world.apart.of(_cell(world, guidance_scale=1.5))
    assert _changed(before, after) == {ERASE, DRAW, ATTACK, CELL}


def test_a_method_that_cannot_be_used_fails_under_the_id_that_it_would_have(world: World) -> None:
    broken = world.apart.of(_cell(world, problem="Traceback ..."))
    assert broken[CELL] == world.apart.of(_cell(world))[CELL]
    assert not any(broken[kind] for kind in broken if kind != CELL)


def test_attacks_count_by_what_they_do(world: World) -> None:
    spec = _cell(world)
    [attack] = spec.attacks
    assert set(AttackSpec.model_fields) == {"name", "preset", "hyperparameters", "problem", "replay"}
    renamed = spec.model_copy(update={"attacks": (attack.model_copy(update={"preset": "mine"}),)})
    assert world.apart.of(renamed) == world.apart.of(spec)
    batched = attack.model_copy(update={"hyperparameters": {**attack.hyperparameters, "batch_size": 1}})
    again = world.apart.of(spec.model_copy(update={"attacks": (batched,)}))
    assert _changed(world.apart.of(spec), again) == {ATTACK}, "a batch is named by its prompts, a cell is not"


def test_no_setting_of_the_launch_is_part_of_a_run() -> None:
    """How cells are launched is none of a cell's fields, but for what is excluded there as well."""
    known = {"launcher", "devices", "workers", "time_limit", "log_limit", "keep", "slurm"}
    assert set(Launch.model_fields) == known
    assert set(SlurmSettings.model_fields) == {
        *("partition", "account", "minutes", "memory_gb", "gpus", "cpus", "at_once", "more")
    }
    assert not (known | set(SlurmSettings.model_fields)) & (
        set(CellSpec.model_fields) | set(RunConfig.model_fields)
    )


@pytest.mark.parametrize("name", own_method_names())
def test_every_field_of_a_method_names_its_erasure(name: str) -> None:
    method: type[Method] = load_method(name)
    preset = next(iter(method.presets))
    stated = method.with_preset(preset).identity()
    assert set(stated["hyperparameters"]) == set(method.model_fields)
    assert stated == method.of(method.with_preset(preset).model_dump(mode="json")).identity()


@pytest.mark.parametrize("name", own_attack_names())
def test_every_field_of_an_attack_names_its_candidates(name: str) -> None:
    attack: type[Attack] = load_attack(name)
    stated = attack.model_validate({}).identity()["hyperparameters"]
    # A batch is named by its prompts; what lies in a folder of the user counts by content.
    assert set(stated) == set(attack.model_fields) - {"batch_size", "prompts_dir"}


# Everywhere the same --------------------------------------------------------------------------------------


PUBLISHED = {
    "original": {
        "samples": "pictures-binding-59b1ac9ea2a9",
        "scores": "scores-nudity-611ca834b56b",
        "attacks": "affix-nudity-35b51e5c6f74",
        "cells": "original-nudity-8e4ddcb4658f",
    },
    "uce s0": {
        "erasures": "uce-nudity-s0-9973096db637",
        "samples": "pictures-binding-20a189786579",
        "scores": "scores-nudity-611ca834b56b",
        "attacks": "affix-nudity-ae235021c6cd",
        "cells": "uce-s0-nudity-9e8b939057dd",
    },
}
"""Ids that runs have had from the first; whoever changes one makes every run folder worthless."""


def test_published_ids_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On shipped weights and prompts; versions of packages, which are part of a score, are left out."""
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    monkeypatch.setattr("zbench.stages.scorer.package_versions", dict)
    flags = {
        "methods": ("uce",),
        "concept": "nudity",
        "model": "miniature",
        "prompts": 2,
        "attacks": ("affix",),
    }
    found = Planner(tmp_path / "runs", chained=False).ids(RunConfig.create(flags))
    stated = {
        label: {kind: min(names) for kind, names in ids.items() if names} for label, ids in found.items()
    }
    assert stated == PUBLISHED


def test_ids_are_the_same_in_another_process_folder_and_order(world: World, tmp_path: Path) -> None:
    """Another hash seed shuffles sets; other folders and another order of keys must not show either."""
    base = {each.field: each.same[0][-1] for each in reversed(world.trials)}
    base |= {
        "methods": ("fade", "uce"),
        "attacks": ("affix", "typo"),
        "references": reference_pictures(tmp_path / "r", "r"),
    }
    here = {
        str(planner.chained): planner.ids(RunConfig.create(base)) for planner in (world.apart, world.chained)
    }
    flags = json.dumps(dict(reversed(base.items())), default=str)
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.identity_tools", flags],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = {
        way: {label: {kind: sorted(names) for kind, names in each.items()} for label, each in ids.items()}
        for way, ids in here.items()
    }
    assert json.loads(done.stdout) == plain
