"""Keeping thumbnails only: results stay as they are, and pictures come back where they are needed."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.attack_tools import small_judge
from tests.runner_tools import Recorder, stranger_world
from tests.tiny import save_tiny_pipeline
from zbench.config import RunConfig
from zbench.errors import StoreError
from zbench.report.run_folder import read_record
from zbench.runner import RunResult, run
from zbench.runner.events import EventWriter
from zbench.runner.launchers.settings import Launch
from zbench.runner.thinning import thin_grid, thin_places, thinnable
from zbench.stages.picture_files import is_thinned
from zbench.stages.samples import Sample, SamplesView, write_samples
from zbench.stages.thumbnails import SIDE, fitted, shown_picture, thin
from zbench.store import Store, read_json

HEIGHT, WIDTH = 160, 192
INLINE = Launch(launcher="inline")
THUMBNAILS = Launch(launcher="inline", keep="thumbnails")
SAME = ("table.csv", "table.md", "contact_sheet.png")


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_judge):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose pictures are cheap for their size: each latent is 8 pixels wide."""
    return save_tiny_pipeline(
        tmp_path_factory.mktemp("model") / "pipeline", dim=24, layers=2, text_width=24, vae_levels=4, steps=1
    )


@pytest.fixture(scope="module")
def finished_once(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "runs"
    run_once(model, out)
    return out


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of a finished run folder with all pictures."""
    return Path(shutil.copytree(finished_once, tmp_path / "runs"))


def run_once(
    model: Path, out: Path, launch: Launch = INLINE, reporter: Recorder | None = None, **more: Any
) -> RunResult:
    fields: dict[str, Any] = {
        "methods": ("shift",), "concept": "nudity", "model": str(model), "out": out, "prompts": 1,
        "steps": 1, "height": HEIGHT, "width": WIDTH, "device": "cpu", "protocol": "tuning",
    }  # fmt: skip
    return run(RunConfig.create({**fields, **more}), launch=launch, reporter=reporter)  # type: ignore[arg-type]


def samples_in(root: Path) -> list[str]:
    return sorted(f"samples/{path.name}" for path in (root / "samples").iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def comparable(root: Path) -> dict[str, bytes]:
    """What must not depend on which pictures are kept."""
    cells = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("cells/*/*.parquet")}
    assert cells
    return {name: (root / name).read_bytes() for name in SAME} | cells


# One folder -----------------------------------------------------------------------------------------------


def test_pictures_become_small_ones_and_the_stage_stays_done(finished: Path) -> None:
    store = Store.open(finished)
    folder = store.stored(samples_in(finished)[0])
    before = content(folder.path)
    freed = thin(folder)
    after = content(folder.path)
    assert freed == sum(map(len, before.values())) - sum(map(len, after.values())) > 0
    assert after["manifest.json"] == before["manifest.json"]
    assert not [name for name in after if name.startswith("pictures/")]
    for name, data in before.items():
        if name.startswith("pictures/"):
            thumbnail = shown_picture(folder.path, int(Path(name).stem))
            with Image.open(thumbnail) as small:
                assert small.size == (SIDE, round(SIDE * HEIGHT / WIDTH))
            assert len(thumbnail.read_bytes()) < len(data)
    assert folder.is_complete() and is_thinned(folder.path)
    assert store.stored(samples_in(finished)[0]).config == folder.config
    assert thin(folder) == 0


def test_thumbnails_are_guarded_by_hash_as_pictures_are(finished: Path) -> None:
    lines = list[str]()
    folder = Store.open(finished, notify=lines.append).stored(samples_in(finished)[0])
    thin(folder)
    path = shown_picture(folder.path, 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not folder.is_complete()
    assert "was altered" in lines[-1]


def test_altered_pictures_are_not_made_thumbnails_of(finished: Path) -> None:
    folder = Store.open(finished).stored(samples_in(finished)[0])
    path = shown_picture(folder.path, 0)
    path.write_bytes(path.read_bytes() + b"x")
    assert thin(folder) == 0
    assert path.is_file() and not is_thinned(folder.path)


def test_whoever_looks_at_thinned_pictures_is_told(finished: Path) -> None:
    folder = Store.open(finished).stored(samples_in(finished)[0])
    thin(folder)
    with pytest.raises(StoreError, match="thumbnails"):
        SamplesView.load(folder.path)


def test_a_disk_without_room_costs_no_picture(finished: Path) -> None:
    store, place = Store.open(finished), samples_in(finished)[0]
    before = content(finished / place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (500, hard)
    )  # the system refuses longer files, as if it were full
    try:
        assert thin_places(store, [place]).folders == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(finished / place) == before
    assert "are kept" in store.messages[-1]
    assert not [path for path in (finished / "samples").iterdir() if path.name.startswith(".")]


@given(st.integers(1, 700), st.integers(1, 700))
def test_a_sheet_shows_the_same_of_a_thumbnail_as_of_its_picture(height: int, width: int) -> None:
    picture = Image.radial_gradient("L").resize((width, height))
    once = fitted(picture, SIDE)
    assert max(once.size) == SIDE
    assert fitted(once, SIDE).tobytes() == once.tobytes()


# A whole grid ---------------------------------------------------------------------------------------------


def test_a_grid_that_keeps_thumbnails_says_the_same(model: Path, finished_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "thin"
    run_once(model, out, THUMBNAILS)
    assert all(is_thinned(out / place) for place in samples_in(out))
    assert not list(out.glob("samples/*/pictures"))
    assert comparable(out) == comparable(finished_once)
    before, recorder = content(out), Recorder()
    run_once(model, out, THUMBNAILS, recorder)
    assert recorder.stages == []
    assert content(out) == before


def test_pictures_that_another_run_may_look_at_are_kept_for_now(finished: Path) -> None:
    store, result = Store.open(finished), read_record(finished).cells
    with EventWriter(finished / "logs" / "uce-s0-nudity-123.jsonl"):
        assert thin_grid(store, result).folders == 0
    assert "another run is at work here (uce-s0-nudity-123)" in store.messages[-1]
    assert thin_grid(store, result).folders == len(samples_in(finished))


def test_a_new_cell_gets_the_pictures_that_it_is_compared_with(
    model: Path, finished: Path, finished_once: Path
) -> None:
    cells = [path.name for path in (finished / "cells").iterdir()]
    store = Store.open(finished)
    places = thinnable(finished, (read_json(finished / "cells" / name / "result.json") for name in cells))
    assert sorted(places) == samples_in(finished)
    assert thin_places(store, places).folders == len(places)
    recorder = Recorder()
    run_once(model, finished, reporter=recorder, training_seeds=2)
    drawn = [stage for stage in recorder.stages if "original" in stage]
    assert drawn and all(stage.startswith("shift s1: original ") for stage in drawn)
    assert not [stage for stage in recorder.stages if stage.startswith("shift s0")]  # nobody looks at these
    assert any("Only thumbnails were kept of" in line for line in recorder.lines)
    again = [place for place in samples_in(finished) if not is_thinned(finished / place)]
    manifests = [
        finished_once / place / "manifest.json" for place in again if (finished_once / place).is_dir()
    ]
    assert len(manifests) == len(drawn)
    for manifest in manifests:  # the pictures are byte for byte what they were
        assert (finished / manifest.relative_to(finished_once)).read_bytes() == manifest.read_bytes()


@pytest.mark.parametrize(("height", "width", "small"), [(SIDE, SIDE, True), (SIDE, SIDE + 1, False)])
def test_small_pictures_are_kept_as_they_are(height: int, width: int, small: bool, tmp_path: Path) -> None:
    folder = Store.open(tmp_path).stage("samples", {"size": [height, width]})
    samples = [Sample(prompt_id="p", prompt="a cat", role="explicit", repetition=0, seed=1)]
    pictures = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    folder.write(lambda place: write_samples(place, pictures, samples))
    thin(folder)
    assert folder.is_complete()
    assert is_thinned(folder.path) is not small
    assert shown_picture(folder.path, 0).is_file()


def test_pictures_of_attacks_come_back_where_they_are_judged_again(model: Path, tmp_path: Path) -> None:
    out, attacked = tmp_path / "runs", {"attacks": ("typo",), "settings": {"typo": {"budget": 1}}}
    first = run_once(model, out, **attacked)
    assert thin_grid(Store.open(out), first.cells).folders == len(samples_in(out))
    before = comparable(out)
    for kind in ("attack_scores", "detections"):
        shutil.rmtree(out / kind)
    recorder = Recorder()
    run_once(model, out, reporter=recorder, **attacked)
    assert any(stage.endswith("typo: draw candidates") for stage in recorder.stages)
    assert comparable(out) == before
