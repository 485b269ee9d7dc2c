"""Reading a tree: bad files are named and skipped, good ones grouped with what they compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.published_tools import altered, one_result
from tests.synthetic_results import Plan, results, write_tree
from zbench.errors import StoreError
from zbench.results.form import pretty, to_text
from zbench.results.groups import conditions_of, groups, measurement_key, row_key, supersedes
from zbench.results.schema import FIGURE_DEFAULTS, PublishedResult
from zbench.results.tree import RESERVED, merged, parts, read_bytes, read_tree
from zbench.results.upgrade import UPGRADES, Unreadable, upgraded

SMALL = Plan(methods=2, concepts=2, seeds=2, attacks=1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "results", SMALL)
    return tmp_path / "results"


def problem_of(tree: Path, path: Path) -> str:
    read = read_tree(tree)
    assert len(read.problems) == 1 and read.problems[0].path == path.relative_to(tree).as_posix()
    return read.problems[0].reason


# Reading --------------------------------------------------------------------------------------------------


def test_a_tree_is_read_in_order_whatever_the_number_of_processes(tree: Path) -> None:
    read = read_tree(tree)
    assert len(read.results) == 10 and not read.problems
    assert [str(each.place) for each in read.results] == sorted(str(each.place) for each in read.results)
    assert read_tree(tree, workers=2) == read
    assert merged(part.read() for part in parts(tree)) == read


def test_a_part_is_a_concept_and_changes_with_its_files(tree: Path) -> None:
    before = {str(part.place): part.digest for part in parts(tree)}
    assert list(before) == ["miniature/nsfw/nudity", "miniature/style/van-gogh"]
    path = next((tree / "miniature/style").rglob("*.json"))
    path.write_bytes(path.read_bytes() + b"\n")
    after = {str(part.place): part.digest for part in parts(tree)}
    assert [place for place in before if before[place] != after[place]] == ["miniature/style/van-gogh"]


def test_other_folders_of_results_are_left_alone(tree: Path) -> None:
    for name in (*RESERVED, ".cache"):
        (tree / name).mkdir()
        (tree / name / "anything.json").write_text("{}")
    (tree / "schema.json").write_text("{}")
    assert not read_tree(tree).problems


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "truncated or not JSON"),
        (lambda text: "", "truncated or not JSON"),
        (lambda text: "[]", "not a published result of zbench"),
        (lambda text: '{"kind": "something else"}', "not a published result of zbench"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99', 2), "upgrade zbench"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 0'), "unknown: "),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": {}'), "has no schema version"),
        (lambda text: text.replace('"guidance_scale": 0.0', '"guidance_scale": NaN', 1), "holds NaN"),
        (lambda text: text.replace('"family": ', '"familiy": '), "not a published result: concept.famil"),
        (lambda text: text.replace('"hits":"', '"hits":"x', 1), "not a published result: outcomes"),
    ],
)
def test_a_bad_file_is_named_and_skipped(tree: Path, damage: Callable[[str], str], reason: str) -> None:
    path = sorted(tree.rglob("*.json"))[-1]
    path.write_text(damage(path.read_text()))
    assert reason in problem_of(tree, path)
    assert len(read_tree(tree).results) == 9


def test_a_file_that_is_no_text_is_named(tree: Path) -> None:
    path = sorted(tree.rglob("*.json"))[0]
    path.write_bytes(b"\xff\xfe{}")
    assert "not UTF-8" in problem_of(tree, path)


def test_a_file_in_another_place_is_named_and_says_where_it_belongs(tree: Path) -> None:
    path = sorted(tree.rglob("uce*.json"))[0]
    moved = path.rename(path.with_name(f"renamed-{path.name}"))
    assert f"belongs at {path.relative_to(tree).as_posix()}" in problem_of(tree, moved)


def test_a_copy_elsewhere_is_a_problem_of_its_own(tree: Path) -> None:
    path = sorted(tree.rglob("uce*.json"))[0]
    copy = tree / "miniature/nsfw/nudity/other" / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert "belongs at" in problem_of(tree, copy) and len(read_tree(tree).results) == 10


@pytest.mark.parametrize("what", ["missing", "empty", "a file"])
def test_no_results_are_refused_with_what_to_do(tmp_path: Path, what: str) -> None:
    root = tmp_path / "results"
    if what == "empty":
        (root / "studies").mkdir(parents=True)
    elif what == "a file":
        root.write_text("")
    with pytest.raises(StoreError, match="zbench collect"):
        read_tree(root)


def test_older_files_go_through_every_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    record = one_result().model_dump(mode="json")
    record["schema_version"] = 0
    record["name_of_old"] = record.pop("prompts")

    def to_first(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "prompts": old["name_of_old"], "schema_version": 1} | {"name_of_old": None}

    with pytest.raises(Unreadable, match="schema version 0 is unknown: collect it again"):
        upgraded(json.dumps(record).encode())
    monkeypatch.setitem(
        UPGRADES, 0, lambda old: {k: v for k, v in to_first(old).items() if k != "name_of_old"}
    )
    assert read_bytes(json.dumps(record).encode()).prompts == one_result().prompts


# The file form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [{}, {"hostile": True, "methods": 4}, {"attacks": 3}])
def test_what_is_written_is_read_again(plan: dict[str, Any]) -> None:
    result = one_result(**plan)
    text = to_text(result)
    assert read_bytes(text.encode()) == result
    assert to_text(read_bytes(text.encode())) == text


def test_empty_fields_of_figures_are_filled_in_again() -> None:
    result = one_result()
    bare = json.loads(to_text(result))
    assert any("p_value" not in figure for figure in bare["result"]["figures"])
    for figure in PublishedResult.model_validate(bare).result.figures:
        assert set(FIGURE_DEFAULTS) <= set(figure)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.dictionaries(st.sampled_from(["result", "gallery", "trace", "outcomes", "x"]), PLAIN))
def test_the_form_is_json_whatever_it_holds(value: dict[str, Any]) -> None:
    assert json.loads(pretty(value)) == value
    reordered = dict(reversed(list(value.items())))
    assert pretty(reordered) == pretty(value)


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        pretty({"result": {"figures": [{"value": float("nan")}]}})


# Groups -----------------------------------------------------------------------------------------------------


def test_groups_hold_what_compares_original_first(tree: Path) -> None:
    found = groups(read_tree(tree).results)
    assert [group.concept.name for group in found] == ["nudity", "van-gogh"]
    for group in found:
        assert group.original is group.results[0] and len(group.results) == 5
        assert group.conditions == {} and group.slug == "zbench-v2"
        assert [each.result.spec.training_seed for each in group.results] == [None, 0, 1, 0, 1]


DIFFERENCES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "weights": lambda record: record["model"].update(weights="sha256:" + "1" * 64),
    "protocol": lambda record: record["result"]["provenance"].update(protocol="zbench v3"),
    "repetitions": lambda record: record["result"]["spec"].update(repetitions=3),
    "prompts": lambda record: record["prompts"]["explicit"].update(sha256="2" * 64),
    "threshold": lambda record: record["result"]["provenance"]["detectors"][0].update(threshold=0.9),
    "instrument": lambda record: record["result"]["provenance"]["instruments"]["clip"].update(name="other"),
    "size": lambda record: record["result"]["spec"].update(height=128),
}


@pytest.mark.parametrize("name", list(DIFFERENCES))
def test_what_differs_is_never_mixed(name: str) -> None:
    result = one_result()
    other = altered(result, DIFFERENCES[name])
    found = groups([result, other])
    assert len(found) == 2 and len({group.slug for group in found}) == 2


def test_conditions_name_what_the_protocol_does_not_say() -> None:
    result = one_result()
    assert conditions_of(result) == {}
    asked = altered(result, lambda r: r["result"]["spec"].update(prompts=8, steps=4, references="mine"))
    assert conditions_of(asked) == {"prompts": 8, "steps": 4, "references": "mine"}


def test_another_version_of_the_protocol_is_not_guessed_at() -> None:
    other = altered(one_result(), lambda r: (
        r["result"]["provenance"].update(protocol="zbench v1"), r["result"]["spec"].update(repetitions=7),
    ))  # fmt: skip
    assert conditions_of(other) == {}


def test_a_row_is_a_method_with_its_settings() -> None:
    made = [each for each, _ in results(Plan(methods=1, concepts=1, seeds=2, sprites=False))]
    first, second = made[1:]
    assert row_key(first) == row_key(second)
    other = altered(first, lambda r: r["result"]["spec"]["hyperparameters"].update(steps=99))
    assert row_key(other) != row_key(first)


def test_the_result_with_attacks_stands_for_the_plain_one() -> None:
    full, plain = one_result(attacks=2), one_result(attacks=0)
    assert full.id != plain.id and measurement_key(full) == measurement_key(plain)
    assert supersedes(full, plain) and not supersedes(plain, full) and not supersedes(full, full)
    (group,) = groups([plain, full])
    assert group.results == (full,) and group.superseded == (plain,)


def test_other_attacks_on_the_same_erasures_are_a_group_of_their_own() -> None:
    def attacked_by(*names: str) -> Callable[[dict[str, Any]], None]:
        def change(record: dict[str, Any]) -> None:
            record["result"]["id"] += "".join(names)
            attacks = record["result"]["spec"]["attacks"]
            record["result"]["spec"]["attacks"] = [{**attacks[0], "name": name} for name in names]

        return change

    made = [each for each, _ in results(Plan(methods=2, concepts=1, seeds=1, attacks=1, sprites=False))]
    erased, other = made[1:]
    both, words, typos = (altered(erased, attacked_by(*names)) for names in ["ab", "a", "c"])
    elsewhere = altered(other, attacked_by("c"))
    main, apart = groups([words, typos, both, elsewhere])
    assert main.results == (both, elsewhere) and main.superseded == (words,)
    assert apart.results == (typos,) and apart.conditions == {"attacks": "c"}
    assert main.slug != apart.slug


@settings(max_examples=20)
@given(st.permutations(range(10)))
def test_groups_do_not_depend_on_order(order: list[int]) -> None:
    made = [result for result, _ in results(Plan(methods=2, concepts=2, seeds=2, sprites=False))]
    assert groups(made[place] for place in order) == groups(made)
