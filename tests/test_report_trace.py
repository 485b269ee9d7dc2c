"""`zbench trace`: finding the trace that is meant, and drawing whatever it holds."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from zbench.cli.trace import trace as trace_command
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.report.run_folder import make_record, write_report
from zbench.report.trace_plot import TITLES, figures_of, plot_traces, running_mean, series_of, wants_log
from zbench.report.traces import find_traces
from zbench.runner.specs import CellResult, CellSpec
from zbench.store import Store, atomic_write_json


def rows_of(steps: int, **more: float) -> list[dict[str, float]]:
    """A trace like Z-Erase's, with a figure that is not traced in every step."""
    rows = []
    for step in range(steps):
        row = {"step": float(step), "erase": 2.0 / (step + 1), "multiplier": 0.1 * step, "evaluations": 5.0}
        row |= {"gradient_cosine": -0.5} if step % 4 == 0 else {}
        rows.append({**row, **more})
    return rows


def save_erasure(folder: Path, method: str, seed: int, trace: list[dict[str, float]]) -> None:
    folder.mkdir(parents=True)
    atomic_write_json(folder / "trace.json", trace)
    record = {"method": method, "concept": "cat", "hyperparameters": {"training_seed": seed}}
    atomic_write_json(folder / "erasure.json", {"schema_version": 1, "cost": {}, "edit": {}, **record})


