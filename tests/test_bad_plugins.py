"""Runs with methods that misbehave: each is a failed cell with its traceback, and the other methods go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import bad_methods
from tests.runner_tools import Recorder, install_stranger, recorded_run, small_instruments
from zbench import plugins
from zbench.config import RunConfig
from zbench.edits import base
from zbench.runner import RunResult, run, run_cell
from zbench.runner.planning import plan
from zbench.runner.specs import CellResult, CellSpec
from zbench.store import Store

BAD = Path(bad_methods.__file__)


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("ZBENCH_MODEL", raising=False)
        monkeypatch.chdir(folder)
        points = "[zbench.methods]\nac = stranger_methods:Shift\nlost = nothing_of_that_name:Lost\n"
        points += "shift = stranger_methods:Shift\npicky = stranger_methods:Picky\n"
        install_stranger(folder / "stranger", monkeypatch, points)
        small_instruments(monkeypatch)
        yield


@pytest.fixture(autouse=True)
def _fresh_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one test are forgotten by the next, and the kinds of their edits too."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))


def config(model: Path, out: Path, *methods: str, plugin: Path = BAD) -> RunConfig:
    fields: dict[str, Any] = {
        "methods": methods, "plugins": (plugin,), "concept": "nudity", "model": str(model), "out": out,
        "prompts": 1, "steps": 1, "height": 48, "width": 80, "device": "cpu", "protocol": "tuning",
    }  # fmt: skip
    return RunConfig.create(fields)


def run_once(model: Path, out: Path, *methods: str, plugin: Path = BAD) -> tuple[RunResult, Recorder]:
    return recorded_run(config(model, out, *methods, plugin=plugin))


EXPECTED = {
    "raises": "RuntimeError: the sky fell",
    "lost": "The method 'lost' (nothing_of_that_name:Lost) cannot be imported",
    "ac": "Two installed packages provide zbench.methods 'ac'",
    "stops-the-run": "stops-the-run raised MissingExtraError",
    "exits": "exits raised SystemExit: 3",
    "returns-none": "returns-none.erase returned NoneType: it must return a zbench.Erasure",
    "returns-edit-alone": "returned DeltaEdit: it must return a zbench.Erasure",
    "returns-attached": "returned an edit that is still attached",
    "returns-nothing": "returned no edit",
    "other-names": "returned an erasure of 'something else' by 'other-names'",
    "not-a-number": "not-a-number returned weights that are not finite: layers.0.attention.to_v (1 of 1",
    "changes-weight": "changes-weight left the model changed (transformer.layers.0.attention.to_v.weight)",
    "changes-and-raises": "changes-and-raises left the model changed",
    "exits-in-preset": "SystemExit: 3",
    "reads-nowhere": "reads-nowhere raised FileNotFoundError: ",
    "words-in-trace": "words-in-trace returned a trace that cannot be used: trace[1]['loss'] is a str",
    "trace-without-rows": "trace is a dict; a trace is a list of dictionaries from names to finite numbers",
    "fails-to-draw": "RuntimeError: no paint left",
    "exits-drawing": "exits-drawing raised SystemExit: 3",
    "loses-palette": "loses-palette raised FileNotFoundError: no palette",
    "smears-model": "smears-model left the model changed (transformer.layers.0.attention.to_v.weight)",
    "saves-half": "does not survive saving: The loaded edit does not reproduce its stored probe",
}


def test_bad_methods_fail_alone(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    methods = (*EXPECTED, "picky", "sets-defaults", "good", "shift")
    result, recorder = run_once(tiny_pipeline_folder, out, *methods)
    cells = {cell.spec.method: cell for cell in result.cells}
    statuses = {name: cell.status for name, cell in cells.items()}
    fine = {"original": "done", "sets-defaults": "done", "good": "done", "shift": "done", "picky": "skipped"}
    assert statuses == {**dict.fromkeys(EXPECTED, "failed"), **fine}
    for name, expected in EXPECTED.items():
        assert (cells[name].error or "").startswith("Traceback"), name
        assert expected in cells[name].reason, (name, cells[name].reason)
        assert any(line.startswith(f"{name} s0: failed: ") for line in recorder.lines)
    assert "RuntimeError: halfway" in (cells["changes-and-raises"].error or ""), "both troubles are recorded"
    shown = (out / "table.md").read_text()
    assert "picky (seed 0): skipped (only erases styles)" in shown
    assert "raises (seed 0): failed (RuntimeError: the sky fell)" in shown
    assert f"not packaged: {plugins.PluginFile.at(BAD).label}" in shown
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    pictures = {
        name: cell.stages["pictures explicit"]
        for name, cell in cells.items()
        if name in ("good", "sets-defaults")
    }
    assert len(set(pictures.values())) == 1, (
        "after a changed model the next erasure starts from the true weights"
    )


def hashes_of_pictures(out: Path, cell: CellResult) -> str:
    manifest: str = json.loads((out / cell.stages["pictures explicit"] / "done.json").read_text())["files"][
        "manifest.json"
    ]
    return manifest


def test_an_edit_that_breaks_off_a_picture_spoils_no_other(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    after, _ = run_once(tiny_pipeline_folder, tmp_path / "after", "smears-model", "good")
    alone, _ = run_once(tiny_pipeline_folder, tmp_path / "alone", "good")
    spoilt, good = after.cells[1:]
    assert (spoilt.status, good.status) == ("failed", "done")
    assert "SystemExit: 3" in (spoilt.error or ""), "both troubles are recorded"
    assert "erase" in spoilt.stages and "pictures explicit" not in spoilt.stages
    assert hashes_of_pictures(tmp_path / "after", good) == hashes_of_pictures(
        tmp_path / "alone", alone.cells[1]
    )


def test_two_files_with_edits_of_one_kind(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        "from tests.bad_methods import Good\nfrom zbench.edits import DeltaEdit\n\n\n"
        "class Other(DeltaEdit):\n    kind = 'test-forgetful'\n\n\n"
        "class Second(Good):\n    name = 'second'\n"
    )
    both = config(tiny_pipeline_folder, tmp_path / "runs", "second", "good")
    result = run(both.model_copy(update={"plugins": (BAD, other)}))
    assert [cell.status for cell in result.cells] == ["done", "failed", "done"]
    reason = result.cells[1].reason
    assert "The edit Other of " in reason and "has the kind 'test-forgetful' of ForgetfulEdit" in reason
    assert str(other) in reason and str(BAD) in reason


def test_an_edited_file_erases_again_and_a_moved_one_does_not(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "runs", tmp_path / "mine.py"
    file.write_text(BAD.read_text())
    first, _ = run_once(tiny_pipeline_folder, out, "good", plugin=file)
    assert next((out / "erasures").glob("*/plugin.py")).read_bytes() == file.read_bytes()
    moved = file.rename(tmp_path / "elsewhere.py")
    same, recorder = run_once(tiny_pipeline_folder, out, "good", plugin=moved)
    assert recorder.stages == [] and [c.id for c in same.cells] == [c.id for c in first.cells]
    moved.write_text(BAD.read_text() + "\n# another remark\n")
    again, recorder = run_once(tiny_pipeline_folder, out, "good", plugin=moved)
    assert recorder.stages == ["good s0: erase"], "equal weights share their pictures and scores"
    assert again.cells[1].id != first.cells[1].id and again.cells[0].id == first.cells[0].id


def test_a_fresh_process_needs_nothing_but_the_spec(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BAD.read_text())
    spec = plan(config(tiny_pipeline_folder, tmp_path / "runs", "good", plugin=file))[1]
    copy, store = CellSpec.model_validate_json(spec.model_dump_json()), Store.open(tmp_path / "runs")
    plugins._loaded.clear()
    assert run_cell(copy, store).status == "done"
    plugins._loaded.clear()
    file.write_text(BAD.read_text() + "\n# edited while it waited\n")
    result = run_cell(copy, store)
    assert result.status == "failed" and "was edited since this run was planned" in result.reason


def test_supports_must_say_something(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    head = "from tests.bad_methods import Good\n"
    odd = "\n\nclass Odd(Good):\n    name = 'odd'\n    def supports(self, concept): return False\n"
    worse = "\n\nclass Worse(Good):\n    name = 'worse'\n    def supports(self, concept): raise KeyError(1)\n"
    file.write_text(head + odd + worse)
    result, _ = run_once(tiny_pipeline_folder, tmp_path / "runs", "odd", "worse", plugin=file)
    assert [cell.status for cell in result.cells] == ["done", "failed", "failed"]
    assert "odd.supports returned False: it must be None or a reason" in result.cells[1].reason
    assert result.cells[2].reason == "KeyError: 1"
