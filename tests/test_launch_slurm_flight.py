"""A cell on the cluster as its files and the queue tell of it; needs no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.slurm_tools import Watcher
from zbench.runner.launchers.base import STOPPED, Job
from zbench.runner.launchers.slurm_flight import Flight
from zbench.runner.launchers.slurm_queue import Queue
from zbench.runner.launchers.slurm_submit import end_file
from zbench.store import atomic_write_json

NOT_QUEUED = "Command '['scontrol', 'requeue', '9_0']' returned non-zero exit status 1."
"""What submitit raises where the cluster already preempts a job that was warned of its time limit."""


class Empty(Queue):
    """A queue that has forgotten all its jobs."""

    def end_of(self, number: str) -> tuple[str, str]:
        return "", ""


@pytest.fixture
def flight(tmp_path: Path) -> Flight:
    spec: Any = None  # where a cell is followed from outside, nobody asks what it does
    return Flight(Job("cell", "esd_x s0", spec), "9_0", tmp_path)


def leave_word(flight: Flight, problem: str | None) -> None:
    end = end_file(flight.job, flight.root)
    end.parent.mkdir(parents=True, exist_ok=True)
    word = {"code": STOPPED, "message": ""}
    atomic_write_json(end, {"status": STOPPED, "word": word, "timed_out": False, "problem": problem})


def test_a_job_whose_requeue_met_a_preemption_is_still_followed(flight: Flight) -> None:
    leave_word(flight, NOT_QUEUED)
    board, queue = Watcher(), Empty("grid")
    for there in (True, None, True, True):
        assert flight.ended(board, queue, there, stopping=False) is None


def test_a_job_that_could_not_be_queued_again_and_is_gone_has_timed_out(flight: Flight) -> None:
    leave_word(flight, NOT_QUEUED)
    board, queue = Watcher(), Empty("grid")
    assert flight.ended(board, queue, True, stopping=False) is None
    ended = flight.ended(board, queue, False, stopping=False)
    assert ended is not None and ended.how == "timed out"
    assert "9_0 was to be queued again" in ended.message and NOT_QUEUED in ended.message


def test_a_stopped_job_that_is_gone_was_cancelled(flight: Flight) -> None:
    leave_word(flight, None)
    ended = flight.ended(Watcher(), Empty("grid"), False, stopping=False)
    assert ended is not None and ended.how == "stopped" and "9_0 was cancelled" in ended.message
