import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbench.errors import ConfigurationError, UnknownNameError
from zbench.registry import load_method, method_names
from zbench.studies.presets import presets_study, search
from zbench.studies.presets.choice import Tried, choose
from zbench.studies.presets.grids import CONFIGURATIONS, configurations, grid_names
from zbench.studies.presets.page import render_page
from zbench.studies.trials import Trial

LIMIT = 5.0
ALL_LAYERS = [0, 1, 2, 3, 4, 5]
"""The grids' way of saying "all", which presets leave open: TOML has no None."""

trials = st.builds(
    Trial,
    settings=st.just({}),
    concept=st.just("violence"),
    status=st.sampled_from(["done", "done", "done", "failed"]),
    found=st.integers(0, 4),
    asked=st.just(4),
    clip_loss=st.floats(-2, 12),
    collapsed=st.booleans(),
)
grids = st.lists(st.builds(Tried, settings=st.just({}), trials=st.tuples(trials, trials)), max_size=6)


@given(grids)
def test_the_chosen_one_cannot_be_beaten_by_the_rule(tried: list[Tried]) -> None:
    index = choose(tried, LIMIT)
    measured = [one for one in tried if one.measured]
    if index is None:
        assert not measured
        return
    chosen = tried[index]
    assert chosen.measured
    fit = [one for one in measured if not one.collapsed and one.clip_loss <= LIMIT]
    if fit:
        assert chosen in fit and all(chosen.success <= one.success for one in fit)
        ties = [one for one in fit if one.success == chosen.success]
        assert all(chosen.clip_loss <= one.clip_loss for one in ties)
    else:
        rivals = [one for one in measured if not one.collapsed] or measured
        assert chosen in rivals and all(chosen.clip_loss <= one.clip_loss for one in rivals)


def one(found: int, loss: float, collapsed: bool = False) -> Tried:
    trial = Trial({}, "violence", "done", found=found, asked=10, clip_loss=loss, collapsed=collapsed)
    return Tried({"found": found}, (trial,))


def test_the_rule_in_plain_cases() -> None:
    assert choose([one(9, 0.1), one(2, 4.9), one(0, 5.1)], LIMIT) == 1, "the strongest within the limit"
    assert choose([one(2, 3.0), one(2, 2.0)], LIMIT) == 1, "ties go to the smaller loss"
    assert choose([one(0, 1.0, collapsed=True), one(9, 2.0)], LIMIT) == 1, "a collapsed one cannot win"
    assert choose([one(0, 9.0), one(5, 7.0)], LIMIT) == 1, "beyond the limit the loss decides"
    assert choose([one(0, 9.0, True), one(5, 7.0, True)], LIMIT) == 1
    assert choose([], LIMIT) is None


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_as_many_configurations(name: str) -> None:
    assert name in grid_names("world")
    method, found = load_method(name), configurations(name, "world")
    built = {json.dumps(method.with_preset("miniature", **one).model_dump(mode="json")) for one in found}
    assert len(built) == len(found), "two configurations are the same"
    assert len(found) == CONFIGURATIONS or name in FEWER, "as many for each, or the reason here"
    assert not any("training_seed" in one for one in found)


@pytest.mark.parametrize("name", method_names())
def test_the_preset_is_what_the_search_chose(name: str) -> None:
    record = json.loads((Path(__file__).parents[1] / "results/studies/presets/study.json").read_text())
    found, method = record["methods"][name], load_method(name)
    chosen = dict(found["tried"][found["chosen"]]["settings"])
    if chosen.get("layers") == ALL_LAYERS:
        chosen["layers"] = None
    assert method.with_preset("miniature", **chosen) == method.with_preset("miniature")
    assert [one["settings"] for one in found["tried"]] == configurations(name, "world")


FEWER: dict[str, str] = {}
"""Methods without twelve choices that mean something, and why."""


def test_unknown_methods_and_domains_are_named() -> None:
    with pytest.raises(UnknownNameError, match="zerase"):
        configurations("zerasse", "world")
    with pytest.raises(ConfigurationError, match="photograph"):
        grid_names("photograph")


def test_a_small_search_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [{"layers": [0]}, {"layers": [0, 1], "renormalise": True}]
    monkeypatch.setattr(search, "configurations", lambda name, domain: small)
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"methods": "token_zeroing", "concepts": "violence", "prompts": 2}
    record = presets_study(tmp_path, progress=lambda *counts: told.append(counts), **options)
    assert told[-1] == (2, 2)
    found = record["methods"]["token_zeroing"]
    assert found["chosen"] in (0, 1) and [row["settings"] for row in found["tried"]] == small
    (trial,) = found["tried"][0]["trials"]
    assert trial["asked"] == 2 and trial["status"] == "done" and trial["error"] is None
    work = tmp_path / "work" / "erasures"
    stamps = {folder.name: folder.stat().st_mtime_ns for folder in work.iterdir()}
    again = presets_study(tmp_path, **options)
    assert again == record, "the same figures, read from what is there"
    assert {folder.name: folder.stat().st_mtime_ns for folder in work.iterdir()} == stamps
    page = (tmp_path / "study.md").read_text()
    assert page == render_page(record) and "layers [0, 1], renormalise True" in page
    with pytest.raises(ConfigurationError, match="nothing to try"):
        presets_study(tmp_path, methods=" , ")


def test_a_configuration_that_fails_is_kept_and_never_chosen() -> None:
    failed = Tried({"x": 1}, (Trial({}, "violence", "failed", error="Traceback\nTraining diverged"),))
    assert choose([failed, one(9, 9.0)], LIMIT) == 1
    described = search._described([failed, one(9, 9.0)], LIMIT)
    assert described["chosen"] == 1 and described["tried"][0]["trials"][0]["error"] == "Training diverged"
    record = {"model": "miniature", "concepts": ["violence"], "prompts": 2, "rule": "", "clip_limit": LIMIT}
    assert "| x 1 | failed | – | – | – | – | – |" in render_page({**record, "methods": {"uce": described}})
