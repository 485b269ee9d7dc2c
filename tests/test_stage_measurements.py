"""Measuring a few pictures at a time: the same values, less memory, and nothing measured twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.instruments import ColourDetector, described, drawn_pictures, tiny_clip
from zbench.detectors.base import Progress
from zbench.errors import OutOfMemoryError, StoreError
from zbench.metrics.collapse import NAMES
from zbench.metrics.features import FeatureCache, read_tensors, write_tensors
from zbench.protocols import load_protocol
from zbench.stages import samples as samples_module
from zbench.stages.measurements import Measurements
from zbench.stages.samples import SamplesView, write_samples
from zbench.stages.score import score
from zbench.stages.scorer import Scorer

SETTINGS = load_protocol("zbench").table("world", "nudity", "nsfw").model_copy(update={"reference": None})
COUNT = 150
"""Two whole chunks, and a rest."""


def scorer_with(detector: ColourDetector | None = None, **changes: Any) -> Scorer:
    values: dict[str, Any] = {
        "detectors": [detector or ColourDetector()],
        "clip": tiny_clip(),
        "source": None,
    }
    return Scorer(SETTINGS, "red", **{**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two roles on disk; do not write into it."""
    folder = tmp_path_factory.mktemp("pictures")
    samples = [*described(70, "explicit"), *described(COUNT - 70, "unrelated")]
    write_samples(folder, drawn_pictures(COUNT), samples)
    return folder


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that keep nothing of what they read, as those of large pictures."""
    monkeypatch.setattr(samples_module, "IN_MEMORY", 0)


def test_chunks_change_no_value(folder: Path, streamed: None) -> None:
    view, detector = SamplesView.load(folder), ColourDetector()
    seen: list[tuple[int, int]] = []
    found = scorer_with(detector).measure(view, lambda *at: seen.append(at))
    assert detector.calls == [64, 64, 22] and "pictures" not in vars(view)
    whole = scorer_with().measure(SamplesView(view.samples, drawn_pictures(COUNT)))
    assert np.array_equal(found.scores["colour"], whole.scores["colour"])
    assert torch.equal(found.clip_features, whole.clip_features)
    assert all(np.array_equal(found.signals[name], whole.signals[name]) for name in whole.signals)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (3 * COUNT, 3 * COUNT)


def test_figures_of_files_are_those_of_pictures_in_memory(folder: Path, streamed: None) -> None:
    view = SamplesView.load(folder)
    other = SamplesView(view.samples, drawn_pictures(COUNT).flip(-1))
    in_memory = SamplesView(view.samples, drawn_pictures(COUNT))
    assert score(view, other, scorer_with()) == score(in_memory, other, scorer_with())


def test_views_of_files_can_be_cut_and_joined_without_reading_any(folder: Path) -> None:
    view = SamplesView.load(folder)
    part = SamplesView.concat([view.select("unrelated"), view.take([3, 1])])
    assert len(part) == COUNT - 68 and part.size == (32, 32) and len(view.select("nothing").pictures) == 0
    assert part.samples[-1].prompt_id == "explicit-1" and "pictures" not in vars(view)
    assert torch.equal(part.read([-2, -1]), drawn_pictures(COUNT)[[3, 1]])
    mixed = SamplesView.concat([view.take([0]), SamplesView(view.samples[1:2], drawn_pictures(COUNT)[1:2])])
    assert torch.equal(mixed.pictures, drawn_pictures(COUNT)[:2])


def test_a_picture_altered_behind_the_view_is_not_read(tmp_path: Path) -> None:
    write_samples(tmp_path, drawn_pictures(3), described(3, "explicit"))
    view = SamplesView.load(tmp_path)
    (tmp_path / "pictures" / "0001.png").write_bytes((tmp_path / "pictures" / "0000.png").read_bytes())
    with pytest.raises(StoreError, match=r"0001\.png was altered"):
        view.read([0, 1])


def test_what_was_measured_is_measured_once_for_all_processes(folder: Path, tmp_path: Path) -> None:
    view, first, second = SamplesView.load(folder), ColourDetector(), ColourDetector()
    found = scorer_with(first, cache=FeatureCache(tmp_path)).measure(view)
    again = scorer_with(second, cache=FeatureCache(tmp_path)).measure(SamplesView.load(folder))
    assert first.calls and not second.calls
    assert np.array_equal(again.scores["colour"], found.scores["colour"])
    assert torch.equal(again.clip_features, found.clip_features)
    # Their order is that of the columns of a table, whose bytes must not tell who measured.
    assert list(again.signals) == list(found.signals) == list(NAMES)
    assert all(np.array_equal(again.signals[name], found.signals[name]) for name in NAMES)


def test_other_instruments_pictures_or_an_altered_byte_are_measured_again(
    folder: Path, tmp_path: Path
) -> None:
    view, first = SamplesView.load(folder), ColourDetector()
    found = scorer_with(first, cache=FeatureCache(tmp_path)).measure(view)
    newer = ColourDetector()
    newer.version = "2"
    for detector, seen in ((newer, view), (ColourDetector(), view.take(range(10)))):
        scorer_with(detector, cache=FeatureCache(tmp_path)).measure(seen)
        assert detector.calls
    other_clip = ColourDetector()
    scorer_with(other_clip, clip=tiny_clip(3), cache=FeatureCache(tmp_path)).measure(view)
    assert other_clip.calls
    for path in tmp_path.iterdir():
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    again = ColourDetector()
    fresh = scorer_with(again, cache=FeatureCache(tmp_path)).measure(view)
    assert again.calls and torch.equal(fresh.clip_features, found.clip_features)


def test_kept_tensors_say_when_they_are_not_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kept.safetensors"
    assert read_tensors(path) is None and Measurements.read(path) is None
    write_tensors(path, {"a": torch.arange(6.0).reshape(2, 3)})
    assert torch.equal((read_tensors(path) or {})["a"], torch.arange(6.0).reshape(2, 3))
    assert Measurements.read(path) is None
    path.write_bytes(path.read_bytes()[:-3])
    assert read_tensors(path) is None


class Narrow(ColourDetector):
    """Runs out of memory with more than so many pictures."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def scores(self, pictures: torch.Tensor, progress: Progress | None = None) -> NDArray[np.float32]:
        if len(pictures) > self.room:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
        return super().scores(pictures, progress)


def said(scorer: Scorer, view: SamplesView) -> Sequence[str]:
    lines: list[str] = []
    scorer.say = lines.append
    scorer.measure(view)
    return lines


def test_scoring_halves_its_batches_too(folder: Path) -> None:
    view, detector = SamplesView.load(folder), Narrow(20)
    scorer = scorer_with(detector)
    assert said(scorer, view) == [
        "Memory does not suffice for 64 pictures to be scored at once: 32 from now on.",
        "Memory does not suffice for 32 pictures to be scored at once: 16 from now on.",
    ]
    assert max(detector.calls) == 16 and sum(detector.calls) == COUNT
    whole = scorer_with().measure(view)
    assert np.array_equal(scorer.measure(view).scores["colour"], whole.scores["colour"])
    with pytest.raises(OutOfMemoryError, match="one of the pictures to be scored"):
        scorer_with(Narrow(0)).measure(view)
