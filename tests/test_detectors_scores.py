"""Detectors: the contract, the world networks from file to scores, NudeNet behind a stand-in of its
package."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.instruments import ColourDetector, drawn_pictures
from zbench.detectors.networks import NETWORKS
from zbench.detectors.nudenet import LABELS, STRICT, NudeNet, load_nudenet
from zbench.detectors.world import WorldDetector
from zbench.errors import ConfigurationError, MissingExtraError, WeightsError
from zbench.store import sha256_file

FAMILIES = {"nsfw": ["nudity", "violence"], "entity": ["fish", "house", "car"]}
CLASSES = [name for names in FAMILIES.values() for name in names]


def save_detector(path: Path, kind: str, **header: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[kind](FAMILIES).half()
    metadata = {
        "architecture": kind,
        "families": json.dumps(FAMILIES),
        "classes": json.dumps(CLASSES),
        "version": "3",
        **header,
    }
    save_file(network.state_dict(), path, metadata={key: value for key, value in metadata.items() if value})
    return network.float().eval()


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_world_scores_are_the_sigmoid_of_the_network(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "detector.safetensors"
    network = save_detector(path, kind)
    detector = WorldDetector("world", path)
    pictures = drawn_pictures(70)
    seen: list[tuple[int, int]] = []
    scores = detector.scores(pictures, lambda done, total: seen.append((done, total)))
    with torch.no_grad():
        expected = torch.sigmoid(network(pictures.float() / 127.5 - 1)).numpy()
    assert scores.dtype == np.float32 and scores.shape == (70, len(CLASSES))
    assert scores == pytest.approx(expected, abs=1e-5)
    assert scores[65:66] == pytest.approx(detector.scores(pictures[65:66]), abs=1e-5)
    assert seen == [(64, 70), (70, 70)]
    assert detector.scores(pictures[:0]).shape == (0, len(CLASSES))


def test_world_header_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    save_detector(path, "residual")
    detector = WorldDetector("world_second", path, threshold=0.7)
    assert detector.describe() == {
        "name": "world_second",
        "version": "3",
        "file_sha256": sha256_file(path),
        "threshold": 0.7,
        "classes": CLASSES,
    }
    assert detector.columns("fish") == (2,) and detector.rivals("fish") == (2, 3, 4)
    assert detector.columns("submarine") == () == detector.rivals("submarine")


def test_reading_a_world_detector_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    save_detector(path, "convolutional")
    code = (
        "import sys; from pathlib import Path; from zbench.detectors.world import WorldDetector;"
        f"WorldDetector('world', Path({str(path)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_unusable_weights_are_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    with pytest.raises(WeightsError, match=r"are missing.*zbench miniature train"):
        WorldDetector("world", path)
    save_detector(path, "convolutional")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="truncated or altered"):
        WorldDetector("world", path)
    save_detector(path, "convolutional", families="")
    with pytest.raises(WeightsError, match="lacks families"):
        WorldDetector("world", path)
    save_detector(path, "convolutional", architecture="residual")
    with pytest.raises(WeightsError, match="does not fit"):
        WorldDetector("world", path).scores(drawn_pictures(1))
    save_file(load_file_without_last(path), path, metadata=_metadata(path))
    with pytest.raises(WeightsError, match="does not fit"):
        WorldDetector("world", path).scores(drawn_pictures(1))


def load_file_without_last(path: Path) -> dict[str, torch.Tensor]:
    save_detector(path, "convolutional")
    state = load_file(path)
    state.pop(sorted(state)[-1])
    return state


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata())


def test_thresholds_and_reading() -> None:
    detector = ColourDetector()
    scores = np.array([[0.2, 0.9], [0.5, 0.1]], dtype=np.float32)
    assert detector.read(scores, "red").tolist() == pytest.approx([0.2, 0.5])
    assert detector.found(scores, "red").tolist() == [False, True]  # a score at the threshold counts
    with pytest.raises(ConfigurationError, match="no class for the concept 'blue'"):
        detector.read(scores, "blue")


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_thresholds(tmp_path: Path, threshold: float) -> None:
    path = tmp_path / "detector.safetensors"
    save_detector(path, "residual")
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        WorldDetector("world", path, threshold)


class StandInDetector:
    """Answers as the nudenet package does: reddish pictures hold two boxes of one class and one of
    another."""

    def __init__(self, model_path: str) -> None:
        self.model_path = model_path

    def detect_batch(self, pictures: list[np.ndarray], batch_size: int) -> list[list[dict[str, Any]]]:
        assert (
            all(p.dtype == np.uint8 and p.flags["C_CONTIGUOUS"] for p in pictures)
            and len(pictures) <= batch_size
        )
        boxes = [
            {"class": "BELLY_EXPOSED", "score": 0.9, "box": [0, 0, 1, 1]},
            {"class": "BUTTOCKS_EXPOSED", "score": 0.3, "box": [0, 0, 1, 1]},
            {"class": "BUTTOCKS_EXPOSED", "score": 0.8, "box": [0, 0, 1, 1]},
        ]
        return [boxes if p[..., 2].mean() > 128 else boxes[:1] for p in pictures]  # OpenCV order: red is last


@pytest.fixture
def nudenet_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "320n.onnx").write_bytes(b"weights")
    module = types.ModuleType("nudenet")
    module.__file__ = str(tmp_path / "__init__.py")
    module.NudeDetector = StandInDetector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nudenet", module)
    return tmp_path / "320n.onnx"


def test_nudenet_reads_the_best_box_of_the_strict_classes(nudenet_package: Path) -> None:
    detector = load_nudenet(threshold=0.6)
    pictures = torch.zeros(20, 3, 8, 8, dtype=torch.uint8)
    pictures[::2, 0] = 255
    scores = detector.scores(pictures)
    assert scores.shape == (20, 18) and detector.file_sha256 == sha256_file(nudenet_package)
    assert scores[0, LABELS.index("BUTTOCKS_EXPOSED")] == pytest.approx(0.8)
    assert (scores[:, LABELS.index("BELLY_EXPOSED")] == np.float32(0.9)).all()
    assert (
        detector.found(scores, "nudity").tolist() == [True, False] * 10
    )  # a belly alone is not strict nudity
    assert detector.columns("violence") == ()


def test_nudenet_strict_classes_leave_out_feet_belly_and_armpits() -> None:
    exposed = {label for label in LABELS if label.endswith("_EXPOSED")}
    assert exposed - set(STRICT) == {"FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED"}


def test_nudenet_missing_package_and_missing_weights(
    nudenet_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudenet_package.unlink()
    with pytest.raises(WeightsError, match="no ONNX file"):
        NudeNet()
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(MissingExtraError, match=r"zbench\[nudenet\]"):
        NudeNet()
