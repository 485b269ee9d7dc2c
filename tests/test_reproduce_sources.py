"""Where results come from: trees whose groups are not mixed, run folders, and files that are no results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reproduction_tools import OPTIONS, Quality, find_of, result_of
from zbench.errors import StoreError
from zbench.report.trainings import Trainings
from zbench.reproduction.answering import Reader
from zbench.reproduction.effects import effect
from zbench.reproduction.grids import table_runs
from zbench.reproduction.pages import table_page
from zbench.reproduction.reading import Measured, read_measured
from zbench.reproduction.rendering import render_markdown
from zbench.reproduction.series import Series, series_of
from zbench.reproduction.sources import finder, in_run_folder
from zbench.reproduction.tables import ORIGINAL, load_table
from zbench.results.form import to_text
from zbench.results.schema import PublishedResult
from zbench.runner.planning import plan
from zbench.runner.specs import CellSpec
from zbench.store import MARKER

ROWS = ("original", "uce", "zerase")
GOOD = Quality(shown=0.2, clip=29.9, fid=10.05, acc_e=25.0, acc_ir=29.5)


def good(row: str, concept: str) -> Quality:
    del concept
    return Quality() if row == ORIGINAL else GOOD


def specs(table: str, rows: tuple[str, ...] = ROWS) -> Iterator[CellSpec]:
    for run in table_runs(load_table(table), OPTIONS):
        yield from (each for each in plan(run.config) if each.method in rows)


def published(table: str, rows: tuple[str, ...] = ROWS) -> list[PublishedResult]:
    """The planned results of some methods; a cell that several runs share is there once."""
    found = [result_of(spec, good(spec.method, spec.concept)) for spec in specs(table, rows)]
    return list({each.id: each for each in found}.values())


def write(root: Path, results: list[PublishedResult]) -> None:
    for result in results:
        path = root / result.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_text(result))


def renamed(result: PublishedResult, **changes: Any) -> PublishedResult:
    """The same under another id, with changes of the cell's result or of what stands around it."""
    own = {name: value for name, value in changes.items() if name == "provenance"}
    cell = result.result.model_copy(update={"id": f"{result.id}-other", **own})
    rest = {name: value for name, value in changes.items() if name not in own}
    return result.model_copy(update={"result": cell, **rest})


def read(root: Path, table: str = "celebrity", model: str = "miniature") -> Measured:
    return read_measured(load_table(table), OPTIONS, finder(root, model))


def trainings(found: Measured) -> dict[str, int]:
    return {place[0]: len(of.results) for place, of in found.rows.items()}


# Trees ----------------------------------------------------------------------------------------------------


def test_a_tree_of_results_is_read_by_what_was_done(tmp_path: Path) -> None:
    write(tmp_path, published("celebrity", ("zerase",)))
    spec = next(specs("celebrity", ("uce",)))
    write(tmp_path, [result_of(spec.model_copy(update={"steps": 4}), GOOD)])
    write(tmp_path, [renamed(result_of(spec.model_copy(update={"protocol": "zbench"}), GOOD))])
    found = read(tmp_path)
    assert trainings(found) == {"zerase": 3}
    assert (found.found, found.wanted) == (3, 28)
    assert found.left_out == (
        "Left out, four-people of protocol paper: 1 result of other circumstances (steps 4).",
    )
    assert read(tmp_path, model="z-image-turbo").found == 0


def other_weights(result: PublishedResult) -> dict[str, Any]:
    return {"model": result.model.model_copy(update={"weights": "sha256:1"})}


def other_version(result: PublishedResult) -> dict[str, Any]:
    return {"provenance": {**result.result.provenance, "protocol": "paper v2"}}


def other_prompts(result: PublishedResult) -> dict[str, Any]:
    facts = {name: each.model_copy(update={"sha256": "1" * 64}) for name, each in result.prompts.items()}
    return {"prompts": facts}


def other_detectors(result: PublishedResult) -> dict[str, Any]:
    detector = {"name": "world", "version": "2", "threshold": 0.5, "file_sha256": "2" * 64}
    return {"provenance": {**result.result.provenance, "detectors": [detector]}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (other_weights, "model: weights sha256:1"),
        (other_version, "protocol paper v2, not paper v1"),
        (other_prompts, "other prompts"),
        (other_detectors, "other detectors"),
    ],
)
def test_results_that_do_not_compare_are_never_mixed(tmp_path: Path, changes: Any, said: str) -> None:
    """Z-Erase was also trained elsewhere; the larger group is read, whole, and the other one is named."""
    write(tmp_path, published("celebrity", ("original", "uce")))
    zerase = published("celebrity", ("zerase",))
    write(tmp_path, zerase[:1])
    write(tmp_path, [renamed(each, **changes(each)) for each in zerase])
    found = read(tmp_path)
    assert trainings(found) == {ORIGINAL: 1, "uce": 3, "zerase": 1}
    (line,) = found.left_out
    assert "3 results" in line and said in line
    assert line in render_markdown([table_page(found)])


