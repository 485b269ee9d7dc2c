"""The display of a grid: what is counted, what is shown, and what is said at the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from zbench.runner.display.board import LINE_EVERY, PlainBoard
from zbench.runner.display.board_live import LiveBoard
from zbench.runner.display.closing import CellEnd, closing_lines, resume_command
from zbench.runner.display.durations import shown_bytes, shown_seconds
from zbench.runner.display.opening import open_board
from zbench.runner.display.tally import SHOWN_LINES, Outlook, Tally
from zbench.runner.launchers.base import Board, Ended, How, Job
from zbench.runner.specs import CellSpec
from zbench.runner.summary import SUMMARY, Summary
from zbench.store import atomic_write_json


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def job(method: str = "uce", seed: int = 0) -> Job:
    spec = CellSpec(
        method=method, concept="nudity", model="miniature", protocol="zbench", repetitions=1, steps=4,
        hyperparameters={} if method == "original" else {"training_seed": seed},
    )  # fmt: skip
    return Job(f"{method}-s{seed}-123", spec.label, spec)


def write_summary(
    root: Path, job: Job, status: Literal["done", "skipped", "failed"], reason: str = ""
) -> None:
    folder = root / "cells" / job.id
    folder.mkdir(parents=True)
    summary = Summary(
        id=job.id, label=job.label, method=job.spec.method, concept="nudity", model="miniature",
        status=status, reason=reason,
    )  # fmt: skip
    atomic_write_json(folder / SUMMARY, summary.model_dump(mode="json"))


def stage(label: str, at: float = 0.0) -> dict[str, Any]:
    return {"kind": "stage", "label": label, "at": at}


def progress(done: int, total: int, at: float = 0.0) -> dict[str, Any]:
    return {"kind": "progress", "done": done, "total": total, "at": at}


# Counting -------------------------------------------------------------------------------------------------


def test_cells_are_counted_by_how_they_end() -> None:
    jobs = [job(seed=seed) for seed in range(4)]
    tally = Tally(Outlook(jobs, before=3), Clock())
    for each, outcome in zip(jobs, ("done", "failed", "skipped", "stopped"), strict=True):
        tally.started(each, "cpu")
        tally.ended(each, outcome)
    assert (tally.finished, tally.outlook.cells) == (6, 7)
    assert [tally.count(name) for name in ("done", "failed", "skipped", "stopped")] == [1, 1, 1, 1]
    assert tally.running == []


def test_time_left_is_unknown_until_a_cell_or_an_earlier_run_tells() -> None:
    clock, jobs = Clock(), [job(seed=seed) for seed in range(4)]
    tally = Tally(Outlook(jobs), clock)
    tally.started(jobs[0], "0")
    tally.started(jobs[1], "1")
    assert tally.left is None
    clock.now += 100
    tally.ended(jobs[0], "done")
    # One has run for 100 s already, two of 100 s are waiting, and two run at a time.
    assert tally.left == pytest.approx(100.0)
    foreseen = Tally(Outlook(jobs, estimates={each.id: 30.0 for each in jobs}), clock)
    assert foreseen.left == pytest.approx(120.0)
    assert Tally(Outlook([*jobs, job("ac")], estimates={each.id: 30.0 for each in jobs})).left is None


def test_the_unerased_model_tells_nothing_of_methods() -> None:
    clock, jobs = Clock(), [job("original"), job()]
    tally = Tally(Outlook(jobs), clock)
    tally.started(jobs[0], "cpu")
    clock.now += 10
    tally.ended(jobs[0], "done")
    assert tally.left is None


def test_a_cell_is_not_done_before_its_stage_is() -> None:
    clock = Clock()
    tally = Tally(Outlook([job()], estimates={job().id: 5.0}), clock)
    tally.started(job(), "cpu")
    tally.event(job(), stage("uce s0: erase"))
    clock.now += 10
    tally.event(job(), progress(1, 100, at=10.0))
    assert tally.left == pytest.approx(990.0)


def test_what_this_run_measures_outdoes_what_was_foreseen() -> None:
    clock, jobs = Clock(), [job(seed=0), job(seed=1), job("ac")]
    tally = Tally(Outlook(jobs, estimates={each.id: 1000.0 for each in jobs}), clock)
    tally.started(jobs[0], "cpu")
    clock.now += 10
    tally.ended(jobs[0], "done")
    assert tally.left == pytest.approx(10.0 + 1000.0)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=6), st.integers(1, 4))
def test_time_left_is_never_less_than_the_longest_cell_and_never_grows_with_more_devices(
    expected: list[float], at_once: int
) -> None:
    jobs = [job(seed=seed) for seed in range(len(expected))]
    estimates = {each.id: seconds for each, seconds in zip(jobs, expected, strict=True)}

    def left(running: int) -> float:
        tally = Tally(Outlook(jobs, estimates=estimates), Clock())
        for each in jobs[:running]:
            tally.started(each, "cpu")
        assert tally.left is not None
        return tally.left

    assert max(expected) <= left(at_once) <= left(1) <= sum(expected) * (1 + 1e-9)


def test_a_cell_that_lost_its_device_begins_anew() -> None:
    clock = Clock()
    tally, one = Tally(Outlook([job()]), clock), job()
    tally.started(one, "cuda:0")
    tally.event(one, stage("uce s0: erase"))
    clock.now += 5
    tally.started(one, "cuda:1")
    (running,) = tally.running
    assert (running.device, running.stage, running.since) == ("cuda:1", "", clock.now)


# Lines ----------------------------------------------------------------------------------------------------


def plain(root: Path, outlook: Outlook) -> tuple[PlainBoard, list[str], Clock]:
    lines, clock = list[str](), Clock()
    return PlainBoard(root, outlook, lines.append, clock), lines, clock


def test_without_a_terminal_there_are_few_lines_and_they_say_how_cells_end(tmp_path: Path) -> None:
    jobs = [job(), job("ac"), job("esd_u"), job("safree")]
    board, lines, clock = plain(tmp_path, Outlook(jobs, before=2))
    for each in jobs:
        board.started(each, "cpu")
    for done in range(5000):  # a cell that tells much
        board.event(jobs[0], progress(done, 5000))
    clock.now += 72
    write_summary(tmp_path, jobs[0], "done")
    write_summary(tmp_path, jobs[1], "failed", "RuntimeError: the sky fell")
    write_summary(tmp_path, jobs[3], "skipped", "only erases styles")
    board.ended(Ended(jobs[0], "finished"))
    board.ended(Ended(jobs[1], "finished"))
    board.ended(Ended(jobs[2], "died", "last lines of its log\nSIGSEGV: a library crashed"))
    board.ended(Ended(jobs[3], "finished"))
    logs = tmp_path / "logs"
    assert lines[4:] == [
        "[3/6] uce s0: done after 1 min 12 s",
        f"[4/6] ac s0: failed after 1 min 12 s: RuntimeError: the sky fell (log: {logs / 'ac-s0-123.log'})",
        "[5/6] esd_u s0: failed after 1 min 12 s: SIGSEGV: a library crashed"
        f" (log: {logs / 'esd_u-s0-123.log'})",
        "[6/6] safree s0: skipped after 1 min 12 s: only erases styles",
    ]


def test_a_log_is_named_once(tmp_path: Path) -> None:
    board, lines, _ = plain(tmp_path, Outlook([job()]))
    log = job().log(tmp_path)
    reason = f"killed by SIGSEGV; its log is {log}"
    board.ended(Ended(job(), "died", reason))
    (failed, *_) = closing_lines([CellEnd("uce s0", "failed", reason, log)], 1.0, "zbench run")[1:]
    assert [line.count(str(log)) for line in (lines[-1], failed)] == [1, 1]


def test_every_minute_a_line_says_how_far_the_grid_is(tmp_path: Path) -> None:
    jobs = [job(seed=seed) for seed in range(6)]
    board, lines, clock = plain(tmp_path, Outlook(jobs, before=4, estimates={jobs[0].id: 1.0}))
    for each in jobs:
        board.started(each, "cpu")
    board.event(jobs[0], stage("uce s0: erase", at=0.0))
    clock.now += LINE_EVERY
    board.event(jobs[0], progress(20, 100, at=60.0))
    board.event(jobs[0], progress(21, 100, at=61.0))
    assert lines[6:] == [
        "4 of 10 cells (4 from before), time left unknown; uce s0 erase 20/100; uce s1 starting;"
        " uce s2 starting; uce s3 starting; and 2 more"
    ]


def test_a_cell_that_says_too_much_is_cut_short(tmp_path: Path) -> None:
    board, lines, _ = plain(tmp_path, Outlook([job()]))
    board.started(job(), "cpu")
    for number in range(10 * SHOWN_LINES):
        board.event(job(), {"kind": "say", "line": f"uce s0: line {number}"})
    assert len(lines) == 1 + SHOWN_LINES
    assert lines[1] == "uce s0: line 0"
    assert lines[-1].endswith("(more is in its log)")


@pytest.mark.parametrize("how", ["stopped", "refused", "timed out"])
def test_other_ends_are_told_as_what_they_are(tmp_path: Path, how: How) -> None:
    board, lines, _ = plain(tmp_path, Outlook([job()]))
    board.started(job(), "cpu")
    board.ended(Ended(job(), how, "why"))
    assert ("failed" if how == "timed out" else how) in lines[-1]
    assert "why" in lines[-1]
    assert lines[-1].startswith("[1/1]" if how == "timed out" else "[0/1]")


def test_a_cell_that_stopped_needs_no_reason(tmp_path: Path) -> None:
    board, lines, _ = plain(tmp_path, Outlook([job()]))
    board.ended(Ended(job(), "stopped"))
    assert lines == ["[0/1] uce s0: stopped after 0.0 s"]


def test_a_pipe_gets_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_board(tmp_path, Outlook([job()])) as board:
        assert isinstance(board, PlainBoard)
        board.started(job(), "cpu")
    assert capsys.readouterr().err == "uce s0: starts on cpu\n"


# The live display -----------------------------------------------------------------------------------------


def live(root: Path, outlook: Outlook, height: int = 20) -> tuple[LiveBoard, Console, Clock]:
    console = Console(file=io.StringIO(), width=110, height=height, force_terminal=True, color_system=None)
    clock = Clock()
    return LiveBoard(root, outlook, console, clock), console, clock


def shown(board: LiveBoard, console: Console) -> str:
    with console.capture() as capture:
        console.print(board.render())
    return capture.get()


def test_the_display_has_a_row_for_each_cell_at_work(tmp_path: Path) -> None:
    jobs = [job("original"), job("[red]odd"), job("ac")]
    board, console, clock = live(tmp_path, Outlook(jobs, before=5))
    board.started(jobs[0], "cuda:0")
    board.started(jobs[1], "cuda:1")
    board.event(jobs[1], stage("[red]odd s0: erase", at=10.0))
    board.event(jobs[1], progress(250, 1000, at=40.0))
    board.event(jobs[1], progress(500, 1000, at=70.0))
    board.event(jobs[1], {"kind": "memory", "of": "host", "bytes": 2_000_000_000})
    board.event(jobs[1], {"kind": "memory", "of": "device", "bytes": 13_500_000_000})
    clock.now += 10
    head, _, first, second = shown(board, console).splitlines()
    assert "5 of 8 cells (5 from before)" in head and "time left unknown" in head
    assert first.split() == ["original", "starting", "cuda:0"]
    assert "[red]odd s0" in second and "500/1000" in second
    assert "50 s" in second and "cuda:1" in second and "13.5 GB" in second  # 60 s left, told 10 s ago


def test_a_small_screen_shows_as_many_cells_as_fit(tmp_path: Path) -> None:
    jobs = [job(seed=seed) for seed in range(30)]
    board, console, _ = live(tmp_path, Outlook(jobs), height=15)
    for each in jobs:
        board.started(each, "cpu")
    text = shown(board, console)
    assert len(text.splitlines()) <= 15
    assert "and 20 more at work" in text


def test_finished_cells_become_lines_above_the_display(tmp_path: Path) -> None:
    board, console, clock = live(tmp_path, Outlook([job()]))
    with board:
        board.started(job(), "cpu")
        board.say("Two workers share [2] cores.")
        clock.now += 5
        write_summary(tmp_path, job(), "failed", "ValueError: [bold]bad")
        board.ended(Ended(job(), "finished"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Two workers share [2] cores." in text
    assert "[1/1] uce s0: failed after 5.0 s: ValueError: [bold]bad" in text
    assert text.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in text  # the cursor is back


def test_both_are_boards(tmp_path: Path) -> None:
    boards: list[Board] = [PlainBoard(tmp_path, Outlook([])), live(tmp_path, Outlook([]))[0]]
    assert len(boards) == 2


# The end --------------------------------------------------------------------------------------------------


def test_failures_come_first_with_their_logs_and_the_command_to_go_on() -> None:
    ends = [
        CellEnd("original", "done", before=True),
        CellEnd("zerase s0", "done", ran=4, found=3, attacks=[("p4d", "AttackError: no")]),
        CellEnd("uce s0", "failed", "RuntimeError: the sky fell", Path("runs/logs/uce.log")),
        CellEnd("safree s0", "skipped", "only erases styles"),
        CellEnd("ac s0", "stopped", log=Path("runs/logs/ac.log")),
        CellEnd("ac s1", "waiting"),
    ]
    assert closing_lines(ends, 4800.0, resume_command(["run", "my run.toml"])) == [
        "1 of 6 cells failed:",
        "  uce s0: RuntimeError: the sky fell\n    log: runs/logs/uce.log",
        "1 attack failed, of cells that are done:",
        "  p4d on zerase s0: AttackError: no",
        "1 cell stopped before the end; what is finished of them is kept:",
        "  ac s0",
        "1 cell not started",
        "To go on: zbench run 'my run.toml'",
        "1 cell skipped:",
        "  safree s0: only erases styles",
        "2 cells done (1 of them before) in 1 h 20 min: 4 stages run, 3 found done",
    ]


def test_a_grid_that_is_done_says_one_line() -> None:
    ends = [CellEnd(f"uce s{seed}", "done", before=True) for seed in range(3)]
    assert closing_lines(ends, 2.0, "zbench run") == ["3 cells done (3 of them before) in 2.0 s"]


def test_a_grid_that_failed_as_a_whole_is_told_in_a_screenful() -> None:
    ends = [CellEnd(f"uce s{seed}", "failed", "no disk") for seed in range(10_000)]
    lines = closing_lines(ends, 2.0, "zbench run")
    assert len(lines) < 30
    assert lines[0] == "10000 of 10000 cells failed:"
    assert "  and 9980 more" in lines


# Amounts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min"), (61, "1 min 1 s"),
        (3599, "59 min 59 s"), (3599.6, "1 h"), (4800, "1 h 20 min"), (90_000, "1 d 1 h"), (86_399, "1 d"),
    ],
)  # fmt: skip
def test_times_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_960, "100 kB"), (13_500_000_000, "13.5 GB")],
)
def test_sizes_are_shown_in_one_unit(count: int, text: str) -> None:
    assert shown_bytes(count) == text
