"""What a grid has left to do, how long that takes, and how a run folder stands."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grid_tools import FakeRun
from tests.runner_tools import recorded_run, small_instruments, stranger_world
from zbench.cli.planning_view import grid_lines, outlook_lines, show_plan
from zbench.cli.status import status_lines
from zbench.errors import StoreError
from zbench.locks import hold
from zbench.metrics.robustness import AttackRecord
from zbench.runner.events import EventWriter
from zbench.runner.grid import Grid
from zbench.runner.identity import Identities
from zbench.runner.launchers.base import Job
from zbench.runner.launchers.spec_file import SpecFile
from zbench.runner.outlook.cell_plans import CellPlan, Survey
from zbench.runner.outlook.planned import PLANNED, note_planned, read_planned
from zbench.runner.outlook.status import read_status
from zbench.runner.outlook.survey import device_kind, survey
from zbench.runner.planning import plan
from zbench.runner.specs import AttackSpec, CellSpec
from zbench.runner.summary import SUMMARY, Summary, read_summaries, read_summary
from zbench.runner.workshop import Workshop
from zbench.store import DONE, PARTIAL, Store, atomic_write_json, identity

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where hundreds of synced files cost nothing."""

ROLES = 9
"""Sets of prompts that nudity is measured on in the picture world."""


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_instruments):
        yield


def grid_of(out: Path, **more: Any) -> Grid:
    fields = {"methods": ("shift", "picky"), "concepts": ("nudity", "cat"), "prompts": 2, "device": "cpu"}
    return Grid.create({**fields, "out": out, **more})


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(grid_of(tmp_path / "runs"))


def states(found: Survey) -> list[str]:
    return [cell.state for cell in found.cells]


def stage_states(cell: CellPlan) -> dict[str, str]:
    return {stage.name: stage.state for stage in cell.stages}


# What is left ---------------------------------------------------------------------------------------------


def test_of_a_new_grid_everything_is_to_do_and_nothing_is_written(tmp_path: Path) -> None:
    found = survey(grid_of(tmp_path / "runs"))
    assert states(found) == ["to do", "to do", "skipped"] * 2
    assert found.cells[2].reason == "only erases styles"
    original, shift = (stage_states(cell) for cell in found.cells[:2])
    assert set(original.values()) == {"to do"} and len(original) == ROLES + 1
    assert [name for name, state in shift.items() if state == "shared"] == [
        name.replace("pictures", "original") for name in original if name != "score"
    ]
    assert found.measured == 0 and found.unknown["erase by shift"] == 2
    assert list(tmp_path.iterdir()) == []


def test_concepts_share_the_pictures_that_no_concept_is_asked_for_in(tmp_path: Path) -> None:
    cat = next(cell for cell in survey(grid_of(tmp_path / "runs")).cells if cell.spec.concept == "cat")
    shared = [name for name, state in stage_states(cat).items() if state == "shared"]
    assert shared == [f"pictures {role}" for role in ("binding", "counting", "places", "unrelated")]


def test_cells_and_stages_that_are_there_are_done(fake: FakeRun) -> None:
    original, shift, picky, *_ = fake.specs
    fake.do(original)
    fake.finish(original)
    fake.do(shift, 2)
    fake.finish(picky, "skipped", error="only erases styles")
    found = survey(fake.grid)
    assert states(found)[:3] == ["done", "to do", "skipped"]
    by_name = stage_states(found.cells[1])
    assert [name for name, state in by_name.items() if state == "done"][:2] == ["erase", "pictures explicit"]
    assert [stage.name for stage in found.cells[1].left] == [
        *(name for name in by_name if name.startswith("pictures ") and name != "pictures explicit"),
        "score",
    ]
    fake.do(shift)
    assert [stage.name for stage in survey(fake.grid).cells[1].left] == []


def test_a_part_that_was_drawn_is_said_to_be_begun(fake: FakeRun) -> None:
    _, folder = next(fake.folders(fake.specs[0]))
    (folder.path.parent / f"{PARTIAL}{folder.id}").mkdir(parents=True)
    assert stage_states(survey(fake.grid).cells[0])["pictures explicit"] == "begun"


def test_what_failed_before_is_to_do_again_with_the_reason(fake: FakeRun) -> None:
    fake.finish(fake.specs[1], "failed", error="Traceback\nRuntimeError: the sky fell")
    cell = survey(fake.grid).cells[1]
    assert (cell.state, cell.reason) == ("to do", "failed before: RuntimeError: the sky fell")


def test_a_method_that_cannot_be_used_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no way')")
    found = survey(grid_of(tmp_path / "runs", methods=("bad",), plugins=(tmp_path / "bad.py",)))
    assert found.cells[1].state == "broken" and "no way" in found.cells[1].reason


