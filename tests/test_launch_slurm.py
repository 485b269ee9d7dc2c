"""A real grid through a real SLURM: arrays, what waits for what, requeues, cancelled and killed jobs.

Needs the cluster of `.ci/slurm`; each cell takes some ten seconds to start, all of it about two minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm_tools import Watcher, cluster, grid, hows, launch, queued, slurm, why_no_cluster
from zbench.errors import ConfigurationError
from zbench.runner.cell import stored_cell
from zbench.runner.launchers.base import Job
from zbench.runner.launchers.settings import Launch
from zbench.runner.launchers.slurm import Slurm
from zbench.runner.launchers.slurm_submit import folder_of, known_jobs
from zbench.store import Store

WHY_NOT = why_no_cluster()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with cluster():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of all tests here: the unerased model's pictures are drawn once."""
    return tmp_path_factory.mktemp("slurm") / "runs"


def number_of(job: Job, store: Store) -> str:
    return known_jobs(store.root)[job.id]


def is_intact(job: Job, store: Store) -> bool:
    """Whether a run would take the cell for done: everything that it stands on is there, by its hash."""
    return stored_cell(job.spec, store) is not None


def test_a_grid_is_one_array_after_the_unerased_model(folder: Path) -> None:
    store, jobs = grid(folder, "uce", seeds=2)
    dependencies: list[str] = []
    see = lambda job, event: dependencies.append(slurm("squeue", "--noheader", "--array", "--format=%i|%E"))  # noqa: E731
    watcher = Watcher({("original", "start", ""): see})
    ends = list(Slurm(launch()).run(jobs, store, watcher))
    assert hows(ends) == {"original": "finished", "uce s0": "finished", "uce s1": "finished"}
    numbers = [number_of(job, store) for job in jobs]
    array = numbers[1].partition("_")[0]
    assert numbers[1:] == [f"{array}_0", f"{array}_1"]
    assert f"{array}_1|afterany:{numbers[0]}" in dependencies[0]
    assert watcher.begun[0] == "original"
    assert watcher.lines == [
        f"SLURM job {numbers[0]}: 1 cell.",
        f"SLURM job {array}: 2 cells, after {numbers[0]}.",
    ]
    assert all(is_intact(job, store) for job in jobs)
    assert not list(folder_of(store.root).glob("*.pkl"))


def test_cells_that_the_cluster_takes_back_go_on_where_they_were(folder: Path) -> None:
    """One is warned ahead of its time limit, the other loses its cores to a partition that goes first."""
    store, jobs = grid(folder, "esd_x", seeds=2)

    def warn(job: Job, event: dict[str, Any]) -> None:
        slurm("scancel", "--signal=USR2", number_of(job, store))

    def preempt(job: Job, event: dict[str, Any]) -> None:
        cores = slurm("sinfo", "--noheader", "--partition=urgent", "--format=%c").strip()
        cores = f"--cpus-per-task={cores}"
        slurm("sbatch", "--partition=urgent", cores, "--output=/dev/null", "--wrap=sleep 1")

    watcher = Watcher({("esd_x s0", "stage_end", "erase"): warn, ("esd_x s1", "stage_end", "erase"): preempt})
    ends = list(Slurm(launch()).run(jobs[1:], store, watcher))
    assert hows(ends) == {"esd_x s0": "finished", "esd_x s1": "finished"}, [each.message for each in ends]
    for job in jobs[1:]:
        done = watcher.stages(job.label)
        assert watcher.begun.count(job.label) >= 2
        assert any(line.startswith(f"{job.label}: taken back by the cluster") for line in watcher.lines)
        assert "erase" in done and len(done) == len(set(done)), "a finished stage was done again"
        assert is_intact(job, store)


