"""Drawing to disk: killed at any moment, it goes on, and leaves the files of an undisturbed drawing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.drawing_tools import Order, address_space, contents, die, in_child, one_thread
from zbench.errors import OutOfMemoryError, StoreError
from zbench.stages import drawing, partial
from zbench.stages.inputs import ModelHandle
from zbench.stages.partial import JOURNAL, PartialSamples
from zbench.stages.samples import Sample, SamplesView, read_manifest
from zbench.store import PARTIAL, StageFolder, Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed in forked children")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def handle(tiny_pipeline_folder: Path) -> ModelHandle:
    handle = ModelHandle(str(tiny_pipeline_folder), "cpu", 48, 80)
    _ = handle.model
    return handle


@pytest.fixture(scope="module")
def undisturbed(
    handle: ModelHandle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], int]:
    """The files of a drawing that nothing disturbed, and how many calls of the transformer it took."""
    order = Order(handle, tmp_path_factory.mktemp("undisturbed"))
    calls = order.draw()
    return order.files(), calls


def partial_folder(order: Order) -> Path:
    return order.folder.path.parent / f"{PARTIAL}{order.folder.id}"


def killed_after(number: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= number:
            die()

    return progress


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6, 9, 10])
def test_a_killed_drawing_goes_on_at_the_next_batch(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path, number: int
) -> None:
    files, calls = undisturbed
    order = Order(handle, tmp_path)
    assert in_child(lambda: order.draw(progress=killed_after(number))) == -9
    assert not order.folder.is_complete()
    seen: list[int] = []
    again = order.draw(progress=lambda done, total: seen.append(done))
    assert order.files() == files and order.folder.is_complete()
    assert not partial_folder(order).exists()
    # The batch whose pictures were being written when the kill came may be drawn again; no other is.
    finished = sum(batch[-1] <= number for batch in _ends()) - 1
    assert again <= calls - max(finished, 0) * order.steps
    assert seen == sorted(seen) and (not seen or seen[-1] == len(order.samples))


def _ends() -> list[list[int]]:
    """Cumulative pictures after each batch of an undisturbed drawing."""
    return [[2], [4], [6], [8], [10]]


def test_a_kill_in_the_middle_of_a_file_leaves_nothing_that_is_taken_for_a_picture(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    order = Order(handle, tmp_path)
    whole = partial.write_picture

    def torn(path: Path, picture: torch.Tensor) -> str:
        if path.name == "0004.png":
            path.write_bytes(b"\x89PNG torn")
            die()
        return whole(path, picture)

    def work() -> None:
        partial.write_picture = torn
        order.draw()

    assert in_child(work) == -9
    torn_file = partial_folder(order) / "pictures" / "0004.png"
    assert torn_file.read_bytes() == b"\x89PNG torn"
    order.draw()
    assert order.files() == undisturbed[0]


def test_a_kill_between_the_manifest_and_the_end_repeats_nothing(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    order = Order(handle, tmp_path)

    def work() -> None:
        StageFolder._finish = die  # type: ignore[method-assign, assignment]
        order.draw()

    assert in_child(work) == -9
    assert not (partial_folder(order) / JOURNAL).exists()
    assert order.draw() == 0
    assert order.files() == undisturbed[0]


def test_an_altered_picture_and_a_torn_journal_are_noticed(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    order = Order(handle, tmp_path)
    assert in_child(lambda: order.draw(progress=killed_after(8))) == -9
    place = partial_folder(order)
    picture = sorted((place / "pictures").iterdir())[0]
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(data)
    with (place / JOURNAL).open("a") as file:
        file.write('{"index":7,"sha2')
    (place / ".writing-left").write_bytes(b"a killed process's own")
    assert order.draw() >= order.steps
    assert order.files() == undisturbed[0]


def test_partial_work_of_another_configuration_is_not_used(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    other = Order(handle, tmp_path, steps=1)
    assert in_child(lambda: other.draw(progress=killed_after(8))) == -9
    order = Order(handle, tmp_path)
    shutil.copytree(partial_folder(other), partial_folder(order))
    assert order.draw() == undisturbed[1]
    assert order.files() == undisturbed[0]


def test_stopping_keeps_what_is_drawn(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    order = Order(handle, tmp_path)
    with pytest.raises(Stopped):
        order.draw(progress=stop)
    with pytest.raises(Stopped):
        order.draw(progress=stop)
    known = PartialSamples(partial_folder(order), order.folder.config, order.samples).known
    assert len(known) == 4
    assert order.draw() == undisturbed[1] - 2 * order.steps
    assert order.files() == undisturbed[0]


def test_a_file_that_cannot_be_written_is_the_disks_fault_and_loses_nothing(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    order = Order(handle, tmp_path)
    assert in_child(lambda: order.draw(progress=killed_after(5))) == -9
    before = len((partial_folder(order) / JOURNAL).read_text().splitlines())

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # smaller than a picture
        with pytest.raises(StoreError, match="File too large"):
            order.draw()

    assert before > 1 and in_child(work) == 0
    assert not order.folder.is_complete()
    assert order.draw() < undisturbed[1]
    assert order.files() == undisturbed[0]


# Memory -----------------------------------------------------------------------------------------------------


@pytest.fixture
def short_of_memory(handle: ModelHandle) -> Iterator[list[int]]:
    """A device on which more than two pictures do not fit: it says so in the middle of a forward pass."""
    sizes: list[int] = []

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        batch = len(args[0] if args else kwargs["x"])
        sizes.append(batch)
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    layer = handle.model.transformer.layers[1]
    removed = layer.register_forward_pre_hook(hook, with_kwargs=True)
    drawing._fitting.clear()
    yield sizes
    removed.remove()
    drawing._fitting.clear()


def test_the_batch_halves_until_it_fits_and_stays_so(
    handle: ModelHandle, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path, short_of_memory: list[int]
) -> None:
    order = Order(handle, tmp_path)
    order.draw(batch_size=8)
    assert order.files() == undisturbed[0], "the same as with two at once from the start"
    assert max(short_of_memory) == 8 and short_of_memory.count(8) == 1
    assert [line for line in order.lines if "Memory" in line] == [
        "Memory does not suffice for 8 pictures at once: 4 from now on.",
        "Memory does not suffice for 4 pictures at once: 2 from now on.",
    ]
    short_of_memory.clear()
    Order(handle, tmp_path, steps=1).draw(batch_size=8)
    assert max(short_of_memory) == 2, "the next drawing does not find out anew"


def test_where_not_even_one_fits_the_drawing_fails_and_says_what_to_do(
    handle: ModelHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(handle.model.pipeline.vae, "decode", fail)
    order = Order(handle, tmp_path)
    with pytest.raises(OutOfMemoryError, match="one of the pictures at a time: choose smaller pictures"):
        order.draw(batch_size=4)
    drawing._fitting.clear()


@pytest.mark.skipif(sys.platform != "linux", reason="limits a real address space")
def test_a_real_limit_of_memory_is_survived(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    handle = ModelHandle(str(tiny_pipeline_folder), "cpu", 224, 224)
    order = Order(handle, tmp_path, repetitions=4, steps=1)
    handle.model.generate(["a"], [0], steps=1)  # what the first call loads is not what is limited

    def work() -> None:
        with address_space(48 << 20):
            order.draw(batch_size=16)
        assert any("Memory does not suffice for" in line for line in order.lines)

    assert in_child(work) == 0
    assert order.folder.is_complete()
    pictures = SamplesView.load(order.folder.path).pictures
    seeds = [sample.seed for sample in order.samples]
    alone = handle.model.generate([s.prompt for s in order.samples], seeds, steps=1, batch_size=1)
    assert int((pictures.int() - alone.int()).abs().max()) <= 1


class _Blank:
    """Stands for a large model: what it draws takes memory, and no time."""

    def __init__(self, side: int) -> None:
        self.spec = type("Spec", (), {"height": side, "width": side})()
        self.side = side

    def encode(self, prompts: list[str]) -> list[torch.Tensor]:
        return [torch.zeros(1, 1)] * len(prompts)

    def batches(self, embeddings: list[torch.Tensor], batch_size: int) -> Iterator[list[int]]:
        for start in range(0, len(embeddings), batch_size):
            yield list(range(start, min(start + batch_size, len(embeddings))))

    def draw(self, embeddings: list[torch.Tensor], seeds: list[int], steps: int) -> torch.Tensor:
        return torch.full((len(seeds), 3, self.side, self.side), seeds[0] % 256, dtype=torch.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="limits a real address space")
def test_many_large_pictures_are_never_all_in_memory(tmp_path: Path) -> None:
    """500 pictures of 512 pixels are 390 MB; drawing and reading them takes a fraction of that."""
    side, count = 512, 500
    samples = [Sample(prompt_id=str(i), prompt="", role="any", repetition=0, seed=i) for i in range(count)]
    folder = Store.open(tmp_path).stage("samples", {"erasure": "original"})
    blank: Any = type("Handle", (), {"model": _Blank(side)})()
    torch.zeros(4, 3, side, side).sum()

    def work() -> None:
        from contextlib import nullcontext

        with address_space(200 << 20):
            painter = drawing.Painter(blank, lambda rows: blank.model.encode(rows), nullcontext(), 1, 16)
            painter.fill(folder, samples)
            view = SamplesView.load(folder.path)
            for start in range(0, count, 64):
                rows = range(start, min(start + 64, count))
                assert view.read(rows)[:, 0, 0, 0].tolist() == [row // 16 * 16 % 256 for row in rows]
            with pytest.raises(MemoryError):
                _ = view.pictures

    assert in_child(work) == 0
    manifest = read_manifest(folder.path)
    assert len(manifest.samples) == count and manifest.size == (side, side)
    assert set(contents(folder.path)) >= {"manifest.json", "done.json", "pictures/0499.png"}
    assert json.loads((folder.path / "done.json").read_text())["config"] == {"erasure": "original"}
