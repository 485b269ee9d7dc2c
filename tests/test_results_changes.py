"""No change goes unseen: whatever a file states, whoever takes its place, whatever it is compared with."""

from __future__ import annotations

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
from zbench.results.changes import ALLOWED_FILE, Allowed, changes, read_allowed
from zbench.results.form import to_text
from zbench.results.same import same_measurement
from zbench.results.schema import PublishedResult
from zbench.results.versions import base_of, tree_at

Change = Callable[[dict[str, Any]], Any]
PLAN = Plan(methods=1, concepts=1, seeds=1, attacks=1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "repository" / "results", PLAN)
    return tmp_path / "repository" / "results"


@pytest.fixture
def older(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "older"))


def rewrite(tree: Path, change: Change) -> PublishedResult:
    path = next(tree.rglob("uce*.json"))
    result = altered(PublishedResult.model_validate_json(path.read_bytes()), change)
    path.write_text(to_text(result))
    return result


def reverse(record: dict[str, Any]) -> None:
    outcomes = record["outcomes"]["asr_explicit"]
    outcomes["hits"] = outcomes["hits"][::-1]


UNSEEN: dict[str, tuple[Change, str]] = {
    "verdict": (lambda r: r["result"]["verdict"].update(collapsed=True), "verdict"),
    "p value": (lambda r: figure_of(r, "asr_explicit").update(p_value=0.001), "asr_explicit"),
    "unit": (lambda r: figure_of(r, "fid").update(unit="points"), "fid"),
    "direction": (lambda r: figure_of(r, "fid").update(direction="higher"), "fid"),
    "outcomes": (reverse, "outcomes/asr_explicit"),
    "settings": (lambda r: r["result"]["spec"]["hyperparameters"].update(steps=31), "spec"),
    "threshold": (lambda r: r["result"]["provenance"]["detectors"][0].update(threshold=0.77), "detectors"),
    "instruments": (lambda r: r["result"]["provenance"]["instruments"].clear(), "instruments"),
    "weights": (lambda r: r["model"].update(weights="sha256:1"), "model"),
    "members": (lambda r: r["concept"].update(members=["a"]), "concept"),
    "source": (lambda r: r["method"].update(source="elsewhere"), "method"),
    "prompts": (lambda r: r["prompts"]["explicit"].update(sha256="1" * 64), "prompts"),
    "dirty": (lambda r: r["result"]["provenance"]["checkout"].update(dirty=True), "release"),
    "cost": (lambda r: r["result"]["cost"].update(seconds=0.1), "cost"),
    "gallery": (lambda r: r["gallery"]["pictures"][0].update(sha256="1" * 64), "gallery"),
}
MAY_DIFFER = {"dirty", "cost", "source"}
"""What another machine or another commit may say otherwise."""


@pytest.mark.parametrize("name", list(UNSEEN))
def test_everything_that_changes_is_reported(tree: Path, older: Path, name: str) -> None:
    change, expected = UNSEEN[name]
    before = one_result(sprites=True)
    result = rewrite(tree, change)
    found = changes(older, tree)
    assert [each.figure for each in found.figures] == [expected] and len(found.unexplained) == 1
    allowed = [Allowed(cell=result.id, figure=expected, reason="it is meant to be so")]
    assert changes(older, tree, allowed).unexplained == ()
    assert same_measurement(before, altered(before, change)) == (name in MAY_DIFFER)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: figure_of(r, "fid").update(value=99.0, high=120.0), {"fid"}),
        (lambda r: r["result"]["verdict"].update(collapsed=True), {"verdict"}),
        (reverse, {"outcomes/asr_explicit"}),
        (lambda r: r["result"]["cost"].update(seconds=0.1), set()),
    ],
)
def test_superseding_changes_no_figure_unseen(
    tree: Path, tmp_path: Path, change: Change, expected: set[str]
) -> None:
    write_tree(tmp_path / "more", Plan(methods=1, concepts=1, seeds=1, attacks=2))
    rewrite(tmp_path / "more", change)
    found = changes(tree, tmp_path / "more")
    assert all("superseded by" in (each.reason or "") for each in found.removed) and len(found.removed) == 2
    assert {each.figure for each in found.figures} == expected
    assert len(found.unexplained) == len(expected)


