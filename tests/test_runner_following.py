"""Following event files that are written, torn, emptied and begun anew meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zbench.runner import following
from zbench.runner.events import EventReporter, EventWriter
from zbench.runner.following import Follower, Situation, events_of, situation_of
from zbench.runner.launchers.stopping import StopFlag

LABELS = st.text(max_size=8)
EVENTS = st.lists(
    st.fixed_dictionaries({"kind": st.sampled_from(("stage", "say", "progress")), "label": LABELS}),
    min_size=1,
    max_size=12,
)


def lines_of(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_however_a_file_grows_each_event_is_told_once(
    events: list[dict[str, Any]], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("events") / "cell.jsonl"
    follower, told, data = Follower(path), list[dict[str, Any]](), lines_of(events)
    for end in [*sorted(cuts), len(data)]:
        path.write_bytes(data[:end])  # a write ends anywhere, in the middle of a letter too
        told += follower.new()
    assert told == events
    assert follower.restarts == 0


@settings(max_examples=60, deadline=None)
@given(first=EVENTS, second=EVENTS)
def test_a_file_that_is_begun_anew_is_read_from_its_start(
    first: list[dict[str, Any]], second: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("events") / "cell.jsonl"
    follower = Follower(path)
    path.write_bytes(lines_of([{"kind": "start", "pid": 1}, *first]))
    follower.new()
    second = [{"kind": "start", "pid": 2}, *second]  # shorter, as long, or longer: all the same
    path.write_bytes(lines_of(second))
    assert follower.new() == second
    assert follower.restarts == 1


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    assert Follower(path).new() == []
    path.write_bytes(b'{"kind": "sta\n\xff\xfe\n[1]\n{"kind": 3}\n\n{"kind": "say", "line": "x"}\n')
    assert list(events_of(path)) == [{"kind": "say", "line": "x"}]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_MOST", 1000)
    path = tmp_path / "cell.jsonl"
    path.write_bytes(b"x" * 2500 + b"\n" + lines_of([{"kind": "say", "line": "after"}]))
    follower = Follower(path)
    told = [event for _ in range(4) for event in follower.new()]
    assert told == [{"kind": "say", "line": "after"}]


def test_a_situation_follows_what_a_cell_really_writes(tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    with EventWriter(path) as events:
        reporter = EventReporter(events, StopFlag())
        events.start("cpu")
        with reporter.stage("uce s0: erase") as advance:
            advance(1, 10)
            situation = situation_of(path)
            assert (situation.stage, situation.done, situation.total) == ("uce s0: erase", 1, 10)
        events.write("end", status="done")
    ended = situation_of(path)
    assert (ended.pid, ended.device, ended.status, ended.stage) == (os.getpid(), "cpu", "done", "")
    assert list(ended.seconds) == ["uce s0: erase"]
    assert ended.memory["host"] > 1_000_000


def noted(*events: dict[str, Any]) -> Situation:
    situation = Situation()
    for event in events:
        situation.note(event)
    return situation


def test_time_left_is_that_of_the_work_of_this_run() -> None:
    stage = {"kind": "stage", "label": "draw", "at": 100.0}
    assert noted(stage).left is None
    assert noted(stage, progress(1, 10, 102.0)).left == pytest.approx(18.0)
    # 80 were there already: they took no time now.
    assert noted(stage, progress(80, 100, 101.0)).left is None
    assert noted(stage, progress(80, 100, 101.0), progress(84, 100, 109.0)).left == pytest.approx(32.0)


def progress(done: Any, total: Any, at: Any) -> dict[str, Any]:
    return {"kind": "progress", "done": done, "total": total, "at": at}


def test_clocks_that_jump_and_values_of_other_types_harm_nothing() -> None:
    stage = {"kind": "stage", "label": "draw", "at": 1e9}
    assert noted(stage, progress(5, 10, 3.0)).left is None
    strange = noted(stage, progress(float("nan"), "x", None), {"kind": "later"}, {"kind": "memory", "of": 1})
    assert (strange.done, strange.total, strange.left) == (0, 0, None)


def test_a_cell_that_is_started_again_is_at_its_beginning() -> None:
    situation = noted(
        {"kind": "stage", "label": "draw", "at": 1.0},
        progress(5, 10, 2.0),
        {"kind": "start", "pid": 7, "host": "b", "device": "cpu"},
    )
    assert situation == Situation(host="b", pid=7, device="cpu")
