"""What the workflows around results do, run with a stand-in for GitHub's own command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = Path(__file__).parent.parent / ".github" / "workflows"

pytestmark = pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="needs a checkout")


def job(workflow: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((WORKFLOWS / workflow).read_text())["jobs"][name]
    return loaded


@pytest.mark.parametrize(
    ("written", "expected"), [(None, "No figures were written."), ("| fid |", "| fid |")]
)
def test_there_is_a_comment_whatever_was_written(tmp_path: Path, written: str | None, expected: str) -> None:
    stub = tmp_path / "bin" / "gh"
    stub.parent.mkdir()
    lines = "exit 1" if written is None else f"mkdir -p changes; echo '{written}' > changes/changes.md"
    stub.write_text(f'#!/bin/sh\nif [ "$1" = run ]; then {lines}; fi\n')
    stub.chmod(0o755)
    own = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "RUN": "1", "NUMBER": "2", "PAGE": "x"}
    for step in job("comment.yml", "comment")["steps"][1:]:
        words = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
        subprocess.run(words, cwd=tmp_path, env={**own, "CONCLUSION": "failure"}, check=True)
    assert expected in (tmp_path / "comment.md").read_text()


def test_cancelled_runs_are_not_told_of() -> None:
    assert "conclusion != 'cancelled'" in job("comment.yml", "comment")["if"]


def test_history_is_there_to_compare_with() -> None:
    for workflow, name in (("ci.yml", "nox"), ("results.yml", "check")):
        checkout = job(workflow, name)["steps"][0]
        assert checkout["with"]["fetch-depth"] == 0