def test_an_altered_completion_record_is_work_to_do_and_no_crash(fake: FakeRun) -> None:
    fake.do(fake.specs[1])
    _, erasure = next(fake.folders(fake.specs[1]))
    (erasure.path / DONE).write_text("{}")
    cell = survey(fake.grid).cells[1]
    assert stage_states(cell)["pictures explicit"] == "to do" and cell.state == "to do"


@settings(max_examples=8, deadline=None)
@given(done=st.lists(st.integers(0, 12), min_size=4, max_size=4), finished=st.sets(st.integers(0, 1)))
def test_no_work_is_counted_twice_and_none_is_forgotten(done: list[int], finished: set[int]) -> None:
    """Whatever earlier runs did: what is said to be left is what is then really done, each stage once."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        fake = FakeRun(grid_of(Path(folder) / "runs", methods=("shift",)))
        for spec, count in zip(fake.specs, done, strict=True):
            fake.do(spec, count)
        for number in sorted(finished):
            fake.do(fake.specs[number])
            fake.finish(fake.specs[number])
        found = survey(fake.grid)
        for cell, spec in zip(found.cells, fake.specs, strict=True):
            assert sorted(stage.name for stage in cell.left) == sorted(fake.do(spec))
        assert {found.cells[number].state for number in finished} <= {"done"}


# Attacks --------------------------------------------------------------------------------------------------


def record(attack: AttackSpec, status: str) -> AttackRecord:
    return AttackRecord(attack=attack.name, label=attack.label, knowledge="text", status=status, reason="x")


def test_attacks_that_failed_are_tried_again_and_those_made_before_are_done(tmp_path: Path) -> None:
    more: dict[str, Any] = {"methods": ("original",), "concepts": ("nudity",), "attack_prompts": 1}
    fake = FakeRun(grid_of(tmp_path / "runs", **more, attacks=("affix", "typo")))
    spec = fake.specs[0]
    fake.do(spec)
    affix, typo = spec.attacks
    fake.finish(spec, attacks=(record(affix, "done"), record(typo, "failed")))
    cell = survey(fake.grid).cells[0]
    assert cell.reason == "failed before: typo"
    assert [stage.name for stage in cell.left] == ["attack typo"]
    wider = grid_of(tmp_path / "runs", **more, attacks=("synonym", "affix", "typo"))
    left = [stage.name for stage in survey(wider).cells[0].left]
    assert left == ["attack synonym", "attack typo"]


# How long -------------------------------------------------------------------------------------------------


def test_times_come_from_equal_work_and_what_nobody_did_is_unknown(tmp_path: Path) -> None:
    fake = FakeRun(grid_of(tmp_path / "runs", concepts=("nudity",), training_seeds=2))
    original, shift = fake.specs[:2]
    for spec in (original, shift):
        fake.do(spec)
    fake.finish(original, seconds={"pictures explicit": 4.0, "score": 18.0})
    found = survey(fake.grid)
    assert found.unknown == {"erase by shift": 1}
    fake.finish(shift, seconds={"erase": 30.0, "pictures explicit": 8.0, "score": 18.0})
    cell = survey(fake.grid).cells[2]
    expected = {stage.name: stage.seconds for stage in cell.left}
    # Twelve seconds were spent on four pictures: two prompts of each of the sets of the next seed.
    assert expected == {"erase": 30.0, "score": 18.0} | {
        name: 6.0 for name in stage_states(cell) if name.startswith("pictures ")
    }
    assert cell.seconds == 48.0 + ROLES * 6.0 == survey(fake.grid).estimates[cell.id]
    twice = survey(grid_of(tmp_path / "runs", concepts=("nudity",), prompts=4, training_seeds=2)).cells[1]
    assert {stage.name: stage.seconds for stage in twice.left}["pictures explicit"] == 12.0
    other = survey(grid_of(tmp_path / "runs", concepts=("nudity",), settings={"shift": {"size": 1.0}}))
    assert other.unknown == {"erase by shift": 1}


def test_times_of_another_kind_of_device_are_not_used(tmp_path: Path) -> None:
    fake = FakeRun(grid_of(tmp_path / "runs", concepts=("nudity",)))
    fake.finish(fake.specs[0], seconds={"score": 3.0})
    assert survey(fake.grid).measured == 1
    cuda = grid_of(tmp_path / "runs", concepts=("nudity",), launch={"devices": (0, 1)})
    assert device_kind(cuda.launch, "cpu") == "cuda" and survey(cuda).measured == 0


# Names ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    concepts=st.lists(st.sampled_from(["nudity", "cat", "car"]), min_size=1, max_size=3, unique=True),
    prompts=st.sampled_from([None, 1, 3]),
    attacks=st.sampled_from([(), ("affix",), ("affix", "scale")]),
    size=st.sampled_from([{}, {"height": 96, "width": 64}]),
    seeds=st.integers(1, 2),
)
def test_names_from_parts_are_those_of_the_whole(
    concepts: list[str], prompts: int | None, attacks: tuple[str, ...], size: dict[str, int], seeds: int
) -> None:
    """A cell's name is the hash of its stored configuration, whichever cells were named before it."""
    more: dict[str, Any] = {"prompts": prompts, "attacks": attacks, "training_seeds": seeds, **size}
    grid = grid_of(Path("runs"), concepts=tuple(concepts), methods=("shift",), **more)
    specs, store = [spec for run in grid.runs for spec in plan(run)], Store(Path("runs").absolute())
    warm = Workshop().identities
    for spec in [*specs, *reversed(specs)]:
        folder = warm.folder(spec, store)
        assert folder == Identities(Workshop().model).folder(spec, store)
        assert folder.id == identity(folder.id.rpartition("-")[0], folder.config)
        assert folder.path == store.root / "cells" / folder.id
    assert len({warm.folder(spec, store).id for spec in specs}) == len(specs)


