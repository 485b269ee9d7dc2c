"""Files from anybody: each that cannot be read is named and skipped, each that says nonsense is a problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.published_tools import altered, figure_of, one_result
from tests.synthetic_results import Plan, write_tree
from zbench.metrics.figure import Figure
from zbench.results.changes import changes
from zbench.results.checks import check_tree, faults
from zbench.results.groups import groups
from zbench.results.plain import _OF_FIGURE, FIGURE_DEFAULTS
from zbench.results.tree import read_bytes, read_tree
from zbench.results.upgrade import Unreadable
from zbench.runner.specs import CellResult

RESULTS = Path(__file__).parent.parent / "results"

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "results", Plan(methods=2, concepts=2, seeds=1, attacks=1))
    return tmp_path / "results"


def fid(**fields: Any) -> Change:
    return lambda record: figure_of(record, "fid").update(fields)


def without(name: str) -> Change:
    return lambda record: figure_of(record, "fid").pop(name)


def facts(**fields: Any) -> Change:
    return lambda record: record["result"]["provenance"].update(fields)


def spec(**fields: Any) -> Change:
    return lambda record: record["result"]["spec"].update(fields)


UNREADABLE: dict[str, tuple[Change, str]] = {
    "a figure without name": (without("name"), r"figures\.\d+\.name"),
    "a figure without value": (without("value"), r"figures\.\d+\.value"),
    "a figure without unit": (without("unit"), r"figures\.\d+\.unit"),
    "a value that is text": (fid(value="x"), r"figures\.\d+\.value"),
    "an unknown field": (fid(valeu=1.0), "valeu"),
    "an unknown direction": (fid(direction="up"), "direction"),
    "an attack's figure": (
        lambda r: r["result"]["attacks"][0]["figures"][0].update(value=True), r"attacks\.0\.figures\.0",
    ),
    "no protocol": (lambda r: r["result"]["provenance"].pop("protocol"), r"provenance\.protocol"),
    "a seed that is text": (
        lambda r: r["result"]["spec"]["hyperparameters"].update(training_seed="x"), "seed",
    ),
    "no repetitions": (spec(repetitions=0), "repetitions"),
    "a hash that is a number": (
        lambda r: r["result"]["provenance"]["detectors"][0].update(file_sha256=5), "file_sha256",
    ),
    "detectors that are none": (facts(detectors=5), "detectors"),
    "a verdict that is text": (lambda r: r["result"]["verdict"].update(collapsed="x"), "collapsed"),
    "a cost that is text": (lambda r: r["result"]["cost"].update(seconds="x"), "cost"),
    "half a character": (fid(note="\ud800"), "half of a character"),
    "NaN as a value": (fid(value=float("nan"), low=None, high=None, interval=None), "holds NaN"),
    "NaN in the cost": (lambda r: r["result"]["cost"].update(seconds=float("nan")), "holds NaN"),
    "NaN in a setting": (fid(settings={"a": float("nan")}), "holds NaN"),
    "an infinity": (facts(more=float("-inf")), "holds -Infinity"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(UNREADABLE))
def test_what_nobody_can_read_is_named_and_skipped(tree: Path, tmp_path: Path, name: str) -> None:
    change, reason = UNREADABLE[name]
    path = next(tree.rglob("zerase*nudity*.json"))
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    read = read_tree(tree)
    (problem,) = read.problems
    assert problem.path == path.relative_to(tree).as_posix() and re.search(reason, problem.reason), problem
    assert "\n" not in problem.reason and problem in check_tree(tree)
    assert groups(read.results) and changes(tree, tree).unexplained == ()


@pytest.mark.parametrize("place", ["value", "cost", "threshold"])
def test_a_number_that_is_too_large_is_refused(place: str) -> None:
    record = one_result().model_dump(mode="json")
    homes = {
        "value": figure_of(record, "fid"),
        "cost": record["result"]["cost"],
        "threshold": record["result"]["provenance"]["detectors"][0],
    }
    homes[place][place if place != "cost" else "seconds"] = "HERE"
    with pytest.raises(Unreadable):
        read_bytes(json.dumps(record).replace('"HERE"', "1e999").encode())


def test_a_number_that_is_too_large_is_a_problem_wherever_it_stands() -> None:
    assert any("no number" in line for line in faults(altered(one_result(), fid(settings={"a": 1e999}))))


def test_a_file_that_is_nested_too_deeply_is_named() -> None:
    with pytest.raises(Unreadable, match=r"nested too deeply|not JSON"):
        read_bytes(b"[" * 200_000)


def test_figures_are_read_as_the_model_says() -> None:
    """The compiled form and the model must not drift apart."""
    assert set(_OF_FIGURE) == set(Figure.model_fields)
    for figure in one_result().result.figures:
        assert Figure.model_validate(figure).model_dump() == figure
    assert FIGURE_DEFAULTS["settings"] == {}


def test_empty_settings_are_not_shared() -> None:
    record = one_result().model_dump(mode="json")
    for figure in record["result"]["figures"]:
        figure.pop("settings")
    figures = read_bytes(json.dumps(record).encode()).result.figures
    figures[0]["settings"]["mine"] = 1
    assert figures[1]["settings"] == {}


def test_committed_files_follow_the_committed_schema() -> None:
    validator = jsonschema.Draft202012Validator(json.loads((RESULTS / "schema.json").read_text()))
    paths = [path for path in sorted(RESULTS.rglob("*.json")) if path.parent != RESULTS]
    paths = [path for path in paths if b'"zbench result"' in path.read_bytes()]
    assert paths
    for path in paths:
        errors = [error.message for error in validator.iter_errors(json.loads(path.read_text()))]
        assert not errors, f"{path}: {errors[0]}"


# What a file says of itself ---------------------------------------------------------------------------------


def drop(name: str) -> Change:
    return lambda record: record["outcomes"].pop(name)


def as_values(record: dict[str, Any]) -> None:
    outcomes = record["outcomes"]["asr_explicit"]
    outcomes["values"] = [float(letter) for letter in outcomes.pop("hits")]


def bare_rate(record: dict[str, Any]) -> None:
    more = {"n": None, "low": None, "high": None, "interval": None, "settings": {"formula": "x"}}
    figure_of(record, "asr_explicit").update(more)


def unmeasured(record: dict[str, Any]) -> None:
    more = {"value": None, "n": None, "low": None, "high": None, "note": "lost"}
    figure_of(record, "asr_explicit").update(more)


PROBLEMS: dict[str, tuple[Change, str]] = {
    "no outcomes": (drop("asr_explicit"), "asr_explicit has no outcomes"),
    "no outcomes of collapse": (drop("collapse_rate"), "collapse_rate has no outcomes"),
    "a rate as values": (as_values, "asr_explicit are values"),
    "a formula of one's own": (bare_rate, "asr_explicit has no interval"),
    "not measured, with outcomes": (unmeasured, "was not measured, and has outcomes"),
    "outcomes of nothing": (
        lambda r: r["outcomes"].update(more=r["outcomes"]["asr_explicit"]), "outcomes of more, and no such",
    ),
    "one bound": (fid(high=None), "only one end"),
    "two figures of one name": (
        lambda r: r["result"]["figures"].append(figure_of(r, "fid")), "fid stands in it 2 times",
    ),
    "another method": (spec(method="zerase"), "the method is uce in one place and zerase"),
    "another concept": (lambda r: r["concept"].update(name="cat"), "the concept is cat"),
    "another commit": (lambda r: r["release"].update(commit="a" * 40), "the commit is aaaa"),
    "other weights": (lambda r: r["model"].update(weights="sha256:0"), "the model's weights"),
    "other steps": (spec(steps=9), "the number of steps"),
    "another protocol": (spec(protocol="paper"), "the protocol is zbench"),
    "attacks that were not made": (lambda r: r["result"]["attacks"].clear(), "what attacked it"),
    "a checkout without commit": (facts(checkout={"branch": "x"}), "which code made it is unknown"),
    "a checkout that does not say": (facts(checkout={"commit": "c" * 40}), "uncommitted"),
    "a release that does not say": (facts(checkout=None, release={"record_sha256": "0" * 64}), "altered"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_what_does_not_hold_is_a_problem(name: str) -> None:
    change, expected = PROBLEMS[name]
    assert not list(faults(one_result()))
    found = list(faults(altered(one_result(), change)))
    assert any(expected in line for line in found), found


# Where files stand ------------------------------------------------------------------------------------------


def problems(tree: Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in check_tree(tree)}


def test_a_cell_may_not_stand_under_two_concepts(tree: Path) -> None:
    first, other = next(tree.rglob("uce*nudity*.json")), next(tree.rglob("uce*gogh*.json"))
    record = json.loads(other.read_text())
    record["result"]["id"] = first.stem
    moved = other.with_name(first.name)
    moved.write_text(json.dumps(record))
    other.unlink()
    place = moved.relative_to(tree).as_posix()
    told = [problem.reason for problem in check_tree(tree) if problem.path == place]
    assert any("a duplicate: the cell" in reason for reason in told), told


def test_strangers_are_found_wherever_they_lie(tree: Path) -> None:
    for place in ("miniature/x.txt", "miniature/nsfw/nudity/empty/stray.webp", "other/deep/y.bin"):
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_bytes(b"")
    (tree / "miniature/x.json").write_text("{}")
    found = problems(tree)
    assert set(found) == {
        "miniature/x.txt", "miniature/x.json", "miniature/nsfw/nudity/empty/stray.webp", "other/deep/y.bin",
    }  # fmt: skip
    assert "not a published result" in found["miniature/x.json"]


def test_links_are_problems(tree: Path, tmp_path: Path) -> None:
    folder = next(tree.rglob("uce*.json")).parent
    (folder / "x.json").symlink_to(tmp_path / "nowhere.json")
    (tree / "miniature" / "away").symlink_to("/tmp")
    found = [str(problem) for problem in check_tree(tree)]
    assert any("x.json: a link" in line for line in found) and any("away: a link" in line for line in found)
    assert changes(tree, tree).figures == ()


def test_a_cell_of_a_run_folder_is_as_strict() -> None:
    record = one_result().result.model_dump(mode="json")
    with pytest.raises(ValueError, match="steps"):
        CellResult.model_validate({**record, "spec": {**record["spec"], "steps": 0}})
