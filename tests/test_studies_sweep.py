import json
from pathlib import Path

import pytest

from zbench.cli.sweep import read_values
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.studies.sweep import Sweep, draw_curve, render_page, rows_of, sweep
from zbench.studies.trials import Trial


def test_values_are_read_as_json_where_they_can_be() -> None:
    assert read_values("0.5, 1,span") == [0.5, 1, "span"]
    assert read_values("[[0], [0, 1]]") == [[0], [0, 1]]
    for text in ("1,,2", "[1, 2", ""):
        with pytest.raises(ConfigurationError) as caught:
            read_values(text)
        assert "\n" not in str(caught.value)


def test_bad_values_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="two or more values"):
        sweep("uce", "erase_scale", [1.0], concept="violence", out=tmp_path)
    with pytest.raises(ConfigurationError, match=r"uce\.erase_scale"):
        sweep("uce", "erase_scale", [1.0, -1.0], concept="violence", out=tmp_path)
    for name in ("original", "all"):
        with pytest.raises(ConfigurationError, match="no method that could be tried"):
            sweep(name, "eta", [1.0, 2.0], concept="violence", out=tmp_path)
    with pytest.raises(ConfigurationError, match="prompts"):
        sweep("uce", "erase_scale", [1.0, 2.0], concept="violence", out=tmp_path, prompts=0)
    with pytest.raises(UnknownNameError, match="erase_scale"):
        sweep("uce", "erase_scales", [1.0, 2.0], concept="violence", out=tmp_path)
    assert not list(tmp_path.glob("work/erasures/*"))


def test_a_small_sweep_writes_its_curve(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = sweep(
        "negative_prompt", "scale", [3.0, 0.0], concept="violence", out=tmp_path, prompts=2,
        settings={"wording": "phrases"}, progress=lambda *counts: told.append(counts),
    )  # fmt: skip
    assert told == [(1, 2), (2, 2)]
    assert [trial.settings["scale"] for trial in found.trials] == [3.0, 0.0]
    assert found.trials[1].clip_loss == pytest.approx(0, abs=1e-6), "guidance of no strength loses nothing"
    assert abs(found.trials[0].clip_loss) > 1e-3
    assert (tmp_path / "curve.png").read_bytes() == draw_curve(found), "the same bytes for the same figures"
    assert "| 3.0 |" in (tmp_path / "study.md").read_text()
    for trial in found.trials:
        assert (
            len(trial.hits) == len(set(trial.prompts)) == trial.asked == 2 and sum(trial.hits) == trial.found
        )
    record = json.loads((tmp_path / "study.json").read_text())
    assert [trial["found"] for trial in record["trials"]] == [trial.found for trial in found.trials]
    assert all(trial.keys().isdisjoint({"hits", "prompts"}) for trial in record["trials"])


def test_failures_and_collapse_are_shown() -> None:
    good = Trial(
        {"x": 1}, "violence", "done", 3, 10, (0.1, 0.6), 70.0, (65.0, 75.0), 2.0, 0.5, 0.9, True, 1.0
    )
    bad = Trial({"x": 2}, "violence", "failed", error="Traceback\nTraining diverged")
    found = Sweep("uce", "x", "violence", 72.0, (good, bad))
    first, second = rows_of(found)
    assert first == ("1", "30.0 (3/10) [10.0, 60.0]", "70.0 [65.0, 75.0]", "50", "90", "collapsed")
    assert bad.reason == "Training diverged" and good.reason == ""
    assert second[0] == "2" and second[-1] == "failed Training diverged"
    assert "failed Training diverged" in render_page(found)
    assert draw_curve(found)[:4] == b"\x89PNG"
