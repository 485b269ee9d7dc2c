"""The page on writing a method: its code is the example's, its commands run, its rules are the suite's."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.runner_tools import small_instruments
from tests.transcription import CONCEPT
from zbench.cli import main
from zbench.conformance import CHECKS, Bench, check
from zbench.plugins import PluginFile, load_plugin

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "write-a-method.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "redirect.py"
SHORT = {"steps": 2, "batch_size": 2, "trajectories": 2}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


def squeezed(code: str) -> str:
    """Without layout: the formatter takes a block of a page for a file of its own."""
    return re.sub(r",(?=[)\]}])", "", re.sub(r"\s+", "", code))


def test_every_block_of_code_is_the_examples() -> None:
    source = squeezed(EXAMPLE.read_text(encoding="utf-8"))
    assert len(blocks("python")) >= 6
    for block in blocks("python"):
        assert squeezed(block) in source, block
    kinds = set(re.findall(r"^```(\w+)$", PAGE, re.M))
    assert kinds == {"python", "console", "toml"}, "every kind of block is looked at here"


def test_the_entry_point_names_the_method() -> None:
    (block,) = blocks("toml")
    points = tomllib.loads(block)["project"]["entry-points"]["zbench.methods"]
    (method,) = load_plugin(PluginFile.at(EXAMPLE)).values()
    assert {name: target.rpartition(":")[2] for name, target in points.items()} == {
        method.name: method.__name__
    }


def test_the_rules_are_those_of_the_suite() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", PAGE, re.M))
    assert listed == {each.name: each.sentence for each in CHECKS}


def test_the_example_keeps_the_rules(tiny_pipeline_folder: Path) -> None:
    rules = [each.name for each in CHECKS if not each.draws]
    bench = Bench(tiny_pipeline_folder, "cpu")
    report = check(
        "examples/redirect", plugins=[EXAMPLE], settings=SHORT, concept=CONCEPT, bench=bench, only=rules
    )
    assert [each.status for each in report.checks] == ["pass"] * len(rules), report.failures


def test_every_command_runs(
    tiny_pipeline_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With shorter settings, and on a random model, appended."""
    small_instruments(monkeypatch)
    monkeypatch.chdir(ROOT)
    model = ["--model", str(tiny_pipeline_folder), "--device", "cpu"]
    short = [f"{field}={value}" for field, value in SHORT.items()]
    more = {
        "methods": [],
        "check": [*model, "--only", "returns,detaches", *(f"--set={each}" for each in short)],
        "run": [*model, "--launcher=inline", "--prompts=1", "--steps=1", "--out", str(tmp_path / "runs"),
                *(f"--set=examples/redirect.{each}" for each in short)],
    }  # fmt: skip
    for line in "".join(blocks("console")).splitlines():
        program, command, *words = shlex.split(line.removeprefix("$ "))
        with pytest.raises(SystemExit) as left:
            main([command, *words, *more[command]])
        output = capsys.readouterr()
        assert program == "zbench" and not left.value.code, output.err
        assert "examples/redirect" in output.out