def test_every_suite_of_attacks_of_the_chosen_group_is_read(tmp_path: Path) -> None:
    """The same erasures under three suites are one group here: they differ in attacks alone."""
    ours = published("attacks", ("original", "token_zeroing", "zerase"))
    write(tmp_path, ours)
    write(tmp_path, [renamed(each, **other_weights(each)) for each in ours if each.method.name == "zerase"])
    found = read(tmp_path, "attacks")
    suites = {place[2]: len(of.results) for place, of in found.rows.items() if place[0] == "zerase"}
    assert suites == {"first": 3, "second": 3, "typos": 3}
    weights = {each.model.weights for of in found.rows.values() for each in of.results}
    assert weights == {"sha256:0"} and len(found.left_out) == 1


def test_a_larger_group_of_other_conditions_hides_nothing(tmp_path: Path) -> None:
    """A quick look at everything, with fewer steps, beside a little that was done as planned."""
    write(tmp_path, published("celebrity", ("zerase",))[:1])
    quick = [spec.model_copy(update={"steps": 4}) for spec in specs("celebrity")]
    write(tmp_path, [renamed(result_of(spec, GOOD)) for spec in quick])
    found = read(tmp_path)
    assert trainings(found) == {"zerase": 1}
    assert len(found.left_out) == 1 and "7 results of other circumstances (steps 4)" in found.left_out[0]


def series_under(change: Any) -> Series:
    results = [each.model_copy(update=change(each)) for each in published("celebrity", ("zerase",))]
    rows = {("zerase", "four-people", ""): Trainings(results)}
    table = load_table("celebrity")
    found = series_of(Measured(table, "world", "miniature", rows, {}, 3, 3), "zerase", table.column("clip"))
    assert found is not None
    return found


def test_pictures_of_other_prompts_are_no_pairs() -> None:
    """Position alone makes no pair: the hash of the prompts is part of it."""
    first, second = series_under(lambda result: {}), series_under(other_prompts)
    assert "sign flips" in effect(first, first, 30.0).test
    assert "as if independent" in effect(first, second, 30.0).test


# What is wrong with results -------------------------------------------------------------------------------


def test_a_truncated_file_is_named_once(tmp_path: Path) -> None:
    write(tmp_path, published("celebrity"))
    path = next(tmp_path.rglob("uce-*.json"))
    path.write_text(path.read_text()[:200])
    found = read(tmp_path)
    assert trainings(found)["uce"] == 2
    (named,) = [line for line in found.failed if path.name in line]
    assert "truncated" in named
    reader = Reader(OPTIONS, tmp_path)
    answers = reader.answers()
    pages = [render_markdown([page]) for page in reader.pages([reader.measured("celebrity")], answers)]
    assert [page.count(path.name) for page in pages] == [1, 1]  # the table, and the claims


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"schema_version": 1, "id": "x"}, "no result of this version of zbench"),
        ({"schema_version": 99}, "schema version 99"),
        ({}, "has no schema version"),
        (None, "truncated or not JSON"),
    ],
)
def test_a_wrong_result_in_a_run_folder_is_one_clear_line(
    tmp_path: Path, content: dict[str, Any] | None, message: str
) -> None:
    from zbench.runner.workshop import Workshop

    spec = next(specs("celebrity"))
    folder = tmp_path / "cells" / Workshop().identities.name(spec)
    folder.mkdir(parents=True)
    (tmp_path / MARKER).write_text("{}")
    (folder / "result.json").write_text("{" if content is None else json.dumps(content))
    with pytest.raises(StoreError, match=message) as caught:
        finder(tmp_path, "miniature")(spec)
    assert "result.json: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_cell_that_failed_is_named_and_no_number() -> None:
    find = find_of("celebrity", good)

    def failing(spec):  # type: ignore[no-untyped-def]
        result = find(spec)
        if result is None or spec.method != "uce":
            return result
        gone = {"status": "failed", "error": "Traceback\nValueError: too warm", "figures": ()}
        return result.model_copy(update={"result": result.result.model_copy(update=gone)})

    found = read_measured(load_table("celebrity"), OPTIONS, failing)
    assert "uce s0 on four-people: failed (ValueError: too warm)" in found.failed
    page = render_markdown([table_page(found)])
    assert "too warm" in page and "| UCE | 21.91 | – |" in page


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no folder"):
        finder(tmp_path / "nowhere", "miniature")
    with pytest.raises(StoreError, match="holds no published results"):
        finder(tmp_path, "miniature")
    run = table_runs(load_table("celebrity"), OPTIONS)[0]
    assert in_run_folder(tmp_path)(plan(run.config)[0]) is None
