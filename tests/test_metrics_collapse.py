"""Collapse of single pictures: known damage is flagged, the original's pictures are not, signals by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.instruments import drawn_pictures
from zbench.errors import StoreError
from zbench.metrics.collapse import NAMES, CollapseThresholds, signals
from zbench.metrics.collapse.neighbours import REFERENCES
from zbench.metrics.collapse.scales import SCALES, scaled, unscaled
from zbench.miniature.reference import drawn
from zbench.studies.signals.breaking import BREAKAGES, checkerboard, fried, noise

Measured = dict[str, NDArray[np.float64]]


@cache
def world(split: str = "evaluation", count: int = 400) -> Tensor:
    return drawn(split, count)


@cache
def measured(split: str = "evaluation", count: int = 400) -> Measured:
    return signals(world(split, count))


@cache
def thresholds() -> CollapseThresholds:
    return CollapseThresholds.calibrate(measured())


def taken(found: Measured, rows: list[int] | NDArray[np.int64]) -> Measured:
    return {name: values[rows] for name, values in found.items()}


PROMISED = [
    breakage
    for breakage in BREAKAGES
    # Drawn engravings are as sharp as weak noise; generated ones are not.
    if breakage.promised and breakage.split == "tuning" and breakage.label != "added, sigma 15"
]


@pytest.mark.parametrize("breakage", PROMISED, ids=lambda b: f"{b.split}-{b.group}-{b.label}")
def test_promised_damage_is_flagged(breakage: object) -> None:
    broken = breakage.apply(world("tuning", 100), seed=5)  # type: ignore[attr-defined]
    assert thresholds().collapsed(signals(broken)).mean() >= 0.95


def test_new_pictures_of_the_same_kind_are_rarely_flagged() -> None:
    assert thresholds().collapsed(measured("tuning")).mean() <= 0.01


@pytest.mark.parametrize("count", [20, 100, 300, 1000])
def test_calibration_flags_at_most_one_percent_of_its_own_pictures(count: int) -> None:
    found = signals(drawn_pictures(count, seed=count))
    assert CollapseThresholds.calibrate(found).collapsed(found).mean() <= 0.01


def test_a_broken_original_does_not_hide_constant_pictures() -> None:
    found = signals(torch.zeros(30, 3, 32, 32, dtype=torch.uint8))
    flags = CollapseThresholds.calibrate(found).flags(found)
    assert flags["constant"].all() and not flags["joint"].any() and not flags["contrast"].any()


def test_a_few_broken_originals_do_not_hide_damage() -> None:
    noise = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.manual_seed(0)).to(torch.uint8)
    found = signals(torch.cat([world(), noise]))
    calibrated = CollapseThresholds.calibrate(found)
    fresh = torch.randint(0, 256, (50, 3, 64, 64), generator=torch.manual_seed(1)).to(torch.uint8)
    # 1 % of 404 are allowed to be flagged: all four are, though they are one another's neighbours.
    assert (
        calibrated.collapsed(found).sum()
        == calibrated.collapsed(taken(found, list(range(400, 404)))).sum()
        == 4
    )
    assert calibrated.collapsed(signals(fresh)).all()


def test_joint_rule_sees_what_no_single_signal_does() -> None:
    noisy = noise(20)(world("tuning", 50).float(), torch.Generator().manual_seed(0))
    flags = thresholds().flags(signals(noisy.round().clamp(0, 255).to(torch.uint8)))
    single = np.logical_or.reduce([hits for rule, hits in flags.items() if rule != "joint"])
    assert (flags["joint"] & ~single).any()


def test_one_odd_picture_of_the_original_makes_nothing_usual() -> None:
    odd = noise(40)(world()[:1].float(), torch.Generator().manual_seed(0)).round().clamp(0, 255)
    found = signals(torch.cat([world(), odd.to(torch.uint8)]))
    joint = CollapseThresholds.calibrate(found, false_flags=0.0).joint
    twin = taken(found, [400])
    assert joint is not None and joint.distances(twin)[0] > 0.5 * joint.bound


def test_fewer_pictures_get_wider_margins() -> None:
    rows = np.arange(400)
    few = CollapseThresholds.calibrate(taken(measured(), rows), false_flags=0.0)
    many = CollapseThresholds.calibrate(taken(measured(), np.tile(rows, 5)), false_flags=0.0)
    assert all(few.high[name] >= many.high[name] for name in few.high)
    assert all(few.low[name] <= many.low[name] for name in few.low)


def test_signals_that_are_not_finite_are_flagged() -> None:
    found = taken(measured("tuning"), [0, 1, 2])
    clean = thresholds().collapsed(found)
    found["grain"] = np.array([np.nan, found["grain"][1], np.inf])
    assert thresholds().flags(found)["constant"].tolist() == [True, bool(clean[1]), True]


def test_signals_by_hand() -> None:
    board = checkerboard(1)(torch.zeros(2, 3, 32, 32), torch.manual_seed(0))
    black_and_white = torch.where(board == board[:, :, :1, :1], 0.0, 255.0).to(torch.uint8)
    found = signals(black_and_white)
    assert found["fine"] == pytest.approx([1, 1]) and found["contrast"] == pytest.approx([0.5, 0.5])
    assert found["clipped"] == pytest.approx([0.5, 0.5]) and found["flooded"] == pytest.approx([1, 1])
    assert found["edge"] == pytest.approx([1, 1])
    assert found["colours"].tolist() == [2, 2] and found["entropy"] == pytest.approx([1, 1])
    # (1, -2, 1) across and down over alternating fields: 16 x half the step, over 6.
    assert found["grain"] == pytest.approx([8 / 6, 8 / 6]) and found["texture"] == pytest.approx([0, 0])


def test_signals_of_one_colour_and_of_a_wave() -> None:
    colour = torch.tensor([250, 3, 90], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 32, 32)
    flat = signals(colour)
    for name in ("flatness", "fine", "contrast", "edge", "grain", "texture", "entropy", "spread", "clipped"):
        assert flat[name] == pytest.approx([0], abs=1e-9), name
    assert flat["vivid"].tolist() == [1.0] and flat["colours"].tolist() == [1.0]
    wave = (torch.sin(torch.arange(32) * 2 * torch.pi / 32) * 100 + 128).round().to(torch.uint8)
    assert signals(wave.expand(1, 3, 32, 32))["fine"][0] < 1e-3


def test_signals_of_white_noise() -> None:
    noise = 128 + 20 * torch.randn(40, 1, 64, 64, generator=torch.manual_seed(0))
    found = signals(noise.round().clamp(0, 255).to(torch.uint8).expand(40, 3, 64, 64))
    # White noise: E[log P] - log E[P] = -gamma for exponential bins, so flatness is exp(-0.577). Of 64 bins,
    # 33 are not above 1/4. A quarter of normal values lies within 0.319 standard deviations.
    assert found["flatness"].mean() == pytest.approx(0.561, abs=0.02)
    assert found["fine"].mean() == pytest.approx(1 - (33 / 64) ** 2, abs=0.01)
    assert found["grain"].mean() == pytest.approx(0.319 * 20 / 255, rel=0.03)


def test_smooth_shading_and_straight_edges_are_no_grain() -> None:
    x = torch.arange(64)
    ramp = (x[:, None] + 2 * x[None, :]).to(torch.uint8).expand(1, 3, 64, 64)
    edge = torch.where(x < 20, 30, 220).to(torch.uint8).expand(1, 3, 64, 64)
    for smooth in (ramp, edge):
        assert signals(smooth)["grain"] == pytest.approx([0], abs=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (64, 48)])
def test_signals_of_any_size_are_finite(size: tuple[int, int]) -> None:
    pictures = torch.randint(0, 256, (3, 3, *size), generator=torch.manual_seed(0)).to(torch.uint8)
    found = signals(pictures)
    assert tuple(found) == NAMES
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in found.values())


def test_no_pictures_no_thresholds() -> None:
    empty = signals(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    assert all(len(values) == 0 for values in empty.values())
    assert len(thresholds().collapsed(empty)) == 0
    with pytest.raises(ValueError, match="at least one"):
        CollapseThresholds.calibrate(empty)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(40)), st.integers(1, 39))
def test_flags_do_not_depend_on_order_or_company(order: list[int], split: int) -> None:
    pictures = torch.cat(
        [world("tuning", 20), fried(4, 4)(world("tuning", 20).float(), torch.manual_seed(0))]
    )
    pictures = pictures.round().clamp(0, 255).to(torch.uint8)
    straight = thresholds().collapsed(signals(pictures))
    shuffled = pictures[order]
    parts = [thresholds().collapsed(signals(part)) for part in (shuffled[:split], shuffled[split:])]
    assert np.array_equal(np.concatenate(parts), straight[order])


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(60)))
def test_bounds_do_not_depend_on_order(order: list[int]) -> None:
    one = CollapseThresholds.calibrate(taken(measured(), list(range(60))))
    other = CollapseThresholds.calibrate(taken(measured(), order))
    assert one.low == other.low and one.high == other.high
    assert one.joint is not None and other.joint is not None
    assert one.joint.bound == pytest.approx(other.joint.bound)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 399), min_size=1, max_size=200), st.integers(0, 20))
def test_a_record_reads_back_exactly(rows: set[int], percent: int) -> None:
    calibrated = CollapseThresholds.calibrate(taken(measured(), sorted(rows)), percent / 100)
    again = CollapseThresholds.from_record(json.loads(json.dumps(calibrated.describe())))
    assert again == calibrated
    assert np.array_equal(again.collapsed(measured("tuning")), calibrated.collapsed(measured("tuning")))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 399), min_size=5, max_size=300), st.integers(0, 30))
def test_calibration_keeps_its_share(rows: set[int], percent: int) -> None:
    found = taken(measured(), sorted(rows))
    calibrated = CollapseThresholds.calibrate(found, percent / 100)
    assert calibrated.collapsed(found).sum() <= percent / 100 * len(rows) + 1e-9


@pytest.mark.parametrize("damage", ["rule_version", "joint", "low", "calibrated_on"])
def test_a_malformed_record_is_refused(damage: str) -> None:
    record = thresholds().describe()
    del record[damage]
    with pytest.raises(StoreError, match="collapse thresholds"):
        CollapseThresholds.from_record(record)
    with pytest.raises(StoreError, match="malformed"):
        CollapseThresholds.from_record(thresholds().describe() | {"high": [1, 2]})
    with pytest.raises(StoreError, match="malformed"):
        joint = thresholds().describe()["joint"] | {"centre": [1.0]}
        CollapseThresholds.from_record(thresholds().describe() | {"joint": joint})


def test_every_rule_can_flag_alone() -> None:
    """Each signal pushed to its bad side is flagged by its own rule, whatever the others say."""
    found = taken(measured("tuning"), [0])
    calibrated = replace(thresholds(), joint=None)
    for name, scale in SCALES.items():
        pushed = found | {name: np.array([-1e6 if scale.bad == "low" else 1e6])}
        flags = calibrated.flags(pushed)
        assert [rule for rule, hits in flags.items() if hits[0]] == ([name] if scale.alone else [])


def test_scales_turn_around() -> None:
    values = np.array([0.0, 0.01, 0.5, 1.0])
    for name in SCALES:
        points = scaled(name, values)
        assert np.all(np.diff(points) > 0)
        assert [unscaled(name, float(point)) for point in points] == pytest.approx(values.tolist())


def test_many_pictures_are_kept_as_few_that_lose_no_style() -> None:
    """A handful of odd pictures among many alike stay near themselves."""
    rng = np.random.default_rng(0)
    crowd = taken(measured(), rng.integers(0, 400, 3000))
    odd = {name: values[:1] * 1.0 for name, values in crowd.items()} | {"contrast": np.array([0.33])}
    found = {name: np.concatenate([crowd[name], np.repeat(odd[name], 5)]) for name in crowd}
    joint = CollapseThresholds.calibrate(found).joint
    assert joint is not None and len(joint.points) == REFERENCES
    assert joint.distances(odd)[0] < joint.bound