def add_cell(root: Path, method: str, seed: int | None, trace: list[dict[str, float]] | None) -> CellResult:
    label = method if seed is None else f"{method}-s{seed}"
    spec: dict[str, Any] = {
        "method": method, "hyperparameters": {} if seed is None else {"training_seed": seed},
        "concept": "cat", "model": "miniature", "protocol": "zbench", "repetitions": 1, "steps": 8,
    }  # fmt: skip
    stages = {}
    if trace is not None:
        stages["erase"] = f"erasures/{label}-e"
        save_erasure(root / stages["erase"], method, seed or 0, trace)
    result = CellResult(id=label, spec=CellSpec.model_validate(spec), status="failed", stages=stages)
    (root / "cells" / label).mkdir(parents=True)
    atomic_write_json(root / "cells" / label / "result.json", result.model_dump(mode="json"))
    return result


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two trained seeds, a closed form, the original and a cell that failed."""
    root = tmp_path / "runs"
    Store.open(root)
    cells = [
        add_cell(root, "original", None, None),
        add_cell(root, "zerase", 0, rows_of(40)),
        add_cell(root, "zerase", 1, rows_of(40, extra=1.0)),
        add_cell(root, "uce", 0, []),
        add_cell(root, "ac", 0, None),
    ]
    write_report(make_record("run", {}, ["header"], cells, []), root)
    return root


def test_every_way_of_naming_a_trace_finds_it(run: Path) -> None:
    wanted = (run / "erasures" / "zerase-s0-e").absolute()
    for name in ("zerase-s0", str(run / "cells" / "zerase-s0"), "zerase-s0-e", str(wanted)):
        found = find_traces(name, run)
        assert [each.folder for each in found] == [wanted], name
        assert found[0].run_folder == run and len(found[0].rows) == 40
    both = find_traces(str(run), Path("nowhere"), "zerase")
    assert [each.training_seed for each in both] == [0, 1]


def test_a_beginning_of_a_cell_and_its_own_erasure_means_one_trace(run: Path) -> None:
    add_cell(run, "esd_x", 0, rows_of(3))
    assert [each.method for each in find_traces("esd", run)] == ["esd_x"]
    add_cell(run, "esd_u", 0, rows_of(3))
    with pytest.raises(UnknownNameError, match="several begin so"):
        find_traces("esd", run)


@pytest.mark.parametrize(
    ("trace", "place"),
    [
        ({"loss": [1.0]}, "trace is a dict"),
        ([[1.0]], r"trace\[0\] is a list"),
        ([{"loss": "small"}], r"trace\[0\]\['loss'\] is a str"),
        ([{"loss": 1.0}, {"loss": None}], r"trace\[1\]\['loss'\] is a NoneType"),
        ([{"loss": True}], r"trace\[0\]\['loss'\] is True"),
    ],
)
def test_a_trace_of_something_else_is_refused(run: Path, trace: Any, place: str) -> None:
    atomic_write_json(run / "erasures" / "zerase-s0-e" / "trace.json", trace)
    with pytest.raises(StoreError, match=rf"trace\.json is malformed \({place}; .*run the erasure again"):
        find_traces("zerase-s0", run)


def test_a_malformed_result_is_refused(run: Path) -> None:
    atomic_write_json(run / "cells" / "zerase-s0" / "result.json", {"id": "zerase-s0"})
    with pytest.raises(StoreError, match=r"result\.json is malformed; run the cell again"):
        find_traces("zerase-s0", run)


def test_what_has_no_trace_says_why(run: Path, tmp_path: Path) -> None:
    for name, error, words in (
        ("original", ConfigurationError, "unerased"),
        ("uce-s0", ConfigurationError, "not trained step by step"),
        ("ac-s0", ConfigurationError, "no erasure"),
        ("zeraze", UnknownNameError, "zerase-s0"),
        ("zerase", UnknownNameError, "several begin so"),
    ):
        with pytest.raises(error, match=words):
            find_traces(name, run)
    with pytest.raises(ConfigurationError, match="choose one with --method"):
        find_traces(str(run), run)
    with pytest.raises(UnknownNameError, match="zerase"):
        find_traces(str(run), run, "zeraze")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError):
        find_traces(str(tmp_path / "empty"), run)


def test_an_erasure_saved_anywhere_is_found(tmp_path: Path) -> None:
    save_erasure(tmp_path / "mine", "esd_x", 3, rows_of(5))
    found = find_traces(str(tmp_path / "mine"), Path("nowhere"))
    assert (found[0].method, found[0].training_seed, found[0].run_folder) == ("esd_x", 3, None)
    (tmp_path / "mine" / "erasure.json").write_text('{"method": "esd_x"}')
    with pytest.raises(StoreError, match="malformed"):
        find_traces(str(tmp_path / "mine"), Path("nowhere"))


def command(*words: str) -> Any:
    app = Typer()
    app.command()(trace_command)
    return CliRunner().invoke(app, list(words))


def test_the_command_draws_and_lists(run: Path, tmp_path: Path) -> None:
    done = command("zerase-s1", "--run", str(run), "--out", str(tmp_path / "new" / "trace.png"))
    assert done.exit_code == 0, done.output
    assert "multiplier" in done.output and "extra" in done.output and "evaluations" not in done.output
    assert Image.open(tmp_path / "new" / "trace.png").size[0] > 600
    assert command("zerase-s1", "--run", str(run)).exit_code == 0
    assert (run / "traces" / "zerase-cat.png").is_file()
    again = (run / "traces" / "zerase-cat.png").read_bytes()
    command("zerase-s1", "--run", str(run))
    assert (run / "traces" / "zerase-cat.png").read_bytes() == again, "equal traces give equal bytes"


def test_the_command_gives_the_trace_to_machines_and_refuses_other_formats(run: Path) -> None:
    found = json.loads(command("zerase-s0", "--run", str(run), "--json").output)
    assert found == {"seed 0": rows_of(40)}
    refused = command("zerase-s0", "--run", str(run), "--out", "trace.pdf")
    assert isinstance(refused.exception, ConfigurationError) and ".png" in str(refused.exception)


def test_looking_at_a_trace_needs_no_torch(run: Path, tmp_path: Path) -> None:
    words = ["zerase-s0", "--run", str(run), "--out", str(tmp_path / "trace.png")]
    code = (
        "import sys, typer\nfrom zbench.cli.trace import trace\napp = typer.Typer(); app.command()(trace)\n"
        f"try: app({words!r})\nexcept SystemExit as left: assert not left.code\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_known_figures_come_first_and_bookkeeping_is_left_out() -> None:
    names = figures_of({"a": rows_of(3, strange=1.0), "b": rows_of(3, attention=0.1)})
    assert names == ["erase", "attention", "multiplier", "gradient_cosine", "strange"]
    assert set(names) - {"strange"} <= set(TITLES)


def test_series_keep_the_steps_that_were_traced() -> None:
    assert series_of(rows_of(9), "gradient_cosine") == ([0.0, 4.0, 8.0], [-0.5] * 3)
    assert series_of([{"loss": 1.0}, {"loss": math.nan}, {"loss": 2.0}], "loss") == ([0.0, 2.0], [1.0, 2.0])


def test_when_an_axis_is_logarithmic() -> None:
    assert wants_log([10.0**-k for k in range(12)])
    assert wants_log([0.0, *(10.0**-k for k in range(12))]), "a loss that starts at zero"
    assert not wants_log([1.0, 2.0, 3.0]) and not wants_log([])
    assert not wants_log([-1e-3, *(10.0**-k for k in range(12))])
    assert not wants_log([0.0] * 20 + [1e-6, 1.0]), "mostly zero"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(0, 12))
def test_running_mean_stays_within_the_values(values: list[float], width: int) -> None:
    means = running_mean(values, width)
    assert len(means) == len(values)
    assert all(min(values) - 1e-6 <= mean <= max(values) + 1e-6 for mean in means)
    if width < 2:
        assert means == values


def test_traces_without_figures_still_give_a_picture() -> None:
    assert plot_traces({"seed 0": [{"step": 0.0}]}, "nothing").startswith(b"\x89PNG")
