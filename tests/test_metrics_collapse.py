"""Collapse and distance: known damage is flagged, the original's pictures are not, signals by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.instruments import drawn_pictures
from zbench.metrics.collapse import CollapseThresholds, signals
from zbench.metrics.distance import feature_distance, pixel_distance


@pytest.fixture(scope="module")
def thresholds() -> CollapseThresholds:
    return CollapseThresholds.calibrate(signals(drawn_pictures(300)))


def checkerboard(period: int, size: int = 32) -> Tensor:
    board = (torch.arange(size)[:, None] // period + torch.arange(size)[None, :] // period) % 2
    return (board * 255).to(torch.uint8).expand(4, 3, size, size)


def fried(pictures: Tensor) -> Tensor:
    return ((pictures.float() - 128) * 12 + 128).clamp(0, 255).to(torch.uint8)


DAMAGE = {
    "noise": torch.randint(0, 256, (50, 3, 32, 32), generator=torch.manual_seed(0)).to(torch.uint8),
    "black": torch.zeros(4, 3, 32, 32, dtype=torch.uint8),
    "one colour": torch.tensor([200, 30, 90], dtype=torch.uint8)[None, :, None, None].expand(4, 3, 32, 32),
    "fine checkerboard": checkerboard(1),
    "coarse checkerboard": checkerboard(8),
    "fried": fried(drawn_pictures(50, seed=7)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_flagged(thresholds: CollapseThresholds, kind: str) -> None:
    assert thresholds.collapsed(signals(DAMAGE[kind])).mean() >= 0.95


@pytest.mark.parametrize("count", [20, 100, 300, 1000])
def test_calibration_flags_at_most_one_percent_of_its_own_pictures(count: int) -> None:
    measured = signals(drawn_pictures(count, seed=count))
    assert CollapseThresholds.calibrate(measured).collapsed(measured).mean() <= 0.01


def test_new_pictures_of_the_same_kind_are_rarely_flagged(thresholds: CollapseThresholds) -> None:
    assert thresholds.collapsed(signals(drawn_pictures(500, seed=99))).mean() <= 0.01


def test_a_broken_original_does_not_hide_constant_pictures() -> None:
    black = torch.zeros(30, 3, 32, 32, dtype=torch.uint8)
    measured = signals(black)
    assert CollapseThresholds.calibrate(measured).collapsed(measured).all()


def test_signals_by_hand() -> None:
    board = signals(checkerboard(1))
    assert board["fine"] == pytest.approx(np.ones(4)) and board["clipped"] == pytest.approx(np.ones(4))
    assert board["contrast"] == pytest.approx(np.full(4, 0.5))
    flat = signals(DAMAGE["one colour"])
    assert flat["chroma"] == pytest.approx(np.full(4, 170 / 255))
    assert (
        flat["flatness"].tolist() == flat["fine"].tolist() == flat["contrast"].round(9).tolist() == [0.0] * 4
    )
    wave = (torch.sin(torch.arange(32) * 2 * torch.pi / 32) * 100 + 128).round().to(torch.uint8)
    assert signals(wave.expand(1, 3, 32, 32))["fine"][0] < 1e-3
    noise = signals(DAMAGE["noise"])
    # White noise: E[log P] - log E[P] = -gamma for exponential bins, so flatness is exp(-0.577). Of 32 bins,
    # 17 are not above 1/4.
    assert noise["flatness"].mean() == pytest.approx(0.561, abs=0.03)
    assert noise["fine"].mean() == pytest.approx(1 - (17 / 32) ** 2, abs=0.01)


def test_no_pictures_no_thresholds() -> None:
    empty = signals(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    assert all(len(values) == 0 for values in empty.values())
    with pytest.raises(ValueError, match="at least one"):
        CollapseThresholds.calibrate(empty)


def test_distances_by_hand() -> None:
    black, white = (
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        torch.full((2, 3, 4, 4), 255, dtype=torch.uint8),
    )
    assert pixel_distance(black, white) == pytest.approx([1.0, 1.0])
    half = black.clone()
    half[1, :, :, :2] = 51
    assert pixel_distance(half, black) == pytest.approx([0.0, 0.1])
    assert pixel_distance(black, half) == pytest.approx([0.0, 0.1])  # unsigned bytes do not wrap around
    with pytest.raises(ValueError, match="do not pair"):
        pixel_distance(black, white[:1])
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert feature_distance(rows, torch.tensor([[5.0, 0.0], [-1.0, 1.0]])) == pytest.approx([0.0, 1.0])
    with pytest.raises(ValueError, match="do not pair"):
        feature_distance(rows, rows[:1])
