"""What the system does to cells: too little memory, a full disk, a crash, a hang, a flood, a lost device.

The cell fails, or works with less; every other cell goes on, and the reason stands in the result.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.grid import World, left_behind, products, reason_of, run_noted, statuses
from zbench.errors import ZbenchError
from zbench.runner.launchers.settings import Launch

MEBIBYTE = 1 << 20
LIMIT = 30.0
"""Seconds: many times what a cell takes, and what the test of a hanging one takes."""

BAD = ("crashes", "killed", "greedy", "hangs", "fade")


@pytest.fixture(scope="module")
def failed(world: World) -> tuple[Path, dict[str, str]]:
    """A grid of methods that go wrong, with one that does not at its end, and how its cells stand."""
    launch = Launch(devices=("cpu",), time_limit=LIMIT)
    result, _ = run_noted(world.grid(world.folder / "bad", BAD, launch))
    return result.root, statuses(result)


def test_a_cell_that_goes_wrong_takes_no_other_with_it(failed: tuple[Path, dict[str, str]]) -> None:
    root, found = failed
    wrong = {f"{name} s0": "failed" for name in BAD if name != "fade"}
    assert found == {"original": "done", "fade s0": "done", **wrong}
    assert (root / "table.csv").is_file()
    assert left_behind(root) == []


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("crashes s0", "SIGSEGV"),
        ("crashes s0", "in before"),
        ("killed s0", "SIGKILL"),
        ("greedy s0", "allocate memory"),
        ("hangs s0", f"{LIMIT:g} s, its time limit"),
    ],
)
def test_the_reason_is_in_the_result(failed: tuple[Path, dict[str, str]], label: str, words: str) -> None:
    assert words in reason_of(failed[0], label)


def test_where_it_crashed_or_hung_is_in_its_log(failed: tuple[Path, dict[str, str]]) -> None:
    for name in ("crashes", "hangs"):
        [log] = failed[0].glob(f"logs/{name}-*.log")
        assert "methods.py" in log.read_text(), name


def test_what_failed_is_tried_again_and_nothing_else(
    world: World, failed: tuple[Path, dict[str, str]]
) -> None:
    _, notes = run_noted(world.grid(failed[0], ("killed", "fade")))
    assert notes.stages == ["killed s0: erase"]


def test_a_flood_loses_its_middle(world: World, undisturbed: Undisturbed, tmp_path: Path) -> None:
    limit = 64 * 1024
    launch = Launch(devices=("cpu",), log_limit=limit)
    result, _ = run_noted(world.grid(tmp_path / "runs", ("floods",), launch))
    assert statuses(result) == {"original": "done", "floods s0": "done"}
    [log] = result.root.glob("logs/floods-*.log")
    text = log.read_text(errors="replace")
    assert log.stat().st_size <= limit
    assert "the beginning of the flood" in text and "bytes left out" in text and "printed by C" in text
    assert "floods s0: score: done" in text


def test_a_batch_too_large_is_halved_and_the_pictures_are_the_same(world: World, tmp_path: Path) -> None:
    """An address space with room for few pictures at once: a real limit, set after the training."""
    more = {"prompts": 8, "height": 256, "width": 256, "steps": 1, "batch_size": 8}
    plenty, _ = run_noted(world.grid(tmp_path / "plenty", ("tight",), **more))
    launch, drawn = Launch(devices=("cpu",), time_limit=3 * LIMIT), products(plenty.root)
    for room in (400, 300, 250, 200, 150, 100):
        settings, root = {"tight": {"room": room * MEBIBYTE}}, tmp_path / f"{room}"
        result, notes = run_noted(world.grid(root, ("tight",), launch, settings=settings, **more))
        assert statuses(result)["original"] == "done"
        if any("Memory does not suffice for" in line for line in notes.lines):
            break
    else:
        pytest.fail("the limit was never felt")
    pictures = {name: digest for name, digest in products(root).items() if name.endswith(".png")}
    assert len(pictures) > sum("samples" in name for name in _of_original(plenty.root)), notes.lines
    # Halved batches draw the same up to rounding; on the CPU of one machine that is none.
    assert pictures.items() <= drawn.items()


def _of_original(root: Path) -> list[str]:
    """Pictures that both cells use."""
    shared = [
        path.parent
        for path in root.glob("samples/*/manifest.json")
        if '"erasure": "original"' in path.read_text()
    ]
    return [str(path) for folder in shared for path in folder.glob("pictures/*.png")]


# A disk that is full --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for little."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(
    world: World, undisturbed: Undisturbed, small_disk: Path
) -> None:
    root, ballast = small_disk / "runs", small_disk / "ballast"
    ballast.write_bytes(bytes(440 * 1024))
    with pytest.raises(ZbenchError, match="No space left on device") as caught:
        run_noted(world.grid(root))
    assert "\n" not in str(caught.value)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    result, _ = run_noted(world.grid(root))
    assert set(statuses(result).values()) == {"done"}
    assert products(root) == undisturbed.products
    assert left_behind(root) == []


# A device that goes away ----------------------------------------------------------------------------------


def test_cells_of_a_device_that_disappeared_go_to_another(world: World, tmp_path: Path) -> None:
    """No machine of the tests has an `xpu`: for a cell's process it is a device that is gone.

    Threads are divided between two devices, which shows in the last bits: so are those of what it is held to.
    """
    expected, _ = run_noted(world.grid(tmp_path / "expected", launch=Launch(workers=2)))
    result, notes = run_noted(world.grid(tmp_path / "runs", launch=Launch(devices=("xpu", "cpu"))))
    assert set(statuses(result).values()) == {"done"}
    assert any("xpu is not used any more" in line for line in notes.lines)
    assert products(result.root) == products(expected.root)


def test_without_any_device_left_the_run_ends_and_says_what_to_do(world: World, tmp_path: Path) -> None:
    result, notes = run_noted(world.grid(tmp_path / "runs", launch=Launch(devices=("xpu",))))
    assert statuses(result) == {"original": "failed", "fade s0": "waiting"}
    assert "no device is left" in reason_of(result.root, "original") and notes.how == ["died"]
    again, _ = run_noted(world.grid(result.root))
    assert set(statuses(again).values()) == {"done"}