# Summaries ------------------------------------------------------------------------------------------------


def test_a_summary_is_small_says_what_the_result_says_and_is_read_from_old_results_too(
    fake: FakeRun,
) -> None:
    spec = fake.specs[1]
    summary = fake.finish(spec, "failed", error="Traceback\nRuntimeError: the sky fell")
    folder = fake.identities.folder(spec, fake.store).path
    assert (folder / SUMMARY).stat().st_size < 1000
    assert read_summary(folder) == summary
    assert (summary.reason, summary.label, summary.concept) == (
        "RuntimeError: the sky fell",
        "shift s0",
        "nudity",
    )
    result = fake.result(spec, "failed", error="Traceback\nRuntimeError: the sky fell")
    (folder / SUMMARY).unlink()
    assert read_summary(folder) is None
    atomic_write_json(folder / "result.json", result.model_dump(mode="json"))
    assert read_summary(folder) == summary == Summary.of(result)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', "null", '"text"'])
def test_a_summary_that_cannot_be_read_makes_the_cell_one_to_do(fake: FakeRun, content: str) -> None:
    fake.finish(fake.specs[0])
    folder = fake.identities.folder(fake.specs[0], fake.store).path
    (folder / SUMMARY).write_text(content)
    assert read_summary(folder) is None and survey(fake.grid).cells[0].state == "to do"


def test_a_summary_of_a_newer_zbench_is_refused(fake: FakeRun) -> None:
    fake.finish(fake.specs[0])
    folder = fake.identities.folder(fake.specs[0], fake.store).path
    (folder / SUMMARY).write_text('{"schema_version": 99}')
    with pytest.raises(StoreError, match=r"schema version 99.*upgrade"):
        survey(fake.grid)
    assert read_summaries(fake.store.root / "nowhere") == {}


