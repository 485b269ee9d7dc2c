"""`zbench clean`: what nobody needs goes, what anybody may need stays."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.attack_tools import small_judge
from tests.runner_tools import recorded_run, stranger_world
from tests.tiny import save_smallest_pipeline
from zbench.cli.clean import clean
from zbench.config import RunConfig
from zbench.errors import StoreError
from zbench.locks import is_held
from zbench.report.run_folder import read_record
from zbench.runner.cleaning import Contents, Waste, bytes_in, find_waste, lock_of, remove
from zbench.runner.events import EventWriter
from zbench.stages.rescore import rescore
from zbench.store import PARTIAL, Store, _temporary_file

PATIENCE = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_smallest_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_judge):
        yield


def run_once(model: Path, out: Path, **more: Any) -> list[str]:
    """Runs, and returns the stages that were done."""
    fields: dict[str, Any] = {
        "methods": ("shift", "picky"), "concept": "nudity", "model": str(model), "out": out, "prompts": 1,
        "steps": 1, "training_seeds": 2, "device": "cpu", "protocol": "tuning",
    }  # fmt: skip
    return recorded_run(RunConfig.create({**fields, **more}))[1].stages


@pytest.fixture(scope="module")
def finished_once(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with `original`, two cells of `shift`, and two that are skipped; do not write into it."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    run_once(model, out)
    return out


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_once, tmp_path / "runs"))


def waste_in(root: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in find_waste(Store.open(root)):
        found.setdefault(each.kind, set()).add(each.path.relative_to(root).as_posix())
    return found


def cell(root: Path, label: str) -> Path:
    return next((root / "cells").glob(f"{label}-*"))


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def in_child(work: Callable[[], None]) -> int:
    """Does something in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def killed(work: Callable[[], None]) -> None:
    """Does something in a process that is killed, by itself, in the middle of it."""
    _, status = os.waitpid(in_child(work), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def kill_self(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def writing(root: Path, config: dict[str, Any]) -> Iterator[Path]:
    """Another process that is writing a stage for as long as the block lasts; yields where."""
    folder = Store.open(root).stage("scores", config)
    go_on, end = os.pipe()

    def fill(place: Path) -> None:
        (place / "half.txt").write_text("half")
        os.close(end)
        os.read(go_on, 1)

    child = in_child(lambda: folder.write(fill))
    until = time.monotonic() + PATIENCE
    while not list(folder.path.parent.glob(".writing-*/half.txt")):
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield folder.path
    finally:
        os.close(end)
        os.close(go_on)
        os.waitpid(child, 0)


# What is found --------------------------------------------------------------------------------------------


def test_nothing_of_a_finished_run_is_waste(
    finished: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert waste_in(finished) == {}
    before = names(finished)
    clean(finished, yes=True, unfinished=True, reports=True, thumbnails=True)
    assert "Removed 0 B." in capsys.readouterr().out
    assert names(finished) == before
    assert run_once(model, finished) == []


def test_nothing_of_an_attacked_and_rescored_run_is_waste(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    attacked = {"attacks": ("typo",), "settings": {"typo": {"budget": 1}}}
    run_once(model, out, methods=(), **attacked)
    rescore(out, cell(out, "original").name, "colour", 0.3)
    assert {path.name for path in out.iterdir() if path.is_dir()} >= {
        "detections",
        "rescores",
        "attack_scores",
    }
    assert waste_in(out) == {}
    shutil.rmtree(cell(out, "original"))
    run_once(model, out, methods=(), prompts=2)
    kinds = {place.split("/")[0] for place in waste_in(out)["unused"]}
    assert kinds == {"samples", "scores", "attacks", "attack_scores", "detections", "rescores"}


@pytest.mark.parametrize(
    ("lost", "unused"),
    [("original", ["scores"]), ("shift-s0", ["erasures", "scores", "samples"]), ("picky-s1", [])],
)
def test_stages_of_a_lost_cell_are_unused_but_for_what_others_share(
    finished: Path, model: Path, lost: str, unused: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cell(finished, lost)
    own = Contents(finished).results[folder.name]["stages"]
    shutil.rmtree(folder)
    expected = {
        place for name, place in own.items() if place.split("/")[0] in unused and "original" not in name
    }
    assert waste_in(finished).get("unused", set()) == expected
    clean(finished, yes=True)
    assert waste_in(finished) == {}
    assert not any((finished / place).exists() for place in expected)
    stages = run_once(model, finished)  # what the other cells need is all there
    label = lost.replace("-", " ")
    assert {stage.split(":")[0] for stage in stages} <= {label}
    assert bool(stages) == bool(expected)


def test_a_folder_without_results_is_no_grid(finished: Path) -> None:
    shutil.rmtree(finished / "cells")
    assert "unused" not in waste_in(finished)


def test_a_link_out_of_the_folder_is_not_followed(finished: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text("precious")
    (finished / "samples" / "link").symlink_to(elsewhere)
    clean(finished, yes=True, unfinished=True)
    assert (elsewhere / "precious.txt").is_file()


def test_a_damaged_result_counts_as_unfinished(finished: Path) -> None:
    (cell(finished, "shift-s0") / "result.json").write_text("{")
    assert Contents(finished).unfinished == [cell(finished, "shift-s0").name]


# What killed and living processes leave ---------------------------------------------------------------------


def test_what_killed_processes_left_half_written_is_removed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(finished)
    store = Store.open(finished)
    killed(lambda: store.stage("scores", {"of": "killed"}).write(kill_self))
    killed(lambda: (_temporary_file(finished / "reports"), kill_self())[1])
    found = waste_in(finished)["half-written"]
    assert {Path(place).parent.name for place in found} == {"scores", "reports"}
    clean(finished)
    assert "Nothing was removed" in capsys.readouterr().out
    assert waste_in(finished)["half-written"] == found
    clean(finished, yes=True)
    assert waste_in(finished) == {}
    assert {name for name in names(finished) if not name.startswith(".locks/")} == before


def test_nothing_of_a_living_process_is_touched(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(cell(finished, "shift-s0"))
    unused = waste_in(finished)["unused"]
    with writing(finished, {"of": "living"}) as path:
        assert is_held(lock_of(path))
        assert "half-written" not in waste_in(finished)
        before = names(finished)
        clean(finished, yes=True, unfinished=True, thumbnails=True)
        assert names(finished) == before
        assert "a process is at work here" in capsys.readouterr().out
    assert path.is_dir() and (path / "half.txt").is_file()
    clean(finished, yes=True)
    assert not any((finished / place).exists() for place in unused)


def test_what_a_process_took_hold_of_meanwhile_stays(finished: Path) -> None:
    shutil.rmtree(cell(finished, "shift-s0"))
    store = Store.open(finished)
    found = [each for each in find_waste(store) if each.kind == "unused"]
    with writing(finished, {"of": "living"}) as path:
        taken = Waste("unused", path, 0)
        path.mkdir()
        gone = remove(store, [*found, taken])
    assert gone == found
    assert path.is_dir()


def test_work_that_can_be_gone_on_with_is_kept_for_unfinished_cells(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(place: Path) -> None:
        (place / "part.txt").write_text("part")
        kill_self()

    killed(lambda: Store.open(finished).stage("samples", {"of": "stopped"}).resume(stop))
    (finished / "specs").mkdir()
    (finished / "specs" / "uce-s0-nudity-123.json").write_text("{}")
    (broken_off,) = waste_in(finished)["broken off"]
    assert Path(broken_off).name.startswith(PARTIAL)
    clean(finished, yes=True)
    assert "kept for 1 unfinished cell" in capsys.readouterr().out
    assert (finished / broken_off / "part.txt").is_file()
    clean(finished, yes=True, unfinished=True)
    assert waste_in(finished) == {}
    assert not (finished / broken_off).exists()


# Failures, logs, reports ----------------------------------------------------------------------------------


def test_failed_cells_go_and_their_work_stays_for_the_next_try(model: Path, finished: Path) -> None:
    methods = ("shift", "picky", "breaks")
    run_once(model, finished, methods=methods, training_seeds=1)
    failed = cell(finished, "breaks-s0")
    (finished / "logs").mkdir()
    (finished / "logs" / f"{failed.name}.log").write_text("why it failed")
    shutil.rmtree(cell(finished, "shift-s1"))  # leaves stages that could be those of the failed cell
    found = waste_in(finished)
    assert found["failed"] == {f"cells/{failed.name}"}
    assert found["unused"] and found["begun"] == {f"logs/{failed.name}.log"} and "logs" not in found
    clean(finished, yes=True)
    assert not failed.exists()
    assert all((finished / place).exists() for place in found["unused"] | found["begun"])
    assert run_once(model, finished, methods=methods, training_seeds=1) == ["breaks s0: erase"]


def test_logs_of_finished_cells_go_unless_they_are_written(finished: Path) -> None:
    done, at_work = cell(finished, "shift-s0").name, cell(finished, "shift-s1").name
    for folder, name in (
        ("logs", f"{done}.log"), ("logs", f"{done}.4711.log"), ("logs", f"{done}.jsonl"),
        ("logs", f"{at_work}.log"), ("logs", "uce-s0-nudity-123.log"), ("logs", "notes.txt"),
        ("specs", f"{done}.json"), ("specs", f"{at_work}.json"),
    ):  # fmt: skip
        (finished / folder).mkdir(exist_ok=True)
        (finished / folder / name).write_text("x")
    with EventWriter(finished / "logs" / f"{at_work}.jsonl"):
        clean(finished, yes=True)
    left = {path.name for name in ("logs", "specs") for path in (finished / name).iterdir()}
    assert left == {
        "uce-s0-nudity-123.log", "notes.txt",
        f"{at_work}.log", f"{at_work}.jsonl", f"{at_work}.json",
    }  # fmt: skip


def test_reports_of_other_runs_go_on_request_only(model: Path, finished: Path) -> None:
    run_once(model, finished, training_seeds=1)
    (old,) = waste_in(finished)["reports"]
    clean(finished, yes=True)
    assert (finished / old).is_dir()
    clean(finished, yes=True, reports=True)
    assert not (finished / old).exists()
    assert read_record(finished).table


# The command ----------------------------------------------------------------------------------------------


def test_sizes_are_shown_and_long_lists_are_cut(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(cell(finished, "shift-s0"))
    shutil.rmtree(cell(finished, "shift-s1"))
    found = find_waste(Store.open(finished))
    assert len(found) > 5
    assert sum(each.bytes for each in found) == sum(bytes_in(each.path) for each in found) > 10_000
    clean(finished)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(finished)
    assert printed[1].startswith(f"stages that no result refers to: {len(found)}, ")
    assert f"  and {len(found) - 5} more" in printed
    assert printed[-1].startswith("Nothing was removed: --yes removes ")


@pytest.mark.parametrize("yes", [False, True])
def test_only_run_folders_are_cleaned(tmp_path: Path, yes: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not a run folder"):
        clean(tmp_path, yes=yes)
    with pytest.raises(StoreError, match="not a run folder"):
        clean(tmp_path / "missing", yes=yes)
    assert names(tmp_path) == {"thesis.tex"}
