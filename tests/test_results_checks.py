"""Checks over a tree: each kind of fault is found, and named in a line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.published_tools import altered, figure_of, one_result
from tests.synthetic_results import Plan, write_tree
from zbench.errors import ConfigurationError, StoreError
from zbench.results.__main__ import main
from zbench.results.change_summary import summary
from zbench.results.changes import Allowed, Changes, changes, read_allowed
from zbench.results.checks import check_tree, faults
from zbench.results.form import to_text
from zbench.results.refusals import refusals
from zbench.results.schema import PublishedResult
from zbench.results.tree import Problem, read_tree
from zbench.results.versions import base_of, tree_at

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "results", Plan(methods=2, concepts=2, seeds=2, attacks=2))
    return tmp_path / "results"


def rewrite(tree: Path, path: Path, change: Change) -> PublishedResult:
    """Alters a file in place."""
    result = altered(PublishedResult.model_validate_json(path.read_bytes()), change)
    (tree / result.place).write_text(to_text(result))
    return result


def first_of(tree: Path, method: str = "uce") -> Path:
    return sorted(tree.rglob(f"{method}-s0*.json"))[0]


# Single results ---------------------------------------------------------------------------------------------


def test_a_whole_tree_has_no_faults(tree: Path) -> None:
    assert check_tree(tree) == ()


def set_figure(name: str, **fields: Any) -> Change:
    return lambda record: figure_of(record, name).update(fields)


def flip(record: dict[str, Any]) -> None:
    hits = record["outcomes"]["asr_explicit"]["hits"]
    record["outcomes"]["asr_explicit"]["hits"] = ("0" if hits[0] == "1" else "1") + hits[1:]


FAULTS: dict[str, tuple[Change, str]] = {
    "no interval": (set_figure("asr_explicit", low=None, high=None, interval=None), "has no interval"),
    "a rate without n": (set_figure("asr_explicit", n=None), "has no n"),
    "another interval": (set_figure("asr_explicit", low=0.0), "low is 0, and its outcomes give"),
    "another n": (set_figure("asr_explicit", n=1), "and its outcomes give"),
    "another outcome": (flip, "asr_explicit is .* its outcomes give"),
    "a value outside": (set_figure("fid", value=1e6), "outside its interval"),
    "another mean": (set_figure("clip_score", value=0.5), "clip_score"),
    "no reason": (set_figure("fid", value=None, low=None, high=None, note=""), "does not say why"),
    "no detector": (lambda r: r["result"]["provenance"].update(detectors=[]), "names no detector"),
    "no detector hash": (
        lambda r: r["result"]["provenance"]["detectors"][0].update(file_sha256=""), "has no hash of its",
    ),
    "no code": (lambda r: r.update(release={"version": "0.1.0"}), "neither a commit nor an installed"),
    "changed code": (lambda r: r["result"]["provenance"]["checkout"].update(dirty=True), "uncommitted"),
    "failed": (lambda r: r["result"].update(status="failed", error="Boom"), "failed: Boom"),
    "placeholder": (lambda r: r["result"].update(figures=[]), "nothing was measured"),
    "no seed": (lambda r: r["result"]["spec"]["hyperparameters"].pop("training_seed"), "no training seed"),
    "short outcomes": (
        lambda r: r["outcomes"]["asr_explicit"].update(roles=["explicit", "implicit"]), "do not fit",
    ),
    "unknown role": (lambda r: r["prompts"].pop("implicit"), "of which there are none"),
    "a folder": (lambda r: r["result"]["spec"].update(model="/home/somebody/model"), "one machine"),
    "no outcomes of an attack": (
        lambda r: [r["outcomes"].pop(name) for name in list(r["outcomes"]) if name.endswith("/attack_post")],
        "attack_post has no outcomes",
    ),
    "failed attack": (
        lambda r: r["result"]["attacks"][0].update(status="failed", reason="Trace\nRuntimeError: no"),
        "failed .RuntimeError: no.: the same command tries it again",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FAULTS))
def test_every_fault_is_found(name: str) -> None:
    change, expected = FAULTS[name]
    assert not list(faults(one_result()))
    found = list(faults(altered(one_result(), change)))
    assert any(re.search(expected, line) for line in found), found


def test_intervals_are_counted_with_pictures_clustered_by_prompt() -> None:
    result = one_result(repetitions=3)
    assert not list(faults(result))
    assert any("asr_explicit" in line for line in faults(altered(result, flip)))


# Whole trees ------------------------------------------------------------------------------------------------


def test_pictures_must_be_those_that_were_published(tree: Path) -> None:
    pictures = sorted(tree.rglob("*.webp"))
    pictures[0].write_bytes(b"another")
    pictures[1].unlink()
    stray = pictures[2].with_name("stray.webp")
    stray.write_bytes(b"")
    found = {problem.path: problem.reason for problem in check_tree(tree)}
    assert (
        "not the file that was published"
        in found[pictures[0].with_suffix(".json").relative_to(tree).as_posix()]
    )
    assert "is missing" in found[pictures[1].with_suffix(".json").relative_to(tree).as_posix()]
    assert found[stray.relative_to(tree).as_posix()] == "belongs to no result"


def test_two_results_of_one_measurement_are_refused(tree: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "plain", Plan(methods=1, concepts=1, seeds=1, attacks=0))
    for path in (tmp_path / "plain").rglob("uce-s0*"):
        (tree / path.relative_to(tmp_path / "plain")).write_bytes(path.read_bytes())
    assert any("the same measurement as" in str(problem) for problem in check_tree(tree))


# Changes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def older(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "older"))


def test_nothing_changed(tree: Path, older: Path) -> None:
    assert changes(older, tree) == Changes()
    assert changes(None, tree).added == tuple(read_tree(tree).results)


def test_a_figure_that_moved_must_be_explained(tree: Path, older: Path) -> None:
    result = rewrite(tree, first_of(tree), set_figure("fid", value=99.0, high=120.0))
    found = changes(older, tree)
    assert [change.figure for change in found.figures] == ["fid"] and len(found.unexplained) == 1
    assert "fid was" in found.unexplained[0] and "allowed_changes.toml" in found.unexplained[0]
    for name in (result.id, str(result.place), "miniature/nsfw/*"):
        allowed = [Allowed(cell=name, figure="fid", reason="the reference pictures were renewed")]
        assert changes(older, tree, allowed).unexplained == ()
    other = [Allowed(cell="*", figure="kid", reason="the reference pictures were renewed")]
    assert changes(older, tree, other).unexplained


@pytest.mark.parametrize(("factor", "moves"), [(1 + 1e-7, False), (1.01, True)])
def test_rounding_is_no_change(tree: Path, older: Path, factor: float, moves: bool) -> None:
    path = first_of(tree)
    before = PublishedResult.model_validate_json(path.read_bytes()).result.figure("fid")
    assert before is not None
    rewrite(tree, path, set_figure("fid", value=before["value"] * factor))
    assert bool(changes(older, tree).figures) == moves


def test_attacks_and_vanished_figures_are_changes(tree: Path, older: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["result"]["attacks"][0]["figures"][1]["value"] += 0.1
        record["result"]["figures"] = record["result"]["figures"][1:]

    result = rewrite(tree, first_of(tree), change)
    found = {change.figure: change for change in changes(older, tree).figures}
    label = result.result.attacks[0].label
    assert set(found) == {"asr_explicit", f"{label}/attack_post"} and found["asr_explicit"].new is None


def test_a_removed_cell_must_be_explained_or_superseded(tree: Path, older: Path, tmp_path: Path) -> None:
    path = first_of(tree)
    path.unlink()
    found = changes(older, tree)
    assert len(found.removed) == 1 and "the cell was removed" in found.unexplained[0]
    whole = [Allowed(cell="uce-*", figure="*", reason="a star is no leave to remove")]
    assert changes(older, tree, whole).unexplained
    allowed = [Allowed(cell="uce-*", figure="removed", reason="the method had a bug")]
    assert not changes(older, tree, allowed).unexplained
    write_tree(tmp_path / "more", Plan(methods=2, concepts=2, seeds=2, attacks=3))
    superseded = changes(older, tmp_path / "more")
    assert superseded.removed and not superseded.unexplained
    assert all("superseded by" in (each.reason or "") for each in superseded.removed)


def test_the_allow_file_is_checked(tmp_path: Path) -> None:
    assert read_allowed(tmp_path) == ()
    path = tmp_path / "allowed_changes.toml"
    path.write_text('[[change]]\ncell = "a-*"\nfigure = "fid"\nreason = "the reference was renewed"\n')
    assert [each.figure for each in read_allowed(tmp_path)] == ["fid"]
    for text in ('[[change]]\ncell = "a"\n', "[[change]", 'changes = "x"', '[change]\ncell = "a"\n'):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"allowed_changes\.toml"):
            read_allowed(tmp_path)


def test_the_summary_shows_old_and_new(tree: Path, older: Path) -> None:
    rewrite(tree, first_of(tree), set_figure("fid", value=99.0, high=120.0))
    first_of(older, "zerase").unlink()
    problems = [Problem("a/<script>.json", "pipe | and `tick` @everyone")]
    text = summary(changes(older, tree), problems)
    assert "1 new cells" in text and "| fid |" in text and "99" in text and "not explained" in text
    assert "<script>" not in text and "@everyone" not in text and "pipe \\| and" in text
    assert text == summary(changes(older, tree), problems)


# Against git ------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    names = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


def test_the_command_compares_with_git(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository, written = tree.parent, tree.parent / "summary.md"
    git(repository, "init", "--initial-branch=main")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    assert base_of(tree) is None
    assert main([str(tree), "--against", "HEAD"]) == 0
    rewrite(tree, first_of(tree), set_figure("fid", value=99.0, high=120.0))
    assert main([str(tree), "--against", "HEAD", "--summary", str(written)]) == 1
    assert "fid was" in capsys.readouterr().out and "| fid |" in written.read_text()
    git(repository, "commit", "-am", "second")
    assert main([str(tree), "--against", "base"]) == 1
    assert main([str(tree), "--against", "nowhere"]) == 2
    assert main([str(tree / "missing")]) == 2


def test_a_tree_that_was_not_there_is_no_tree(tree: Path) -> None:
    git(tree.parent, "init", "--initial-branch=main")
    git(tree.parent, "commit", "--allow-empty", "-m", "nothing")
    with tree_at(tree, "HEAD") as old:
        assert old is None
    with pytest.raises(StoreError, match="git rev-parse"), tree_at(tree, "nowhere"):
        pass


# What a cell alone says -------------------------------------------------------------------------------------


def test_what_a_release_must_say() -> None:
    cell = one_result().result

    def told(**facts: Any) -> list[str]:
        return refusals(cell.model_copy(update={"provenance": {**cell.provenance, **facts}}))

    assert told() == []
    released = {"record_sha256": "0" * 64, "altered": 0}
    assert told(checkout=None, release=released) == []
    assert "2 altered files" in told(checkout=None, release={**released, "altered": 2})[0]
    assert "which code made it is unknown" in told(checkout=None, release=None)[0]
    weights = {**cell.provenance["model"], "weights": "hub:a/b@unpinned"}
    assert "which weights" in told(model=weights)[0]


def test_shortened_cells_are_named_and_kept_when_wanted() -> None:
    cell = one_result().result
    short = cell.model_copy(update={"spec": cell.spec.model_copy(update={"prompts": 8})})
    assert "only the first 8 prompts" in refusals(short)[0]
    assert refusals(short, shortened=True) == []


def test_a_combination_of_rates_may_have_no_interval() -> None:
    cell = one_result().result
    figure = {**cell.figures[0], "name": "h_a", "n": None, "low": None, "high": None, "interval": None}
    combined = {**figure, "settings": {"formula": "Acc_ir - Acc_e"}}
    assert refusals(cell.model_copy(update={"figures": (*cell.figures, combined)})) == []
    assert refusals(cell.model_copy(update={"figures": (*cell.figures, figure)}))