def test_a_plan_for_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"not written by zbench.*another --out"):
        survey(grid_of(tmp_path / "photos"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".writing-left-by-a-kill").touch()
    assert states(survey(grid_of(tmp_path / "empty")))[0] == "to do"


# What is printed ------------------------------------------------------------------------------------------


def test_the_plan_says_what_is_left_why_not_and_how_long(
    fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.do(fake.specs[0])
    fake.finish(fake.specs[0], seconds={"pictures explicit": 4.0, "score": 18.0})
    fake.finish(fake.specs[1], "failed", error="RuntimeError: the sky fell")
    found = survey(fake.grid)
    text = "\n".join([*grid_lines(fake.grid, found), *outlook_lines(found, fake.grid.launch)])
    assert "Concept nudity, model miniature" in text and "And so for 1 more: cat" in text
    assert "- original\n- shift s0: size=0.5" in text
    assert "6 cells: 1 done, 3 to do, 2 skipped" in text
    assert "- nudity: picky s0: only erases styles" in text
    assert "- nudity: shift s0: erase, pictures of 9 sets, score (failed before: RuntimeError" in text
    assert "by the times of 1 earlier cell; not counted" in text and "erase by shift (2 stages)" in text
    show_plan(fake.grid, as_json=True)
    plain = json.loads(capsys.readouterr().out)
    assert plain["counts"] == {"done": 1, "to do": 3, "skipped": 2, "broken": 0}
    assert [CellSpec.model_validate(cell["spec"]) for cell in plain["cells"]] == fake.specs


def test_planning_and_status_import_neither_networks_nor_tables(fake: FakeRun) -> None:
    fake.finish(fake.specs[0])
    code = (
        "import sys; from pathlib import Path; from zbench.cli.planning_view import show_plan;"
        "from zbench.cli.status import status; from zbench.runner.grid import Grid;"
        f"out = Path({str(fake.store.root)!r}); status(out);"
        "print('@', sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)));"
        "show_plan(Grid.create({'methods': 'uce', 'concept': 'cat', 'out': out}));"
        "print('@', sorted({'torch', 'pandas', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("@ []") == 2


# A run folder while others work in it ---------------------------------------------------------------------


def job_of(fake: FakeRun, number: int) -> Job:
    spec = fake.specs[number]
    return Job(fake.identities.name(spec), spec.label, spec)


def launched(fake: FakeRun, number: int) -> Job:
    job = job_of(fake, number)
    SpecFile.of(job, fake.store.root, 1 << 20).write()
    return job


def test_status_tells_what_runs_what_died_and_what_waits(fake: FakeRun) -> None:
    fake.finish(fake.specs[0])
    fake.finish(fake.specs[3], "failed", error="Traceback\nRuntimeError: the sky fell")
    root = fake.store.root
    running, died, waiting = (launched(fake, number) for number in (1, 2, 4))
    with EventWriter(died.events(root)) as events:
        events.start("cpu")
        events.write("stage", label="picky s0: erase")
    with EventWriter(running.events(root)) as events:
        events.start("cuda:1")
        events.write("stage", label="shift s0: erase")
        events.write("progress", done=3, total=60)
        events.write("memory", bytes=13_500_000_000, of="device")
        found = read_status(root)
        text = "\n".join(status_lines(found))
    assert f"{root}: 5 cells: 1 done, 1 failed, 1 running, 1 died, 1 waiting" in text
    assert "Running:\n- nudity: shift s0: erase, 3/60, cuda:1, 13.5 GB of device memory, process" in text
    assert "Died without a result:\n- nudity: picky s0: in erase" in text
    assert "Failed:\n- cat: original: RuntimeError: the sky fell (cells/" in text
    assert text.index("Failed:") < text.index("Running:")
    assert found.launched[waiting.id].phase == "waiting"
    note_planned(fake.store, [waiting, *(job_of(fake, number) for number in (0, 5))])
    assert [each.label for each in read_status(root).phase("waiting")] == ["picky s0", "shift s0"]
    assert read_status(root).launched[running.id].phase == "died"


def test_status_names_work_of_processes_that_tell_nothing(fake: FakeRun) -> None:
    _, folder = next(fake.folders(fake.specs[0]))
    with hold(folder.lock_path), fake.store.lock():
        found = read_status(fake.store.root)
    assert list(found.elsewhere) == [f"samples-{folder.id}"]
    assert "Also being done:\n- samples-pictures-" in "\n".join(status_lines(found))
    assert read_status(fake.store.root).stages == {}


def test_status_of_an_empty_a_foreign_and_a_missing_folder(tmp_path: Path) -> None:
    Store.open(tmp_path / "runs")
    assert list(status_lines(read_status(tmp_path / "runs"))) == [f"{tmp_path / 'runs'}: 0 cells"]
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="not a run folder"):
            read_status(place)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"schema_version": 1, "cells": 3}', '{"schema_version": 9}']
)
def test_what_was_planned_is_no_more_than_a_note(fake: FakeRun, content: str) -> None:
    note_planned(fake.store, [])
    assert not (fake.store.root / PLANNED).exists()
    (fake.store.root / PLANNED).write_text(content)
    assert read_status(fake.store.root).launched == {}
    note_planned(fake.store, [job_of(fake, 1)])
    fake.finish(fake.specs[1])
    note_planned(fake.store, [job_of(fake, 4)])
    assert list(read_planned(fake.store.root).values()) == [("shift s0", "cat")]


# A real run -----------------------------------------------------------------------------------------------


def test_after_a_real_run_the_grid_is_done_and_its_times_are_known(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    more: dict[str, Any] = {
        "methods": ("shift", "picky", "breaks"), "concepts": ("nudity",), "model": str(tiny_pipeline_folder),
        "prompts": 1, "steps": 1, "height": 48, "width": 80,
    }  # fmt: skip
    grid = grid_of(tmp_path / "runs", **more)
    before = survey(grid)
    result, recorder = recorded_run(grid.runs[0])
    assert len(recorder.stages) == sum(len(cell.left) for cell in before.cells) - ROLES - 1  # `breaks` broke
    after = survey(grid)
    assert [cell.id for cell in after.cells] == [cell.id for cell in result.cells]
    assert states(after) == ["done", "done", "skipped", "to do"]
    assert after.cells[3].reason == "failed before: RuntimeError: the sky fell"
    summaries = read_summaries(grid.out / "cells")
    assert summaries == {cell.id: Summary.of(cell) for cell in result.cells}
    more["training_seeds"] = 2
    added = survey(grid_of(tmp_path / "runs", **more)).cells[2]
    assert added.state == "to do" and added.seconds is not None and added.seconds > 0
    assert not [stage for stage in added.left if stage.name.startswith("original ")]
