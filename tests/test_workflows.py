"""The workflows: of the right form, safe, and of commands that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="needs a checkout")


def content(path: Path) -> dict[str, Any]:
    """A workflow as data; YAML reads the key ``on`` as true."""
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in loaded.items()}


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in content(path)["jobs"].values():
        yield from job["steps"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """The words of each command line of all workflows, with the workflow's name."""
    for path in WORKFLOWS:
        for step in steps(path):
            text = str(step.get("run", "")).replace("\\\n", " ")
            yield from ((path.name, line.split()) for line in text.splitlines() if line.strip())


def sessions() -> set[str]:
    """Names of the sessions of the noxfile."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}


def tool(name: str) -> str:
    """A command of this environment or of the path; the test is skipped without it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_they_follow_the_published_schema() -> None:
    words = [tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_audit_finds_nothing() -> None:
    """Injected templates, kept credentials, broad permissions, strangers' actions."""
    words = [tool("zizmor"), "--offline", "--no-progress", "--no-exit-codes", "--format", "plain"]
    done = subprocess.run([*words, str(ROOT / ".github" / "workflows")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No findings to report" in done.stdout, done.stdout


def test_every_module_and_session_exists() -> None:
    seen = []
    for workflow, words in commands():
        for place, word in enumerate(words):
            if word == "-m" and words[place - 1] == "python":
                assert importlib.util.find_spec(words[place + 1]), f"{workflow}: no module {words[place + 1]}"
                seen.append(words[place + 1])
            if word == "-s" and words[0] == "nox" and "$" not in words[place + 1]:
                assert words[place + 1] in sessions(), f"{workflow}: no session {words[place + 1]}"
    assert {"tests.leaderboard_check", "zbench.results", "zbench.results.recheck"} <= set(seen)


def test_sessions_of_the_matrix_exist() -> None:
    matrix = content(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["nox"]["strategy"]["matrix"][
        "include"
    ]
    assert {entry["session"] for entry in matrix} <= sessions()


def test_every_zbench_command_and_file_exists() -> None:
    from zbench.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    for workflow, words in commands():
        if words[0] == "zbench":
            assert words[1] in known, f"{workflow}: no command {words[1]}"
        for word in words:
            if re.fullmatch(r"tests/\S+\.py", word):
                assert (ROOT / word).is_file(), f"{workflow}: {word}"


def test_triggers_name_folders_and_workflows_that_exist() -> None:
    names = {content(path)["name"] for path in WORKFLOWS}
    for path in WORKFLOWS:
        triggers = content(path)["on"]
        for trigger in triggers.values() if isinstance(triggers, dict) else ():
            for place in (trigger or {}).get("paths", ()) if isinstance(trigger, dict) else ():
                assert (ROOT / place.removesuffix("/**")).is_dir(), f"{path.name}: {place}"
            for name in (trigger or {}).get("workflows", ()) if isinstance(trigger, dict) else ():
                assert name in names, f"{path.name}: {name}"


def test_who_runs_a_strangers_code_may_only_read() -> None:
    """Jobs of pull requests have no write permission, jobs with one run nothing of the checkout."""
    for path in WORKFLOWS:
        workflow = content(path)
        assert set(workflow["permissions"].values()) <= {"read"}, path.name
        for name, job in workflow["jobs"].items():
            writes = "write" in job.get("permissions", {}).values()
            checks_out = any("actions/checkout" in str(step.get("uses")) for step in job["steps"])
            assert not (writes and checks_out), f"{path.name}: {name}"
            assert not (writes and "pull_request" in workflow["on"]), f"{path.name}: {name}"
            assert job["timeout-minutes"] <= 60
