"""Replays in a run: stored candidates of one run tried in another, and in the run that made them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attack_tools import ATTACKS, Words, install_attacks, small_judge
from tests.runner_tools import Recorder, recorded_run, stranger_world
from tests.tiny import save_smallest_pipeline
from zbench.config import RunConfig
from zbench.errors import ConfigurationError
from zbench.metrics.robustness import AttackRecord
from zbench.runner import RunResult
from zbench.runner.planning import plan
from zbench.stages.judge import read_outcomes

MADE = ("words", "pushed", "drifts")
PROMPTS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_smallest_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), install_attacks, small_judge):
        yield


@pytest.fixture(scope="module")
def made_once(_small_world: None, model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """`original` attacked with texts, embeddings and changed models; do not write into its folder."""
    return run_once(model, tmp_path_factory.mktemp("made") / "runs", attacks=MADE)[0]


@pytest.fixture
def made(made_once: RunResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once.root, tmp_path / "made"))


def config_of(model: Path, out: Path, **more: Any) -> RunConfig:
    fields: dict[str, Any] = {
        "concept": "nudity", "model": str(model), "out": out, "prompts": PROMPTS, "steps": 2,
        "device": "cpu", "protocol": "tuning",
    }  # fmt: skip
    return RunConfig.create({**fields, **more})


def run_once(model: Path, out: Path, **more: Any) -> tuple[RunResult, Recorder]:
    return recorded_run(config_of(model, out, **more))


def only(result: RunResult, label: str = "original") -> AttackRecord:
    [record] = next(cell for cell in result.cells if cell.spec.label == label).attacks
    return record


def verdicts(root: Path, record: AttackRecord) -> dict[Any, Any]:
    """Of the attack and of its control; plain retries are the same for every attack."""
    rows = [row for row in read_outcomes(root / record.stages["score"]).rows if row.arm != "retry"]
    return {(row.arm, row.prompt_id, row.k): (row.seed, row.score, row.hit) for row in rows}


@pytest.mark.parametrize("name", ["words", "pushed"])
def test_a_replay_finds_again_what_was_found(
    name: str, model: Path, made_once: RunResult, tmp_path: Path
) -> None:
    """On the erasure that it was made for, in a run folder of its own: same noise, same verdicts."""
    source = tmp_path / "source"
    for folder in (made_once.root / "attacks").glob(f"{name}-*"):
        shutil.copytree(folder, source / "attacks" / folder.name)
    result, _ = run_once(model, tmp_path / "again", attacks=(f"replay:{source}",))
    again = only(result)
    first = next(record for record in made_once.cells[0].attacks if record.attack == name)
    assert (again.attack, again.status, again.prompts) == ("replay", "done", PROMPTS), again.reason
    assert verdicts(result.root, again) == verdicts(made_once.root, first)
    assert [figure["value"] for figure in again.figures] == [figure["value"] for figure in first.figures]


def test_a_run_replayed_into_itself_comes_to_rest(model: Path, made: Path) -> None:
    """Texts and embeddings of all its attacks; changed models, and the replay itself, are none of it."""
    asked: dict[str, Any] = {"attacks": (f"replay:{made}",), "methods": ("shift",)}
    first, recorder = run_once(model, made, **asked)
    budget = {"words": 2, "pushed": 2}
    for label in ("original", "shift s0"):
        record = only(first, label)
        assert record.status == "done", record.reason
        keys = verdicts(made, record)
        assert len([key for key in keys if key[0] == "attack"]) == PROMPTS * sum(budget.values())
        assert {key[1:] for key in keys if key[0] == "attack"} == {
            key[1:] for key in keys if key[0] != "attack"
        }
    assert any("replay" in stage for stage in recorder.stages)
    second, recorder = run_once(model, made, **asked)
    assert recorder.stages == []
    assert [cell.id for cell in second.cells] == [cell.id for cell in first.cells]


def test_lines_of_a_file_are_tried(model: Path, made_once: RunResult, tmp_path: Path) -> None:
    first = next(record for record in made_once.cells[0].attacks if record.attack == "words")
    prompts = sorted({key[1] for key in verdicts(made_once.root, first)})
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt_id": prompts[0], "text": "a red house"}))
    result, _ = run_once(model, tmp_path / "runs", attacks=(f"replay:{path}",))
    record = only(result)
    assert (record.status, record.label) == ("done", "replay:mine.jsonl"), record.reason
    assert sorted(verdicts(result.root, record)) == [("attack", prompts[0], 1), ("control", prompts[0], 1)]


# Planning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"attacks": ("replay",)}, "write replay:PATH"),
        (
            {"attacks": ("replay:made",), "settings": {"replay:made": {"budget": 1}}},
            "a replay has no settings",
        ),
        ({"attacks": ("replay:nowhere",)}, "does not exist"),
        (
            {"attacks": ("words",), "methods": ("words",), "settings": {"words": {"budget": 1}}},
            "'words' is a method and an attack",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(model: Path, tmp_path: Path, more: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        plan(config_of(model, tmp_path, **more))


def test_the_values_of_an_attacks_paper_are_for_those_who_ask(tmp_path: Path) -> None:
    """By default they would be millions of encodings on a model of photographs."""

    def planned(model: str, preset: str | None = None) -> tuple[str | None, int]:
        fields: dict[str, Any] = {"concept": "picasso", "model": model, "attacks": ("in-earnest",)}
        attack = plan(RunConfig.create({**fields, "preset": preset, "out": tmp_path}))[0].attacks[0]
        return attack.preset, attack.hyperparameters["budget"]

    with pytest.MonkeyPatch.context() as monkeypatch:
        presets = {"paper": {"budget": 3000}, "miniature": {"budget": 2}}
        kind = type("InEarnest", (Words,), {"name": "in-earnest", "presets": presets})
        monkeypatch.setitem(ATTACKS, "in-earnest", kind)
        assert planned("z-image-turbo") == (None, Words().budget)
        assert planned("z-image-turbo", "paper") == ("paper", 3000)
        assert planned("z-image-turbo", "searched") == (None, Words().budget)
        assert planned("miniature") == planned("miniature", "searched") == ("miniature", 2)
        assert planned("miniature", "paper") == ("paper", 3000)


def test_no_more_prompts_are_planned_than_there_are(model: Path, tmp_path: Path) -> None:
    def planned(**more: Any) -> int | None:
        return plan(config_of(model, tmp_path, attacks=("words",), **more))[0].attack_prompts

    assert planned(prompts=2) == 2 and planned(attack_prompts=1) == 1
    assert planned(prompts=2, attack_prompts=50) == 2
    assert plan(config_of(model, tmp_path))[0].attack_prompts is None
