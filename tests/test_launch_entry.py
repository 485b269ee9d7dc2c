"""The one entry: a spec file in, a result, a log and events on disk, and an exit code out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.launch_tools import jobs_for
from zbench.cli.cell import cell
from zbench.errors import StoreError
from zbench.locks import is_held
from zbench.runner.events import PROGRESS_EVERY, EventReporter, EventWriter
from zbench.runner.following import events_of
from zbench.runner.launchers import devices
from zbench.runner.launchers.base import DEVICE_LOST, DONE, FAILED, REFUSED, STOPPED
from zbench.runner.launchers.entry import run_spec_file
from zbench.runner.launchers.spec_file import SCHEMA_VERSION, SpecFile
from zbench.runner.launchers.stopping import StopFlag, Stopped
from zbench.store import read_json

LIMIT = 1 << 16


def spec_file(folder: Path, method: str, device: str | None = "cpu") -> Path:
    store, (job,) = jobs_for(folder, (method,))
    return SpecFile.of(job, store.root, LIMIT, device, threads=1).write()


def kinds(path: Path) -> list[str]:
    return [str(event["kind"]) for event in events_of(SpecFile.read(path).events)]


def test_a_cell_that_fails_leaves_result_log_and_events(tmp_path: Path) -> None:
    path = spec_file(tmp_path, "fails")
    assert run_spec_file(path) == FAILED
    file = SpecFile.read(path)
    assert read_json(file.root / "cells" / file.id / "result.json")["status"] == "failed"
    assert "RuntimeError: the sky fell" in file.log.read_text()
    first, *_, last = events_of(file.events)
    assert first["pid"] == os.getpid() and first["device"] == "cpu"
    assert (last["kind"], last["status"]) == ("end", "failed")
    assert not is_held(file.events), "the cell seems to be at work still"


def test_a_cell_that_is_skipped_is_done(tmp_path: Path) -> None:
    path = spec_file(tmp_path, "skips")
    assert run_spec_file(path) == DONE and kinds(path)[-1] == "end"


def test_a_cell_that_is_asked_to_stop_records_no_failure(tmp_path: Path) -> None:
    path, stop = spec_file(tmp_path, "steps"), StopFlag()
    stop.set()
    assert run_spec_file(path, stop=stop) == STOPPED
    file = SpecFile.read(path)
    assert not (file.root / "cells" / file.id).exists()
    assert list(events_of(file.events))[-1]["status"] == "stopped"


def test_what_the_user_must_mend_is_told(tmp_path: Path) -> None:
    path = spec_file(tmp_path, "fails")
    shutil.rmtree(SpecFile.read(path).root / "cells", ignore_errors=True)
    (path.parent.parent / "zbench.json").write_text('{"kind": "another"}')
    assert run_spec_file(path) == REFUSED
    refused = [event for event in events_of(SpecFile.read(path).events) if event["kind"] == "refused"]
    assert len(refused) == 1 and "--out" in refused[0]["message"]


def test_a_device_that_is_not_there_is_told_from_a_failure(tmp_path: Path) -> None:
    path = spec_file(tmp_path, "skips", device="mps")
    if devices.is_there("mps"):
        pytest.skip("this machine has what should be missing")
    assert run_spec_file(path) == DEVICE_LOST
    assert not (path.parent.parent / "cells").exists()


def test_an_error_costs_a_device_only_if_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "RuntimeError: CUDA error: no CUDA-capable device is detected"
    assert not devices.is_lost("cpu", gone) and not devices.is_lost("cuda", "RuntimeError: the sky fell")
    assert devices.is_lost("meta:what", gone), "a device that does not answer counts as there"
    monkeypatch.setattr(devices, "_responds", lambda device: True)
    assert not devices.is_lost("cuda", gone), "a method's own error costs a device that works"


# The spec file ----------------------------------------------------------------------------------------------


def test_a_spec_file_survives_writing_and_a_moved_run_folder(tmp_path: Path) -> None:
    path = spec_file(tmp_path, "skips")
    file = SpecFile.read(path)
    assert file.write() == path and SpecFile.read(path) == file
    moved = tmp_path / "elsewhere"
    shutil.move(file.root, moved)
    assert SpecFile.read(moved / "specs" / path.name).root == moved


@pytest.mark.parametrize(
    "change",
    [{"schema_version": SCHEMA_VERSION + 1}, {"id": "../out"}, {"spec": {}}, {"threads": 0}, {"what": 1}],
)
def test_a_spec_file_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = spec_file(tmp_path, "skips")
    path.write_text(json.dumps({**read_json(path), **change}))
    with pytest.raises(StoreError, match=str(path)):
        SpecFile.read(path)
    assert run_spec_file(path) == REFUSED and not (path.parent.parent / "logs").exists()


# Events -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(pauses=st.lists(st.floats(min_value=0, max_value=0.5), min_size=1, max_size=60))
def test_progress_is_told_seldom_and_its_end_always(
    tmp_path_factory: pytest.TempPathFactory, pauses: list[float]
) -> None:
    path, now = tmp_path_factory.mktemp("events") / "one.jsonl", [0.0]
    with (
        EventWriter(path) as events,
        EventReporter(events, StopFlag(), lambda: now[0]).stage("it") as advance,
    ):
        for done, pause in enumerate(pauses, start=1):
            now[0] += pause
            advance(done, len(pauses))
    told = [event["done"] for event in events_of(path) if event["kind"] == "progress"]
    assert told == sorted(set(told)) and told[-1] == len(pauses)
    assert len(told) <= sum(pauses) / PROGRESS_EVERY + 2


def test_a_stage_stops_where_it_is_asked_to(tmp_path: Path) -> None:
    stop = StopFlag()
    with EventWriter(tmp_path / "one.jsonl") as events:
        reporter = EventReporter(events, stop)
        with pytest.raises(Stopped), reporter.stage("it") as advance:
            advance(1, 3)
            stop.set()
            advance(2, 3)
        with pytest.raises(Stopped), reporter.stage("next"):
            pytest.fail("a stage was begun")
    assert [event["kind"] for event in events_of(tmp_path / "one.jsonl")].count("stage") == 1


def test_of_two_writers_one_is_heard_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "one.jsonl"
    with EventWriter(path) as second, EventWriter(path) as first:
        assert second.owns and not first.owns
        first.start("cpu")
        second.start("cpu")
        first.write("say", line="unheard")
        second.write("say", line="heard")
        assert [event.get("line") for event in events_of(path)] == [None, "heard"] and is_held(path)
        second.__exit__(None, None, None)
        first.write("say", line="at last")
        assert [event.get("line") for event in events_of(path)] == [None, "at last"]
    assert not is_held(path)


# The command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [True, False])
def test_the_command_gives_the_exit_code_and_shows_what_is_logged(
    tmp_path: Path, quiet: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    path = spec_file(tmp_path, "fails")
    with pytest.raises(typer.Exit) as left:
        cell(path, quiet=quiet)
    assert left.value.exit_code == FAILED
    assert ("the sky fell" in capfd.readouterr().err) != quiet
    assert "the sky fell" in SpecFile.read(path).log.read_text()