def test_one_cell_cancelled_and_one_killed_are_run_again(folder: Path) -> None:
    store, jobs = grid(folder, "uce", seeds=4)
    jobs = jobs[3:]

    def cancel(job: Job, event: dict[str, Any]) -> None:
        slurm("scancel", number_of(job, store))

    def kill(job: Job, event: dict[str, Any]) -> None:
        pid = next(
            each["pid"] for name, each in watcher.events if name == job.label and each["kind"] == "start"
        )
        os.kill(pid, signal.SIGKILL)

    watcher = Watcher({("uce s2", "stage", "erase"): cancel, ("uce s3", "stage", "erase"): kill})
    ends = {ended.job.label: ended for ended in Slurm(launch()).run(jobs, store, watcher)}
    assert ends["uce s2"].how == "stopped"
    assert ends["uce s3"].how == "died"
    assert "SIGKILL" in ends["uce s3"].message and "uce s3: erase" in ends["uce s3"].message
    assert not any(is_intact(job, store) for job in jobs)
    assert hows(list(Slurm(launch()).run(jobs, store, Watcher()))) == {
        "uce s2": "finished",
        "uce s3": "finished",
    }
    assert all(is_intact(job, store) for job in jobs)


RUN = """
import sys
from tests.slurm_tools import Watcher, grid, launch
from zbench.runner.launchers.slurm import Slurm
store, jobs = grid(sys.argv[1], "eap", seeds=2)
list(Slurm(launch(at_once=1)).run(jobs[1:], store, Watcher()))
"""


def test_jobs_of_a_killed_run_are_followed_and_ctrl_c_ends_them(folder: Path) -> None:
    store, jobs = grid(folder, "eap", seeds=2)
    run = subprocess.Popen([sys.executable, "-c", RUN, str(folder)], cwd=Path(__file__).parents[1])
    while not {job.id for job in jobs[1:]} <= set(known_jobs(store.root)):
        time.sleep(0.1)
    run.kill()
    run.wait()
    before = queued()
    watcher = Watcher({("eap s0", "stage", "erase"): lambda job, event: os.kill(os.getpid(), signal.SIGINT)})
    ends = list(Slurm(launch()).run(jobs[1:], store, watcher))
    assert sorted(before) == [number_of(job, store) for job in jobs[1:]]
    assert watcher.begun == ["eap s0"]  # one at a time, as asked for
    assert watcher.lines[0] == "2 cells are in SLURM's queue already, and are followed."
    assert hows(ends) == {"eap s0": "stopped"}  # the other one had no process to end
    assert queued() == []
    assert not [path for path in (folder / "cells").iterdir() if path.name.startswith("eap")]


def test_a_hanging_cell_is_ended_with_its_place_in_the_log(folder: Path) -> None:
    store, jobs = grid(folder, "mace")
    [ended] = Slurm(launch().model_copy(update={"time_limit": 3.0})).run(jobs[1:], store, Watcher())
    assert ended.how == "timed out"
    assert "Fatal Python error: Aborted" in jobs[1].log(store.root).read_text()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"partition": "nowhere"}, "choose another partition"), ({"gpus": 8}, "set gpus = 0")],
)
def test_what_the_cluster_refuses_is_said_in_one_line(
    folder: Path, settings: dict[str, Any], says: str
) -> None:
    store, jobs = grid(folder, "uce", seeds=3)
    plain = launch()
    asked = plain.slurm.model_copy(update=settings)
    with pytest.raises(ConfigurationError, match=says) as caught:
        list(Slurm(plain.model_copy(update={"slurm": asked})).run(jobs, store, Watcher()))
    assert "\n" not in str(caught.value)
    assert queued() == []


def test_devices_are_the_cluster_s_to_choose() -> None:
    with pytest.raises(ConfigurationError, match=r"gpus .* under \[launch.slurm\]"):
        Slurm(Launch(launcher="slurm", devices=("0", "1")))


RUN_TOML = """
methods = ["negative_prompt"]
concept = "nudity"
prompts = 1
steps = 2
repetitions = 1
out = "runs"
[launch]
launcher = "slurm"
slurm = { gpus = 0, cpus = 1, minutes = 10 }
"""


def test_the_command_takes_it_all_from_run_toml(folder: Path) -> None:
    (folder.parent / "run.toml").write_text(RUN_TOML)
    command = [sys.executable, "-m", "zbench", "run", str(folder.parent / "run.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "SLURM job" in done.stderr and ": 1 cell." in done.stderr  # the unerased model is there already
    assert "negative_prompt" in (folder / "table.csv").read_text()
