"""A published cell that is run again holds where every figure comes out within its committed interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from tests.synthetic_results import Plan, results, write_tree
from zbench.errors import ConfigurationError
from zbench.results.form import to_text
from zbench.results.recheck import as_markdown, chosen, compared, main, rerun
from zbench.results.schema import PublishedResult
from zbench.runner.specs import CellResult, CellSpec

PLAN = Plan(methods=2, concepts=1, seeds=2, attacks=1, sprites=False)


@pytest.fixture(scope="module")
def published() -> PublishedResult:
    return next(result for result, _ in results(PLAN) if result.method.name == "uce")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_tree(root, PLAN)
    return root


def came_out(published: PublishedResult) -> CellResult:
    """What a run gives: unlike a published result it says of prompts themselves which they are."""
    sheets = {role: {"set": facts.set, "sha256": facts.sha256} for role, facts in published.prompts.items()}
    facts = published.result.provenance | {"prompts": sheets}
    return published.result.model_copy(update={"provenance": facts})


def with_figure(result: CellResult, name: str, **changes: Any) -> CellResult:
    changed = [figure | changes if figure["name"] == name else figure for figure in result.figures]
    return result.model_copy(update={"figures": tuple(changed)})


def test_the_same_figures_hold(published: PublishedResult) -> None:
    check = compared(published, came_out(published))
    assert check.holds
    assert {each.name for each in check.figures} >= {"asr_explicit", "fid", "clip_score", "object_accuracy"}
    assert f"{len(check.figures)} of {len(check.figures)} figures lie within" in as_markdown([check])


@pytest.mark.parametrize(("bound", "beyond", "holds"), [
    ("low", 0.0, True), ("high", 0.0, True), ("low", -0.01, False), ("high", 0.01, False),
])  # fmt: skip
def test_the_interval_decides(published: PublishedResult, bound: str, beyond: float, holds: bool) -> None:
    figure = published.result.figure("asr_explicit")
    assert figure is not None
    again = with_figure(came_out(published), "asr_explicit", value=figure[bound] + beyond)
    check = compared(published, again)
    assert check.holds == holds
    assert ("**NO**" in as_markdown([check])) != holds


def test_a_figure_without_an_interval_must_come_out_the_same(published: PublishedResult) -> None:
    bare = published.model_copy(update={"result": with_figure(published.result, "fid", low=None, high=None)})
    assert compared(bare, came_out(bare)).holds
    value = bare.result.figure("fid")["value"]  # type: ignore[index]
    assert not compared(bare, with_figure(came_out(bare), "fid", value=value * 1.001)).holds


def test_a_figure_that_is_gone_does_not_hold(published: PublishedResult) -> None:
    fewer = [figure for figure in published.result.figures if figure["name"] != "kid"]
    assert not compared(published, came_out(published).model_copy(update={"figures": tuple(fewer)})).holds


def test_what_does_not_compare_is_said(published: PublishedResult) -> None:
    facts = came_out(published).provenance
    for changes, said in (
        ({"protocol": "zbench v9"}, "zbench v9 now"),
        ({"model": {**facts["model"], "weights": "sha256:00"}}, "other weights"),
        ({"prompts": {**facts["prompts"], "explicit": {"sha256": "00"}}}, "prompts of explicit"),
    ):
        again = published.result.model_copy(update={"provenance": {**facts, **changes}})
        check = compared(published, again)
        assert not check.holds and said in as_markdown([check])


def test_a_failed_run_says_why(published: PublishedResult) -> None:
    again = published.result.model_copy(update={"status": "failed", "error": "Traceback\nRuntimeError: no"})
    check = compared(published, again)
    assert not check.holds and "RuntimeError: no" in as_markdown([check])


def test_it_is_run_without_attacks_on_any_device(published: PublishedResult) -> None:
    asked: list[CellSpec] = []

    def run(spec: CellSpec) -> CellResult:
        asked.append(spec)
        return came_out(published)

    assert rerun(published, run).holds
    ours = published.result.spec
    assert asked[0].attacks == () and asked[0].device is None
    assert asked[0].hyperparameters == ours.hyperparameters and asked[0].concept == ours.concept


def test_the_lowest_seed_of_each_method_is_chosen(tree: Path) -> None:
    found = chosen(tree, ("zerase", "uce"), "nudity", "miniature")
    assert [each.result.spec.label for each in found] == ["zerase s0", "uce s0"]


def test_the_protocols_own_conditions_are_preferred(tree: Path) -> None:
    (first,) = chosen(tree, ("uce",), "nudity", "miniature")
    for name, change in (("paper v1", {"protocol": "paper"}), ("zbench v2", {"prompts": 8})):
        record = first.model_dump(mode="json")
        record["result"]["id"] = f"a-{len(name)}"
        record["result"]["provenance"]["protocol"] = name
        record["result"]["spec"] |= change
        result = PublishedResult.model_validate(record)
        (tree / result.place).write_text(to_text(result))
    assert chosen(tree, ("uce",), "nudity", "miniature")[0].id == first.id
    (paper,) = chosen(tree, ("uce",), "nudity", "miniature", "paper")
    assert paper.result.spec.protocol == "paper"
    with pytest.raises(ConfigurationError, match=r"protocol nowhere"):
        chosen(tree, ("uce",), "nudity", "miniature", "nowhere")


def test_an_unknown_method_names_those_there_are(tree: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no result of mace for nudity .* original, uce, zerase"):
        chosen(tree, ("mace",), "nudity", "miniature")


def test_the_command_writes_its_summary(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: PublishedResult
) -> None:
    same = came_out(published)
    worse = with_figure(same, "fid", value=1e6)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    for again, code in ((same, 0), (worse, 1)):
        monkeypatch.setattr("zbench.results.recheck._runner", lambda folder, again=again: lambda spec: again)
        with pytest.raises(typer.Exit) as ended:
            main(tree, methods="uce", summary=summary)
        assert ended.value.exit_code == code
    text = summary.read_text()
    assert text.startswith("before\n") and text.count("### uce-s0-nudity-") == 2
    with pytest.raises(typer.Exit) as ended:
        main(tmp_path / "nowhere", methods="uce")
    assert ended.value.exit_code == 2