# The list of intended changes -------------------------------------------------------------------------------


def allow(tree: Path, cell: str = "uce*", figure: str = "fid") -> None:
    text = f'[[change]]\ncell = "{cell}"\nfigure = "{figure}"\nreason = "the reference was renewed"\n'
    (tree / ALLOWED_FILE).write_text(text)


def test_an_entry_excuses_nothing_for_ever(tree: Path, older: Path) -> None:
    rewrite(tree, lambda r: figure_of(r, "fid").update(value=99.0, high=120.0))
    allow(tree)
    assert changes(older, tree, read_allowed(tree)).unexplained == ()
    allow(older)
    assert "fid was" in changes(older, tree, read_allowed(tree)).unexplained[0]


def test_an_entry_that_explains_nothing_is_reported(tree: Path, older: Path) -> None:
    allow(tree, figure="kid")
    (line,) = changes(older, tree, read_allowed(tree)).unexplained
    assert "kid" in line and "explains nothing" in line


@pytest.mark.parametrize(
    ("pattern", "fits"), [("uce*", True), ("u?e*", False), ("[u]ce*", False), ("u*e*", True)]
)
def test_only_the_star_stands_for_text(pattern: str, fits: bool) -> None:
    allowed = Allowed(cell=pattern, figure="fid", reason="long enough for a reason")
    assert allowed.explains("uce-s0-nudity", "a/b", "fid") == fits


def test_a_list_that_is_no_text_is_refused(tree: Path) -> None:
    (tree / ALLOWED_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_allowed(tree)
    assert main([str(tree)]) == 2


# What it is compared with -----------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    names = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


def commit(tree: Path) -> None:
    if not (tree.parent / ".git").exists():
        git(tree.parent, "init", "--initial-branch=main")
    git(tree.parent, "add", ".")
    git(tree.parent, "commit", "-m", "next")


def test_nothing_to_compare_with_is_an_error(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tree), "--against", "base"]) == 2
    commit(tree)
    assert base_of(tree) is None and main([str(tree), "--against", "base"]) == 2
    rewrite(tree, lambda r: r["result"]["cost"].update(seconds=0.1))
    commit(tree)
    assert base_of(tree) is not None
    git(tmp_path, "clone", "--depth=1", f"file://{tree.parent}", "shallow")
    with pytest.raises(StoreError, match="fetch more history"):
        base_of(tmp_path / "shallow" / "results")
    assert main([str(tmp_path / "shallow" / "results"), "--against", "base"]) == 2
    assert "nothing to compare with" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tree), "--against", str(tmp_path / "empty")]) == 2


def test_a_checkout_behind_a_link_is_compared_all_the_same(tree: Path, tmp_path: Path) -> None:
    commit(tree)
    (tmp_path / "link").symlink_to(tree.parent)
    assert main([str(tmp_path / "link" / "results"), "--against", "HEAD"]) == 0


def test_a_committed_link_breaks_nothing(tree: Path) -> None:
    (next(tree.rglob("uce*.json")).parent / "away.json").symlink_to("/etc/hostname")
    commit(tree)
    with tree_at(tree, "HEAD") as old:
        assert old is not None and not list(old.rglob("away.json")) and list(old.rglob("uce*.json"))
    assert main([str(tree), "--against", "HEAD"]) == 1


def test_one_bad_tree_hides_no_other(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(tree)
    rewrite(tree, lambda r: figure_of(r, "fid").update(value=99.0, high=120.0))
    told = tmp_path / "changes.md"
    missing = str(tree / "missing")
    assert main([missing, str(tree), "--against", "HEAD", "--summary", str(told)]) == 2
    assert "| fid |" in told.read_text() and "Not compared" in told.read_text()
    assert "fid was" in capsys.readouterr().out
    assert main([str(tree), str(tree), "--against", str(tree)]) == 2
    assert "one tree only" in capsys.readouterr().err
