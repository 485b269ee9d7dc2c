"""Logs of limited size, whatever is printed; their keeper outlives whom it listens to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.launch_tools import wait_until
from zbench.locks import is_held
from zbench.runner.launchers.logs import BoundedLog, captured, last_lines

LIMIT = 4096
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


@settings(max_examples=150, deadline=None)
@given(sizes=st.lists(st.integers(min_value=0, max_value=3 * LIMIT), max_size=12))
def test_beginning_and_end_are_kept_and_the_rest_is_counted(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    said = b""
    with path.open("w+b") as file:
        log = BoundedLog(file.fileno(), LIMIT)
        for number, size in enumerate(sizes):
            piece = bytes((number + place) % 251 for place in range(size))
            said += piece
            log.write(piece)
    kept = path.read_bytes()
    assert len(kept) <= LIMIT
    if len(said) <= LIMIT:
        assert kept == said and log.dropped == 0
        return
    head, notice, tail = kept[: LIMIT // 2], log._notice(), kept[LIMIT // 2 + len(log._notice()) :]
    assert kept == head + notice + tail
    assert said.startswith(head) and said.endswith(tail) and len(tail) >= LIMIT // 8
    assert len(head) + len(tail) + log.dropped == len(said)


def test_what_a_process_and_its_libraries_print_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "one.log"
    with captured(log, LIMIT):
        print("from Python")
        os.write(2, b"from below\n")
        subprocess.run([sys.executable, "-c", "print('from a child', bool(input() if 0 else 1))"], check=True)
        assert os.read(0, 1) == b"", "standard input is not empty"
    assert set(log.read_text().splitlines()) == {"from Python", "from below", "from a child True"}
    with captured(log, LIMIT):
        print("anew")
    assert last_lines(log) == ["anew"] and not is_held(log)


def test_the_last_words_of_a_process_that_is_killed_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    pid = os.fork()
    if pid == 0:
        with captured(log, LIMIT):
            os.write(1, b"first\n" + b"." * 20000 + b"\nlast\n")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert last_lines(log)[-1] == "last" and log.stat().st_size <= LIMIT
    assert wait_until(lambda: not is_held(log)), "the keeper of the log lives on"


def test_a_log_that_cannot_be_written_costs_the_process_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    with captured(tmp_path / "logs" / "one.log", LIMIT):
        for _ in range(100):
            os.write(1, b"x" * 10000)  # more than a pipe holds
    assert last_lines(tmp_path / "logs" / "one.log") == []
