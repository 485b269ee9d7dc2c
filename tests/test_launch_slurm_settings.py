"""What the SLURM launcher asks for and understands, without a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.slurm_tools import Watcher, launch
from zbench.errors import ConfigurationError, MissingExtraError
from zbench.runner.launchers.settings import Launch
from zbench.runner.launchers.slurm import Slurm
from zbench.runner.launchers.slurm_queue import Queue, Seen
from zbench.runner.launchers.slurm_submit import Submitter, folder_of, known_jobs, name_of, sweep
from zbench.runner.launchers.slurm_task import Task


def parameters(settings: dict[str, Any], after: tuple[str, ...] = ()) -> dict[str, Any]:
    launch = Launch.model_validate({"launcher": "slurm", "slurm": settings})
    root = Path("/runs")
    return Submitter(launch, root, Queue("name"), Watcher())._parameters(3, after)


def test_without_submitit_the_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zbench\[slurm\]'"):
        Slurm(launch())


def test_without_slurm_it_is_said_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"login node .* --launcher local"):
        Slurm(launch())


def test_settings_become_options_of_sbatch() -> None:
    asked = {"partition": "gpu", "minutes": 90, "memory_gb": 1.5, "gpus": 2, "at_once": 4}
    found = parameters({**asked, "more": {"--constraint": "h100", "mail_type": "END"}}, after=("12",))
    assert found["partition"] == "gpu" and found["time"] == 90 and found["mem"] == "1536MB"
    assert found["gpus_per_node"] == 2 and found["array_parallelism"] == 4
    assert found["additional_parameters"] == {
        "requeue": True, "constraint": "h100", "mail-type": "END", "dependency": "afterany:12",
    }  # fmt: skip


def test_what_is_not_asked_for_is_the_cluster_s_choice() -> None:
    found = parameters({"gpus": 0})
    assert not {"partition", "account", "mem", "gpus_per_node", "cpus_per_task"} & set(found)
    assert found["array_parallelism"] == 3


def test_a_dependency_of_the_user_stays() -> None:
    more = parameters({"more": {"dependency": "after:7"}}, after=("12", "13"))["additional_parameters"]
    assert more["dependency"] == "after:7,afterany:12,afterany:13"


@given(st.lists(st.text(min_size=1).map(lambda text: Path("/") / text), min_size=2, max_size=2, unique=True))
def test_two_run_folders_never_share_a_name(roots: list[Path]) -> None:
    names = [name_of(root) for root in roots]
    assert names[0] != names[1]
    assert all(name.startswith("zbench-") and "," not in name and " " not in name for name in names)


@pytest.mark.parametrize(
    ("state", "reason", "stuck"),
    [
        ("PENDING", "Priority", False), ("PENDING", "PartitionTimeLimit", True), ("RUNNING", "None", False),
        ("PENDING", "launch failed requeued held", True),
    ],
)  # fmt: skip
def test_only_what_does_not_pass_by_itself_is_told(state: str, reason: str, stuck: bool) -> None:
    assert Seen(state, reason).is_stuck is stuck


def test_only_files_of_finished_jobs_are_swept(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    names = ("2_submitted.pkl", "2_0_log.out", "3_1_0_log.out", "3_10_0_log.out", "22_0_log.out", "jobs.json")
    for name in names:
        (folder / name).touch()
    sweep(tmp_path, {"2", "3_1"})
    assert sorted(path.name for path in folder.iterdir()) == ["22_0_log.out", "3_10_0_log.out", "jobs.json"]


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 3}'])
def test_a_damaged_record_of_jobs_is_none(tmp_path: Path, text: str) -> None:
    folder_of(tmp_path).mkdir(parents=True)
    (folder_of(tmp_path) / "jobs.json").write_text(text)
    assert known_jobs(tmp_path) in ({}, {"a": "3"})


def test_a_job_imports_nothing_heavy_before_its_cell() -> None:
    code = (
        "import sys, zbench.runner.launchers.slurm_task; print({'torch', 'pandas'} & set(sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_task_is_the_same_after_it_was_queued_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    task = Task(tmp_path / "spec.json", tmp_path / "events.jsonl", tmp_path / "end.json", 3.0)
    assert task.checkpoint().function == task


REFUSED = """
import os, sys
from pathlib import Path
from zbench.runner.launchers.slurm_task import Task
root = Path(sys.argv[1])
os.environ.update(SUBMITIT_EXECUTOR="slurm", SLURM_JOB_ID="1")
task = Task(root / "missing.json", root / "events.jsonl", root / "end.json")
print(task())
"""


def test_a_task_leaves_a_word_whatever_its_cell_ended_with(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "2", done.stderr
    end = (tmp_path / "end.json").read_text()
    assert '"status": "refused"' in end and "missing.json" in end
