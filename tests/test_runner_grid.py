"""A grid from flags, files and environment: who wins, whose paths, and what is said of mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbench.cli.app import main
from zbench.config import RunConfig
from zbench.errors import ConfigurationError, UnknownNameError, ZbenchError
from zbench.runner.grid import Grid, read_grid_file
from zbench.runner.planning import plan

FLAGS: dict[str, Any] = {"methods": ("uce",), "concepts": ("nudity",)}

RUN_FILE = """
methods = ["uce", "zerase"]
concepts = ["nudity", "cat"]
training_seeds = 3
steps = 5
[settings.zerase]
rank = 4
steps = 7
[launch]
workers = 2
devices = [0, 1]
[launch.slurm]
partition = "gpu"
minutes = 90
"""


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    file = tmp_path / "study" / "run.toml"
    file.write_text(RUN_FILE)
    return file


# One run for each concept ---------------------------------------------------------------------------------


def test_every_concept_is_a_run_of_its_own_and_they_differ_in_nothing_else(run_file: Path) -> None:
    grid = Grid.create({}, run_file)
    assert grid.concepts == ("nudity", "cat")
    nudity, cat = grid.runs
    assert cat == nudity.model_copy(update={"concept": "cat"})
    assert (nudity.methods, nudity.training_seeds) == (("uce", "zerase"), 3)
    assert [cell.concept for run in grid.runs for cell in plan(run)] == ["nudity"] * 7 + ["cat"] * 7


def test_a_grid_of_one_concept_is_the_run_that_it_was_before() -> None:
    flags = {"methods": ("uce",), "settings": {"uce": {"erase_scale": 2}}, "prompts": 3, "out": None}
    alone = RunConfig.create({**flags, "concept": "nudity"})
    assert Grid.create({**flags, "concept": "nudity"}).runs == (alone,)
    assert Grid.create({**flags, "concepts": "nudity, nudity"}).runs == (alone,)


def test_all_methods_and_the_default_attacks_are_looked_up() -> None:
    grid = Grid.create({"methods": "all", "concepts": "nudity,cat", "attacks": ["default"]})
    assert "zerase" in grid.runs[0].methods and "all" not in grid.runs[0].methods
    assert grid.runs[1].attacks == grid.runs[0].attacks and "affix" in grid.runs[0].attacks


def model_and_steps(grid: Grid) -> tuple[str, int | None]:
    return grid.runs[0].model, grid.runs[0].steps


# Who wins -------------------------------------------------------------------------------------------------


def test_sources_are_asked_in_order(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("zbench.toml").write_text('model = "z-image"\nsteps = 9\nbatch_size = 3\nmethods = "ac"\n')
    assert model_and_steps(Grid.create({}, run_file)) == ("z-image", 5)
    monkeypatch.setenv("ZBENCH_MODEL", "z-image-turbo")
    grid = Grid.create({"batch_size": None}, run_file)
    assert (model_and_steps(grid), grid.runs[0].batch_size) == (("z-image-turbo", 5), 3)
    assert grid.runs[0].methods == ("uce", "zerase")
    run_file.write_text('model = "from-file"\n' + RUN_FILE)
    assert model_and_steps(Grid.create({}, run_file)) == ("from-file", 5)
    flags = {"model": "from-flags", "steps": 1, "concept": "hat"}
    assert model_and_steps(Grid.create(flags, run_file)) == ("from-flags", 1)
    assert Grid.create(flags, run_file).concepts == ("hat",)


def test_settings_and_launch_are_combined_key_by_key(run_file: Path) -> None:
    Path("zbench.toml").write_text("[launch]\ntime_limit = 60\nworkers = 8\n[settings.zerase]\nbeta = 0.3\n")
    flags = {"settings": {"zerase": {"rank": 2}}, "launch": {"workers": 4, "devices": None}}
    grid = Grid.create(flags, run_file)
    assert grid.runs[0].settings["zerase"] == {"rank": 2, "steps": 7, "beta": 0.3}
    launch = grid.launch
    assert (launch.workers, launch.time_limit, launch.devices) == (4, 60, ("0", "1"))
    assert (launch.slurm.partition, launch.slurm.minutes, launch.launcher) == ("gpu", 90, "local")


def test_defaults_may_speak_of_methods_that_this_run_does_not_have() -> None:
    Path("zbench.toml").write_text("[settings.zerase]\nrank = 2\n[settings.uce]\nerase_scale = 2.0\n")
    assert Grid.create(FLAGS).runs[0].settings == {"uce": {"erase_scale": 2.0}}
    with pytest.raises(ConfigurationError, match="'zerase' is not part of this run"):
        Grid.create({**FLAGS, "settings": {"zerase": {"rank": 2}}})


def test_defaults_for_launching_do_not_disturb_a_run_in_python() -> None:
    Path("zbench.toml").write_text('[launch]\nworkers = 2\nlauncher = "slurm"\n')
    assert RunConfig.create({"methods": ("uce",), "concept": "nudity"}).concept == "nudity"
    assert Grid.create(FLAGS).launch.launcher == "slurm"


# Paths ----------------------------------------------------------------------------------------------------


def test_paths_in_a_file_are_relative_to_it(run_file: Path) -> None:
    (run_file.parent / "pipeline").mkdir()
    run_file.write_text(
        'methods = ["uce", "import:mine.safetensors", "import:other=models/b"]\nconcept = "nudity"\n'
        'out = "runs"\nreferences = "/data/real"\nprompts_dir = "sets"\nplugins = ["fade.py"]\n'
        'model = "pipeline"\nattacks = ["affix", "replay:old/attacks"]\n'
    )
    run, here = Grid.create({}, run_file).runs[0], run_file.parent
    assert (run.out, run.references, run.prompts_dir) == (here / "runs", Path("/data/real"), here / "sets")
    assert (run.plugins, run.model) == ((here / "fade.py",), str(here / "pipeline"))
    assert run.attacks == ("affix", f"replay:{here / 'old/attacks'}")
    assert run.methods == ("uce", f"import:{here / 'mine.safetensors'}", f"import:other={here / 'models/b'}")


def test_a_name_of_the_catalogue_is_never_taken_for_a_folder(run_file: Path) -> None:
    (run_file.parent / "miniature").mkdir()
    run_file.write_text('methods = "uce"\nconcept = "nudity"\nmodel = "miniature"\n')
    assert Grid.create({}, run_file).runs[0].model == "miniature"


def test_paths_of_flags_are_relative_to_the_working_directory(run_file: Path) -> None:
    run_file.write_text('out = "from-file"\n' + RUN_FILE)
    assert Grid.create({"out": Path("mine")}, run_file).out == Path("mine")
    assert Grid.create({}, run_file).out == run_file.parent / "from-file"


# Mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methodz = ['uce']", r"Unknown setting in run\.toml 'methodz'\. Did you mean methods"),
        ("[launch]\nworker = 2", r"Unknown setting of launch 'worker'\. Did you mean workers"),
        ("[launch.slurm]\npartion = 'a'", r"Unknown setting of launch\.slurm 'partion'\. Did you mean part"),
        ("launch = 2", r"launch in run\.toml: must be a table \(got 2\)"),
        ("settings = 'x'", r"settings in run\.toml: must be a table"),
        ("settings = {uce = 3}", r"settings\.uce: Input should be a valid dictionary"),
        ("concept = 'cat'\nconcepts = ['hat']", r"run\.toml has concept and concepts"),
        ("concepts = 5", r"concepts: must be a list of names \(got 5\)"),
        ("concepts = [['cat']]", r"concepts: must be a list of names"),
        ("methods = 3", "methods: Input should be a valid tuple"),
        ("methods = []", "No method is named"),
        ("steps = 0", "steps: Input should be greater than or equal to 1"),
        ("[launch]\nworkers = 'many'", r"launch\.workers: Input should be a valid integer"),
        ("[launch]\ntime_limit = inf", r"launch\.time_limit: must be a finite number"),
        ("[launch]\nlauncher = 'pbs'", r"launch\.launcher: Input should be 'inline', 'local' or 'slurm'"),
        ("steps = ", "cannot be used"),
    ],
)
def test_mistakes_in_a_file_are_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    known = "" if "methods" in text else "methods = ['uce']\n"
    known += "" if "concept" in text else "concept = 'nudity'\n"
    (tmp_path / "run.toml").write_text(known + text)
    with pytest.raises(ZbenchError, match=message) as caught:
        Grid.create({}, tmp_path / "run.toml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_grid_without_concepts_and_one_without_methods_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be used: No such file"):
        Grid.create(FLAGS, tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match=r"No concept is named.*zbench concepts"):
        Grid.create({"methods": ("uce",)})
    with pytest.raises(ConfigurationError, match=r"No method is named.*--methods"):
        Grid.create({"concepts": "nudity"})
    with pytest.raises(UnknownNameError, match="Unknown setting in the command line 'conzept'"):
        Grid.create({**FLAGS, "conzept": "x"})


@given(
    st.dictionaries(st.sampled_from(["steps", "prompts", "batch_size"]), st.integers(1, 9)),
    st.dictionaries(st.sampled_from(["steps", "prompts", "batch_size"]), st.integers(1, 9)),
)
def test_what_a_flag_leaves_open_the_file_says(flags: dict[str, int], file: dict[str, int]) -> None:
    path = Path("drawn.toml")
    path.write_text("".join(f"{name} = {value}\n" for name, value in file.items()))
    run = Grid.create({**FLAGS, **flags}, path).runs[0]
    usual = RunConfig.model_fields
    for name in ("steps", "prompts", "batch_size"):
        assert getattr(run, name) == flags.get(name, file.get(name, usual[name].default))


# The command line -----------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_options_win_over_the_file(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("plan", run_file, "--concept", "cat,car", "--set", "zerase.rank=1", "--devices", "cpu", "--json")
    code, out, _ = said(capsys, *words)
    planned = json.loads(out)
    assert (code, planned["launch"]["devices"], planned["launch"]["workers"]) == (0, ["cpu"], 2)
    assert [cell["concept"] for cell in planned["cells"]] == ["cat"] * 7 + ["car"] * 7
    fields = planned["cells"][-1]["spec"]["hyperparameters"]
    assert (fields["rank"], fields["steps"], planned["cells"][-1]["spec"]["steps"]) == (1, 7, 5)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "uce"), "No concept is named"),
        (("--concept", "nudity"), "No method is named"),
        (("--methods", ",", "--concept", "nudity"), "--methods names no method"),
        (("--methods", "uce", "--concept", "nudity,ct"), "Unknown concept 'ct'. Did you mean cat"),
        (("none.toml",), "none.toml cannot be used"),
        (("--methods", "uce", "--concept", "cat", "--workers", "0"), "launch.workers"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], command: str, words: tuple[str, ...], message: str
) -> None:
    code, out, error = said(capsys, command, *words)
    assert (code, out) == (2, "") and message in error and error.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_reading_a_grid_imports_nothing_heavy(run_file: Path) -> None:
    code = (
        "import sys; from zbench.runner.grid import Grid;"
        f"Grid.create({{}}, {str(run_file)!r});"
        "print(sorted({'torch', 'pandas', 'diffusers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert read_grid_file(run_file)["training_seeds"] == 3
