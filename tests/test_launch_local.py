"""Cells in processes of their own: they die alone, stop when asked, and leave nothing behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launch_tools import Memory, at_first_step, child_of, is_gone, jobs_for, signal_self, wait_until
from zbench.errors import ConfigurationError
from zbench.runner.launchers import local
from zbench.runner.launchers.base import Ended, Job
from zbench.runner.launchers.devices import absent, tokens
from zbench.runner.launchers.fork_server import ForkServer, forget, give_back, lease
from zbench.runner.launchers.local import Local
from zbench.runner.launchers.settings import Launch
from zbench.runner.launchers.stopping import StopFlag
from zbench.store import Store, read_json

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


@pytest.fixture(autouse=True, scope="module")
def _no_server_left() -> Iterator[None]:
    yield
    forget()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[ForkServer]:
    """The fork servers that a run uses, in order."""
    used: list[ForkServer] = []

    def noted() -> ForkServer:
        used.append(lease())
        return used[-1]

    monkeypatch.setattr(local, "lease", noted)
    return used


def launched(
    store: Store, jobs: list[Job], board: Memory, stop: StopFlag | None = None, **launch: Any
) -> dict[str, Ended]:
    """Method -> how its cell ended; on the CPU unless other devices are given."""
    launch.setdefault("devices", ("cpu",))
    ends = list(Local(Launch(**launch), stop).run(jobs, store, board))
    assert ends == board.over
    return {ended.job.spec.method: ended for ended in ends}


def result_of(store: Store, job: Job) -> dict[str, Any]:
    return dict(read_json(store.root / "cells" / job.id / "result.json"))


def test_cells_that_die_take_no_other_with_them(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("crashes", "leaves", "fails", "skips"))
    ends = launched(store, jobs, board := Memory(), workers=2)
    assert {name: ended.how for name, ended in ends.items()} == {
        "crashes": "died", "leaves": "died", "fails": "finished", "skips": "finished"
    }  # fmt: skip
    *words, cause = ends["crashes"].message.splitlines()
    assert "SIGSEGV" in cause and str(jobs[0].log(store.root)) in cause
    assert words and "the last words" in jobs[0].log(store.root).read_text()
    assert "exit code 0" in ends["leaves"].message
    assert "the sky fell" in result_of(store, jobs[2])["error"]
    assert result_of(store, jobs[3])["status"] == "skipped"
    assert [name for name, event in board.events if event["kind"] == "end"] and len(board.begun) == 4


def test_a_flood_loses_its_middle_and_the_cell_nothing(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("floods",))
    assert launched(store, jobs, Memory(), log_limit=1 << 16)["floods"].how == "finished"
    log = jobs[0].log(store.root).read_text()
    assert len(log) <= 1 << 16
    assert "the first words" in log and "bytes left out" in log
    assert "said by C" in log and "RuntimeError: flooded" in log


def test_a_cell_that_hangs_is_ended_and_shows_where(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("hangs", "skips"))
    ends = launched(store, jobs, board := Memory(), time_limit=4)
    assert ends["hangs"].how == "timed out" and "--time-limit" in ends["hangs"].message
    assert ends["skips"].how == "finished"
    assert "wrong.py" in jobs[0].log(store.root).read_text(), "the log does not show where it hung"
    assert is_gone(board.pid("hangs"))
    assert wait_until(lambda: is_gone(child_of(jobs[0].log(store.root)))), "what the cell started goes on"


def test_ctrl_c_lets_running_cells_stop_and_starts_no_other(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("steps", "skips"))
    before = signal.getsignal(signal.SIGINT)
    board = Memory(at_first_step(signal_self(signal.SIGINT)))
    ends = launched(store, jobs, board)
    assert {name: ended.how for name, ended in ends.items()} == {"steps": "stopped"}
    assert board.begun == [("steps", "cpu")]
    assert [event["status"] for _, event in board.events if event["kind"] == "end"] == ["stopped"]
    assert any("Ctrl-C again" in line for line in board.lines)
    assert not list((store.root / "erasures").glob(".writing-*")), "half-written files are left"
    assert signal.getsignal(signal.SIGINT) == before


def test_ctrl_c_twice_ends_cells_that_do_not_listen(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("hangs",))
    stop = StopFlag()

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    ends = launched(store, jobs, board := Memory(at_first_step(twice)), stop)
    assert ends["hangs"].how == "stopped" and stop.times == 2
    assert is_gone(board.pid("hangs"))
    assert wait_until(lambda: is_gone(child_of(jobs[0].log(store.root))))


def test_a_run_that_is_closed_ends_its_cells_and_keeps_its_server(
    tmp_path: Path, servers: list[ForkServer]
) -> None:
    store, jobs = jobs_for(tmp_path, ("hangs", "skips"))
    board = Memory()
    ends = Local(Launch(devices=("cpu",), workers=2)).run(jobs, store, board)
    assert next(ends).job.spec.method == "skips"
    child = child_of(jobs[0].log(store.root))
    ends.close()
    assert is_gone(board.pid("hangs")) and wait_until(lambda: is_gone(child))
    assert servers[0].alive and lease() is servers[0], "the next run would begin another"
    give_back(servers[0])


def test_the_cell_of_a_lost_device_goes_to_another(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("skips", "fails"))
    ends = launched(store, jobs, board := Memory(), devices=("mps", "cpu"))
    assert [ended.how for ended in ends.values()] == ["finished", "finished"]
    assert ("skips", "mps") in board.begun and ("skips", "cpu") in board.begun
    assert sum(device == "mps" for _, device in board.begun) == 1, "the lost device was used again"
    assert any(line.startswith("mps is not used any more") for line in board.lines)


def test_the_last_device_that_is_lost_says_what_to_do(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("skips", "fails"))
    ends = launched(store, jobs, board := Memory(), devices=("mps",))
    assert {name: ended.how for name, ended in ends.items()} == {"skips": "died"}
    assert "--devices" in ends["skips"].message and len(board.begun) == 1


def test_what_the_user_must_mend_ends_the_run(tmp_path: Path) -> None:
    store, (first, second) = jobs_for(tmp_path, ("fails", "skips"))
    gone = first.spec.model_copy(update={"model": str(tmp_path / "nowhere")})
    ends = launched(store, [Job(first.id, first.label, gone), second], Memory())
    assert {name: ended.how for name, ended in ends.items()} == {"fails": "refused"}
    assert "nowhere" in ends["fails"].message


def test_several_workers_work_at_once_and_share_the_threads(tmp_path: Path) -> None:
    store, jobs = jobs_for(tmp_path, ("steps",), training_seeds=2)
    board = Memory()
    assert len(list(Local(Launch(devices=("cpu",), workers=2)).run(jobs, store, board))) == 2
    kinds = [event["kind"] for _, event in board.events if event["kind"] in ("start", "end")]
    assert kinds == ["start", "start", "end", "end"]


def test_no_jobs_need_no_process(tmp_path: Path, servers: list[ForkServer]) -> None:
    store, _ = jobs_for(tmp_path, ())
    assert list(Local(Launch()).run([], store, Memory())) == [] and servers == []


# Devices --------------------------------------------------------------------------------------------------


def test_a_process_sees_its_own_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    both = tokens(("0", "cuda:1"), workers=3)
    assert [token.environment for token in both] == [
        {"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "GPU-7"}
    ]  # fmt: skip
    assert [token.device for token in both] == ["cuda", "cuda"]
    assert [token.name for token in both] == ["cuda:0", "cuda:1"]
    assert absent(("0", "cuda:1", "cpu"), cuda_devices=1) == ["cuda:1"]


def test_threads_are_divided_among_those_who_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert [token.threads for token in tokens(("cpu",), workers=1)] == [None]
    assert [token.threads for token in tokens(("cpu",), workers=3)] == [2, 2, 2]
    assert [token.threads for token in tokens(("0", "0", "cpu"), workers=2)] == [2, 2, 2, 2]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [token.threads for token in tokens(("cpu",), workers=2)] == [1, 1]


def test_devices_that_cannot_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--devices gpu0"):
        tokens(("gpu0",), workers=1)
    store, jobs = jobs_for(tmp_path, ("skips",))
    with pytest.raises(ConfigurationError, match="CUDA devices here"):
        list(Local(Launch(devices=("4711",))).run(jobs, store, Memory()))


# Last, because they cost a fork server each -------------------------------------------------------------


def test_cells_that_died_with_the_fork_server_are_started_again(
    tmp_path: Path, servers: list[ForkServer]
) -> None:
    store, jobs = jobs_for(tmp_path, ("steps", "skips"))
    board = Memory(at_first_step(lambda: os.kill(servers[0].pid, signal.SIGKILL)))
    ends = launched(store, jobs, board)
    assert {name: ended.how for name, ended in ends.items()} == {"steps": "finished", "skips": "finished"}
    assert [name for name, _ in board.begun] == ["steps", "steps", "skips"]
    pids = [event["pid"] for name, event in board.events if name == "steps" and event["kind"] == "start"]
    assert len(set(pids)) == 2 and all(map(is_gone, pids))
    assert len(servers) == 2 and any("ended with it" in line for line in board.lines)


def test_what_runs_ends_with_the_run(tmp_path: Path, servers: list[ForkServer]) -> None:
    store, jobs = jobs_for(tmp_path, ("hangs", "skips"))
    board = Memory()
    ends = Local(Launch(devices=("cpu",), workers=2)).run(jobs, store, board)
    assert next(ends).how == "finished"
    child = child_of(jobs[0].log(store.root))
    # The socket of a run that is killed is closed by the system: the same as here.
    servers[0]._connection.close()
    pids = [board.pid("hangs"), child, servers[0].pid]
    assert wait_until(lambda: servers[0]._process.poll() is not None and all(map(is_gone, pids)))
    ends.close()
