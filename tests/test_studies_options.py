"""What all studies share: options checked before any work, the model they mean, and their provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import Field

import zbench
from zbench.cli import main
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.stages.inputs import ModelHandle
from zbench.studies import load_study, study_names, write_study
from zbench.studies.options import annotation_of, checked_options, study_options

if TYPE_CHECKING:
    from zbench.studies import Progress


def some_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    pictures: int = 20,
    seed: int = 0,
    spare: Annotated[int, Field(ge=0)] = 5,
    rate: float | None = None,
    levels: Sequence[float] = (0.1, 0.2),
    names: Sequence[str] | str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    quick: bool = False,
) -> None:
    """A study that only has options; its `progress` is known to type checkers alone."""


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("pictures", 1, 1),
        ("seed", 0, 0),
        ("spare", 0, 0),
        ("rate", 1, 1.0),
        ("rate", None, None),
        ("levels", (1, 0.0), [1.0, 0.0]),
        ("names", "uce,ac", "uce,ac"),
        ("names", ["uce"], ["uce"]),
        ("settings", {"uce": {"rank": 0}}, {"uce": {"rank": 0}}),
        ("quick", True, True),
    ],
)
def test_values_of_the_right_kind_are_taken(option: str, value: Any, found: Any) -> None:
    assert checked_options("some", some_study, {option: value}) == {option: found}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pictures", 0),
        ("pictures", "abc"),
        ("pictures", True),
        ("pictures", 1.5),
        ("pictures", None),
        ("seed", -1),
        ("spare", -1),
        ("rate", "fast"),
        ("rate", -0.1),
        ("rate", float("nan")),
        ("levels", 3),
        ("levels", []),
        ("levels", [0.1, "a"]),
        ("levels", [-1.0]),
        ("names", ""),
        ("names", []),
        ("names", 3),
        ("settings", "foo"),
        ("settings", {"uce": 3}),
        ("quick", 1),
        ("pictures", Path("20")),
    ],
)
def test_values_of_another_kind_are_refused_in_one_line(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        checked_options("some", some_study, {option: value})
    assert str(caught.value).startswith(f"{option} = {value!r}: ") and "\n" not in str(caught.value)


def test_unknown_options_name_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown option of the study some 'picture'.*mean pictures"):
        checked_options("some", some_study, {"picture": 3})


@pytest.mark.parametrize("name", study_names())
def test_every_option_of_every_study_can_be_checked(name: str) -> None:
    study = load_study(name)
    for option, default in study_options(study).items():
        assert annotation_of(study, option) is not Any, f"{option} has no annotation"
        assert checked_options(name, study, {option: default}).keys() == {option}, "the default is fine"


# Models and provenance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["study", "sweep"])
def test_the_model_comes_from_where_a_runs_does(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "study": ["study", "collapse", "--out", str(tmp_path / "out")],
        "sweep": ["sweep", "uce", "strength", "1,2", "--out", str(tmp_path / "out")],
    }[command]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zbench.toml").write_text('model = "minifile"\n[settings.zerase]\nrank = 2\n')
    monkeypatch.setenv("ZBENCH_MODEL", "minivariable")
    for more, model in ((["--model", "miniflag"], "miniflag"), ([], "minivariable"), ([], "minifile")):
        with pytest.raises(SystemExit) as left:
            main([*words, *more])
        assert left.value.code == 2 and f"Unknown model '{model}'" in capsys.readouterr().err
        if not more:
            monkeypatch.delenv("ZBENCH_MODEL", raising=False)


def test_a_sweep_takes_device_and_plugins_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def trials(*words: Any, **named: Any) -> None:
        seen.update(named)
        raise ConfigurationError("seen")

    monkeypatch.setattr("zbench.studies.sweep.Trials", trials)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zbench.toml").write_text('device = "cuda:1"\nplugins = ["mine.py"]\n')
    for more, device in (([], "cuda:1"), (["--device", "cpu"], "cpu")):
        with pytest.raises(SystemExit):
            main(["sweep", "uce", "strength", "1,2", *more])
        assert (seen["device"], seen["plugins"]) == (device, (Path("mine.py"),))


def test_a_study_says_where_it_comes_from(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    handle = ModelHandle(str(tiny_pipeline_folder), "cpu")
    write_study(tmp_path / "with", "some", {"figures": 3}, "# page\n", model=handle)
    record = json.loads((tmp_path / "with" / "study.json").read_text())
    facts = record["provenance"]
    assert facts["zbench"] == zbench.__version__ and "torch" in facts["packages"]
    assert set(facts["checkout"] or {"commit": 0, "dirty": 0}) == {"commit", "dirty"}
    assert facts["device"]["type"] == "cpu" and facts["device"]["torch_build"]["version"]
    assert facts["model"]["weights"] == handle.identity["weights"] and record["figures"] == 3
    write_study(tmp_path / "without", "some", {}, "# page\n")
    facts = json.loads((tmp_path / "without" / "study.json").read_text())["provenance"]
    assert facts["packages"] and "model" not in facts
