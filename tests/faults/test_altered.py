"""Run folders that are not as they were left: an altered byte, a newer schema, another place, read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.grid import World, left_behind, products, run_noted, statuses
from zbench.errors import StoreError, ZbenchError
from zbench.report.run_folder import read_record
from zbench.report.table import render_csv


@pytest.fixture
def copied(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """A copy of a finished run folder, at another place: moving one changes nothing."""
    return Path(shutil.copytree(undisturbed.root, tmp_path / "moved" / "here"))


def _flip(path: Path) -> None:
    """Alters one bit in the middle, and leaves size and times as they were."""
    status, content = os.stat(path), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("victim", "again"),
    [
        ("samples/*/pictures/0001.png", "pictures"),
        ("samples/*/manifest.json", "pictures"),
        ("erasures/*/edit/*.safetensors", "erase"),
        ("scores/*/pictures.parquet", "score"),
        ("scores/*/figures.json", "score"),
    ],
)
def test_an_altered_byte_is_found_and_that_stage_done_again(
    world: World, undisturbed: Undisturbed, copied: Path, victim: str, again: str
) -> None:
    path = sorted(copied.glob(victim))[0]
    _flip(path)
    result, notes = run_noted(world.grid(copied))
    assert set(statuses(result).values()) == {"done"}
    assert len(notes.stages) == 1 and again in notes.stages[0]
    assert any(str(path) in line and "done again" in line for line in notes.lines)
    assert products(copied) == undisturbed.products
    assert left_behind(copied) == []


@pytest.mark.parametrize("name", ["samples.parquet", "result.json", "summary.json"])
def test_an_altered_result_is_written_again_from_its_stages(
    world: World, undisturbed: Undisturbed, copied: Path, name: str
) -> None:
    path = sorted(copied.glob(f"cells/*/{name}"))[0]
    _flip(path)
    _, notes = run_noted(world.grid(copied))
    assert notes.stages == []
    assert any(str(path) in line for line in notes.lines)
    assert products(copied) == undisturbed.products


def test_a_moved_folder_is_a_finished_one(world: World, undisturbed: Undisturbed, copied: Path) -> None:
    result, notes = run_noted(world.grid(copied))
    assert notes.stages == [] and notes.ends == []
    assert [end.before for end in result.ends] == [True, True]
    assert products(copied) == undisturbed.products


@pytest.mark.parametrize("name", ["zbench.json", "samples/*/done.json", "cells/*/done.json"])
def test_what_a_newer_zbench_wrote_is_refused_and_kept(world: World, copied: Path, name: str) -> None:
    path = sorted(copied.glob(name))[0]
    newer = json.dumps(json.loads(path.read_text()) | {"schema_version": 99})
    path.write_text(newer)
    with pytest.raises(ZbenchError, match="schema version 99") as caught:
        run_noted(world.grid(copied))
    assert "\n" not in str(caught.value)
    assert path.read_text() == newer


@pytest.fixture
def read_only(copied: Path) -> Iterator[Path]:
    """The folder on a file system that nobody can write to, not even root."""
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        command = ["mount", *options, str(copied), str(copied)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"nothing can be mounted read-only here: {mounted.stderr.strip()}")
    yield copied
    subprocess.run(["umount", str(copied)], check=True)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(
    world: World, undisturbed: Undisturbed, read_only: Path
) -> None:
    with pytest.raises(StoreError, match=r"Cannot write to .* choose another folder with --out") as caught:
        run_noted(world.grid(read_only))
    assert "\n" not in str(caught.value)
    assert products(read_only) == undisturbed.products
    record = read_record(read_only)
    assert render_csv(record.table) == (read_only / "table.csv").read_text(), "it can be read all the same"


def test_a_foreign_configuration_under_a_known_name_is_never_taken(world: World, copied: Path) -> None:
    path = sorted(copied.glob("erasures/*/done.json"))[0]
    record = json.loads(path.read_text())
    record["config"]["method"] = "another"
    path.write_text(json.dumps(record))
    with pytest.raises((StoreError, ZbenchError), match="different configuration"):
        run_noted(world.grid(copied))
