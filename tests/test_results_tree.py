"""The repository's own `results/`: every file whole, every figure counted again, no change unexplained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zbench.results.changes import changes, read_allowed
from zbench.results.checks import check_tree
from zbench.results.json_schema import schema_text
from zbench.results.tree import RESERVED, parts
from zbench.results.versions import base_of, repository_of, tree_at

RESULTS = Path(__file__).parent.parent / "results"
TREES = [RESULTS, RESULTS / "reproduction"]

each_tree = pytest.mark.parametrize("root", TREES, ids=lambda root: root.name)


def test_there_are_published_results() -> None:
    assert all(parts(root) for root in TREES)


def test_the_schema_is_that_of_the_models() -> None:
    path = RESULTS / "schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(), "run `python -m zbench.results.json_schema`"
    json.loads(schema_text())


def test_nothing_else_lies_where_results_are_looked_for() -> None:
    known = RESERVED | {"miniature", "z-image", "z-image-turbo"}
    folders = {path.name for path in RESULTS.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders <= known, (
        "a folder of results/ that is no model's must be named in zbench.results.tree.RESERVED"
    )


@each_tree
def test_every_published_result_holds(root: Path) -> None:
    problems = check_tree(root)
    assert not problems, "\n".join(map(str, problems))


@each_tree
@pytest.mark.parametrize("base", ["HEAD", "base"])
def test_no_published_figure_changed_without_a_reason(root: Path, base: str) -> None:
    if repository_of(root) is None:
        pytest.skip("not a checkout of git: nothing to compare with")
    revision = base_of(root) if base == "base" else base
    if revision is None:
        pytest.skip("HEAD is the first commit: nothing to compare with")
    with tree_at(root, revision) as old:
        found = changes(old, root, read_allowed(root))
    assert not found.unexplained, "\n".join(found.unexplained)
