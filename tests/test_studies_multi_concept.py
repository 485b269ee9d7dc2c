"""Several concepts at once: arms, joint concept, readings that are found again, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zbench.concepts import Concept, load_concept
from zbench.edits import LoraEdit
from zbench.errors import ConfigurationError, TrainingDivergedError, UnknownNameError
from zbench.registry import load_method
from zbench.stages import erase as erasing
from zbench.stages.inputs import ModelHandle
from zbench.studies import load_study, study_options
from zbench.studies.multi_concept import MEMBERS, _read, _Trainer, joined, multi_concept_study
from zbench.studies.multi_concept_page import comparisons, render_page
from zbench.studies.reading import Notebook, Reader, Reading, tuning_samples

QUICK = {"ac": {"steps": 1, "batch_size": 1, "trajectories": 1, "rank": 2}}


def members() -> list[Concept]:
    return [load_concept(name) for name in MEMBERS["world"][:2]]


@pytest.fixture(scope="module")
def trainer(tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> _Trainer:
    return _Trainer(ModelHandle(str(tiny_pipeline_folder), "cpu"), tmp_path_factory.mktemp("multi"), QUICK)


def test_the_default_members_are_the_catalogues_composite() -> None:
    every = [load_concept(name) for name in MEMBERS["world"]]
    assert joined(every, "world") == load_concept("four-people")
    assert all(load_concept(name, "photograph").family == "style" for name in MEMBERS["photograph"])


def test_other_members_are_joined_prompt_by_prompt() -> None:
    pair = members()
    whole = joined(pair, "world")
    assert whole.members == tuple(member.name for member in pair) and whole.family == "identity"
    assert whole.training_prompts == pair[0].training_prompts + pair[1].training_prompts
    assert whole.anchor_prompts == pair[0].anchor_prompts + pair[1].anchor_prompts
    assert set(whole.phrases) == {*pair[0].phrases, *pair[1].phrases}
    assert len(set(whole.preserve_prompts)) == len(whole.preserve_prompts)


def test_the_arms_are_single_added_and_joint(trainer: _Trainer) -> None:
    arms = list(trainer.arms("ac", members(), (1.0,)))
    assert [arm.kind for arm in arms] == ["single"] * 2 + ["added"] * 2 + ["joint"] * 2
    assert [arm.weight for arm in arms if arm.kind == "added"] == [0.5, 1.0]
    assert [arm.parts[0][1] for arm in arms if arm.kind == "joint"] == [1, 2]
    assert trainer.described["ac"]["rank"] == 2
    assert len({str(trainer.config(arm)) for arm in arms}) == len(arms)


def test_added_up_means_the_sum_of_the_members_products(trainer: _Trainer) -> None:
    arms = list(trainer.arms("ac", members(), (1.0,)))
    first, second, average, whole, *_ = (trainer.edit(arm)[0] for arm in arms)
    for path in ("layers.0.attention.to_q", "layers.2.attention.to_v"):
        products = [product(edit, path) for edit in (first, second, average, whole)]
        assert products[0].abs().sum() > 0 and not torch.equal(products[0], products[1])
        torch.testing.assert_close(products[2], (products[0] + products[1]) / 2, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(products[3], products[0] + products[1], rtol=1e-4, atol=1e-9)


def product(edit: LoraEdit, path: str) -> torch.Tensor:
    tensors = edit.tensors()
    down, up = (tensors[f"transformer.{path}.lora_{half}.weight"].detach().double() for half in "AB")
    return edit.alpha / edit.rank * up @ down


def test_trainings_are_found_again(trainer: _Trainer) -> None:
    arm = next(iter(trainer.arms("ac", members(), ())))
    trainer.edit(arm)
    counted = trainer.handle.model.counter.forwards
    trainer.edit(arm)
    assert trainer.handle.model.counter.forwards == counted


def test_another_version_of_a_method_is_another_edit(
    trainer: _Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = list(trainer.arms("ac", members(), ()))
    before = [trainer.config(arm) for arm in arms]
    monkeypatch.setattr(load_method("ac"), "version", 99)
    assert all(trainer.config(arm) != config for arm, config in zip(arms, before, strict=True))


class StubReader:
    """Reads nothing."""

    def identity(self) -> dict[str, Any]:
        return {"stub": 1}

    def read(self, edit: LoraEdit | None) -> Reading:
        return Reading({"stub": 1}, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_a_member_that_diverges_is_written_down_once(
    tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def erase(folder: Any, method: Any, concept: Concept, model: Any) -> None:
        tried.append(concept.name)
        if concept.name == MEMBERS["world"][1]:
            raise TrainingDivergedError("erase is nan at step 3")
        whole(folder, method, concept, model)

    whole = erasing.erase
    monkeypatch.setattr(erasing, "erase", erase)
    own = _Trainer(ModelHandle(str(tiny_pipeline_folder), "cpu"), tmp_path / "work", QUICK)
    reader: Any = StubReader()
    notebook = Notebook(tmp_path)
    arms = [arm for arm in own.arms("ac", members(), (1.0,)) if arm.kind != "joint"]
    found = [_read(notebook, reader, arm, own) for arm in arms]
    assert [row["reading"] is None for row in found] == [False, True, True, True]
    assert all("tobin-vask, 1 steps: erase is nan" in row["diverged"] for row in found[1:])
    assert tried == list(MEMBERS["world"][:2]), "one training each"
    assert [_read(notebook, reader, arm, own) for arm in arms] == found and len(tried) == 2


def test_a_method_without_adapters_cannot_be_added_up(trainer: _Trainer) -> None:
    with pytest.raises(ConfigurationError, match="no low-rank adapters"):
        list(trainer.arms("uce", members(), ()))


@pytest.mark.parametrize(
    "options",
    [{"members": "mira-solen"}, {"members": "mira-solen,mira-solen"}, {"members": "mira-solen,cat"}],
)
def test_members_are_several_of_one_family(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="of one family"):
        multi_concept_study(tmp_path, **options)


def test_names_are_checked_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        multi_concept_study(tmp_path, members="mira-solen,nobody")
    with pytest.raises(UnknownNameError):
        multi_concept_study(tmp_path, methods="no-such-method")
    assert load_study("multi_concept") is multi_concept_study
    assert {"members", "kept", "methods", "weights"} <= set(study_options(multi_concept_study))


# Readings -------------------------------------------------------------------------------------------------


def test_the_notebook_gives_back_what_fits_and_nothing_else(tmp_path: Path) -> None:
    notebook, config = Notebook(tmp_path), {"a": (1, 2)}
    assert notebook.find("run", config) is None
    notebook.keep("run", config, {"value": 3})
    assert notebook.find("run", {"a": [1, 2]}) == {"value": 3}
    assert notebook.find("run", {"a": [1, 3]}) is None and notebook.find("other", config) is None
    (tmp_path / f"{notebook.name('run', config)}.json").write_text('{"config": {"a": [9]}, "figures": {}}')
    assert notebook.find("run", config) is None
    (tmp_path / f"{notebook.name('run', config)}.json").write_text("{")
    assert notebook.find("run", config) is None


def test_a_reading_of_the_miniature() -> None:
    """Real pictures, few: the original shows what it is asked for, a ruined model does not."""
    from zbench.protocols import load_protocol

    handle = ModelHandle("miniature", "cpu")
    asked = {"yuna-miro": tuning_samples("yuna-miro-explicit", "world", 2)}
    others = tuning_samples("unrelated", "world", 10)
    reader = Reader(handle, load_protocol("zbench").domain("world"), asked, others, others, batch_size=15)
    original = reader.read(None).record
    assert original["found"]["yuna-miro"]["n"] >= 1 and original["flagged"]["n"] == 0
    assert sum(original["object_hits"]) == original["objects"]["n"]
    assert original["flags"] == [0] * 10 and not original["collapsed"] and original["clip"]["mean"] > 20
    with handle.model.edited(LoraEdit(2, rows="all")) as ruin:
        for name, factor in zip(ruin._factors, ruin.parameters(), strict=True):
            factor.data = torch.randn(factor.shape, generator=torch.Generator().manual_seed(len(name))) * 3
    ruined = reader.read(ruin)
    assert ruined.record["objects"]["n"] < original["objects"]["n"]
    assert ruined.record["flagged"]["n"] > 0 and ruined.record["clip"]["mean"] < original["clip"]["mean"]
    assert ruined.unrelated.shape == (10, 3, 64, 64)


# The page -------------------------------------------------------------------------------------------------


def rate(n: int, total: int) -> dict[str, Any]:
    return {"n": n, "N": total, "low": 0.0, "high": 1.0}


def arm(kind: str, label: str, found: int, kept: int) -> dict[str, Any]:
    def hits(count: int) -> dict[str, Any]:
        return {**rate(count, 10), "hits": [1] * count + [0] * (10 - count)}

    reading = {
        "found": {"one": hits(found), "two": hits(found), "three": hits(kept)},
        "flagged": rate(0, 20), "objects": rate(18, 20), "collapsed": False, "destroyed": kept == 0,
        "clip": {"mean": 30.0 + found, "values": [30.0 + found + place / 10 for place in range(20)]},
    }  # fmt: skip
    return {"method": "ac", "kind": kind, "label": label, "weight": 1.0, "seconds": 4.0, "reading": reading}


def record(average: int, joint: int) -> dict[str, Any]:
    arms = [
        arm("single", "one alone", 5, 9), arm("added", "added up, weight 0.5", average, 9),
        arm("added", "added up, weight 1", 0, 0), arm("joint", "joint training, 1 steps", 5, 9),
        arm("joint", "joint training, 2 steps", joint, 8),
    ]  # fmt: skip
    config = {
        "model": "m", "members": ["one", "two"], "kept": ["three"], "explicit": 10, "unrelated": 20,
        "hyperparameters": {"ac": {"steps": 1}},
    }  # fmt: skip
    return compared({"config": config, "original": arm("original", "original", 10, 10), "arms": arms})


def compared(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"comparisons": comparisons(found)}


def test_the_page_compares_on_the_same_prompts() -> None:
    page = render_page(record(8, 1))
    assert "leaves more of the members than" in page and "80 % against 10 % found" in page
    assert "| added up, weight 0.5 minus joint training, 2 steps | **+70.0 (" in page
    assert "destroyed" in page and "| ac | one alone | 5/10 | 5/10 | 9/10 |" in page
    assert "leaves less of the members than" in render_page(record(0, 9))
    equal = render_page(record(4, 4))
    assert "cannot be told apart" in equal and "does not make them equal: 40 % against 40 %" in equal
    assert "leaves more" not in equal and "leaves less" not in equal


def test_comparisons_are_corrected_over_the_whole_page() -> None:
    """Eight of twenty pairs on one side: p = 0.008 alone, not below 0.05 among the pairs of three methods."""
    one = record(4, 0)
    tests = [row["members"] for row in one["comparisons"]]
    assert len(tests) == 3 and tests[0]["p"] == pytest.approx(2 * 0.5**8)
    assert tests[0]["adjusted"] == pytest.approx(3 * tests[0]["p"]) and "leaves more of" in render_page(one)
    more = [row | {"method": name} for name in ("ac", "b", "c") for row in one["arms"]]
    three = compared(one | {"arms": more})
    assert three["comparisons"][0]["members"]["adjusted"] == pytest.approx(9 * 2 * 0.5**8)
    assert "leaves more" not in render_page(three)


def test_what_diverged_has_no_figures_and_stops_nothing() -> None:
    found = record(8, 1)
    lost = {"reading": None, "seconds": 0.0, "diverged": "two, 1 steps: erase is nan at step 3"}
    found["arms"][1] |= lost
    found = compared(found)
    page = render_page(found)
    assert [row["first"] for row in found["comparisons"]] == ["added up, weight 1"]
    assert "| ac | added up, weight 0.5 | – | – | – |" in page and "| diverged | – |" in page
    assert "two, 1 steps: erase is nan at step 3" in page and "cannot be compared" in page
    for table in (block for block in page.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    for row in found["arms"]:
        row |= lost
    assert "cannot be compared" in render_page(compared(found))


def test_without_kept_concepts_nothing_is_said_of_them() -> None:
    found = record(8, 1)
    found["config"]["kept"] = []
    page = render_page(compared(found))
    assert compared(found)["comparisons"][0]["kept"]["adjusted"] is None and "leaves more" in page
