"""The collapse study: breaking pictures, choosing prompts, page and plot, and a small run of the whole."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from tests.instruments import drawn_pictures
from zbench.errors import ConfigurationError
from zbench.protocols import load_protocol
from zbench.studies import load_study, study_options
from zbench.studies.signals import signals_study
from zbench.studies.signals.breaking import (
    BREAKAGES,
    Breakage,
    blocks,
    blurred,
    checkerboard,
    compressed,
    fried,
    noise,
    salt_and_pepper,
)
from zbench.studies.signals.page import render_page
from zbench.studies.signals.plan import FRESH, PLAIN, make_plan
from zbench.studies.signals.plot import LINES, plot_curve
from zbench.studies.signals.study import _copies


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda b: f"{b.split}-{b.group}-{b.label}")
@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_broken_pictures_are_pictures_and_repeat(breakage: Breakage, size: tuple[int, int]) -> None:
    height, width = size
    pictures = torch.nn.functional.interpolate(drawn_pictures(3).float(), size=size).to(torch.uint8)
    broken = breakage.apply(pictures, seed=1)
    assert broken.dtype == torch.uint8 and broken.shape == (3, 3, height, width)
    assert not torch.equal(broken, pictures)
    assert torch.equal(broken, breakage.apply(pictures, seed=1))


def test_breakages_are_told_apart() -> None:
    labels = [(breakage.split, breakage.group, breakage.label) for breakage in BREAKAGES]
    assert len(set(labels)) == len(labels)
    promised = {(breakage.split, breakage.group) for breakage in BREAKAGES if breakage.promised}
    kinds = {"noise", "constant", "pattern", "fried"}
    assert promised == {(split, kind) for split in ("tuning", "validation") for kind in kinds}


def test_breakages_do_what_they_say() -> None:
    pictures, generator = drawn_pictures(40).float(), torch.Generator().manual_seed(0)
    assert (noise(20)(pictures, generator) - pictures).std() == pytest.approx(20, rel=0.02)
    peppered = salt_and_pepper(0.2)(pictures, generator)
    assert (peppered != pictures).any(dim=1).float().mean() == pytest.approx(0.2, abs=0.01)
    grey = pictures.mean(dim=1, keepdim=True).expand_as(pictures)
    assert torch.allclose(fried(1, 5)(grey, generator), grey, atol=1e-3)
    assert torch.allclose(fried(3, 1)(grey, generator), 3 * (grey - 128) + 128, atol=1e-3)
    board = checkerboard(2)(pictures, generator)
    assert torch.equal(board[:, :, :2, :2], board[:, :, 2:4, 2:4])
    assert not torch.equal(board[:, :, :2, :2], board[:, :, :2, 2:4])
    assert torch.equal(blocks(8)(pictures, generator)[:, :, :8, :8].std(dim=(2, 3)), torch.zeros(40, 3))
    assert blurred(4)(pictures, generator).std() < pictures.std()
    assert (compressed(5)(pictures, generator) - pictures).abs().mean() < 20


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_copies_hold_exactly_so_many_pictures(count: int, modes: int, seed: int) -> None:
    modes = min(modes, count)
    rows = _copies(np.random.default_rng(seed), count, modes)
    assert len(rows) == count and len(set(rows.tolist())) == modes


def test_the_plan_keeps_calibration_and_held_out_apart() -> None:
    plan = make_plan("world", load_protocol("zbench").domain("world"), "nudity", 20, 30)
    used = {sample.prompt for sample in plan.calibration}
    assert set(plan.held_out) == {"van-gogh", "picasso", "monet", "rembrandt", "dore", PLAIN}
    for samples in plan.held_out.values():
        assert len(samples) == 30
        assert not used & {sample.prompt for sample in samples}
        assert len({sample.seed for sample in samples}) == 30
    assert {sample.role for sample in plan.calibration} >= {"explicit", "implicit", "unrelated"}
    assert all(sample.object is not None and sample.role == "unrelated" for sample in plan.objects)
    first, again = {s.seed for s in plan.objects}, {s.seed for s in plan.again}
    assert len(first) == len(again) and not first & again


def test_more_held_out_pictures_than_prompts_take_other_seeds() -> None:
    plan = make_plan("world", load_protocol("zbench").domain("world"), "nudity", 5, 300)
    dore = plan.held_out["dore"]
    assert len(dore) == 300 and len({sample.seed for sample in dore}) == 300
    assert len({sample.repetition for sample in dore}) > 1 and min(s.repetition for s in dore) >= FRESH


def rate(n: int, total: int) -> dict[str, Any]:
    return {"n": n, "N": total, "low": n / total / 2, "high": min(1.0, 2 * n / total)}


def judged(hand: str, flagged: int, objects: int, **more: Any) -> dict[str, Any]:
    modes = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "hand": hand, "flagged": rate(flagged, 40), "objects": rate(objects, 40), "chance": 0.1,
        "sets": {"modes": modes, "precision": rate(30, 40), "precision_original": rate(39, 40)},
        "collapsed": flagged > 10, "destroyed": objects < 6, "rules": {"joint": flagged}, **more,
    }  # fmt: skip


def record(dore: int = 0, at_chance: int = 40) -> dict[str, Any]:
    broken = {
        "group": "noise",
        "label": "added",
        "split": "validation",
        "promised": True,
        "rules": {"grain": 9},
    }
    sets = {"label": "1 picture for all prompts", "split": "tuning", "promised": True}
    config = {
        "protocol": "zbench v2", "concept": "nudity", "calibration": {"unrelated": 60}, "clip": "clip-0",
        "detector": {"name": "world", "file_sha256": "0" * 64}, "thresholds": {"calibrated_on": 60},
    }  # fmt: skip
    return {
        "config": config,
        "false_flags": [{"style": "dore", **rate(dore, 120), "rules": {"joint": dore} if dore else {}}],
        "detection": [
            {**broken, **rate(99, 100)},
            {**broken, "label": "weak", "promised": False, **rate(9, 100)},
        ],
        "mode_collapse": [{**sets, **rate(50, 50)}],
        "false_alarms": [{"label": "halves", **rate(0, 50), "lowest_modes": 0.9}],
        "erased": [judged("uce on nudity", 0, 40)],
        "over_guided": [judged("guidance 12", 20, 30)],
        "damage": [
            judged("damage 0.1", 0, 40, level=0.1, damage_seed=0),
            judged("damage 1", at_chance, 4, level=1.0, damage_seed=0),
        ],
    }  # fmt: skip


def test_the_page_says_whether_the_promises_hold() -> None:
    kept, broken = render_page(record()), render_page(record(dore=2, at_chance=37))
    assert "at most 1% in every style: yes" in kept and "at most 1% in every style: **no**" in broken
    assert "40 of 40 pictures are flagged (100.0%); at least 95%: yes" in kept
    assert "37 of 40 pictures are flagged (92.5%); at least 95%: **no**" in broken
    assert "| validation | noise | 99 of 100 | 99.00 % | yes |" in kept
    assert "| uce on nudity | 0 of 40 (0.0 %) |" in kept and "neither" in kept and "destroyed" in kept


def test_a_curve_that_never_reaches_chance_claims_nothing() -> None:
    gentle = record() | {"damage": [judged("damage 0.1", 0, 40, level=0.1, damage_seed=0)]}
    assert "no model fell so far" in render_page(gentle)


def test_the_plot_shows_every_line() -> None:
    rows = [
        judged("d", 4 * n, 40 - 4 * n, level=n / 10, damage_seed=seed) for n in range(11) for seed in (0, 1)
    ]
    with Image.open(io.BytesIO(plot_curve(rows))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for _, colour, _ in LINES:
        assert (np.abs(pixels - np.array(ImageColor.getrgb(colour))).sum(axis=2) < 40).sum() > 50
    assert plot_curve([])[:4] == b"\x89PNG"


def test_a_domain_without_objects_is_refused() -> None:
    table = load_protocol("zbench").domain("photograph")
    bare = table.model_copy(update={"prompt_sets": {"explicit": "no-such-set"}})
    with pytest.raises(ConfigurationError, match="name an object"):
        make_plan("photograph", bare, "nudity", 5, 5)


def test_options_of_the_study() -> None:
    assert load_study("signals") is signals_study
    assert {"concept", "prompts", "held_out", "levels", "methods", "work"} <= set(
        study_options(signals_study)
    )


def test_a_small_study_of_the_miniature(tmp_path: Path) -> None:
    """Real pictures throughout, too few for the promises: what is asked is that everything is there."""
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {
        "prompts": 5, "held_out": 4, "levels": (1.5,), "damage_seeds": 1, "guidance": (), "methods": (),
    }  # fmt: skip
    found = signals_study(tmp_path, progress=lambda done, total: told.append((done, total)), **options)
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted(done for done, _ in told)
    stored = json.loads((tmp_path / "study.json").read_text())
    assert stored["study"] == "signals" and (tmp_path / "study.md").is_file()
    with Image.open(tmp_path / "damage.png") as picture:
        assert picture.size[0] > 300
    assert {row["N"] for row in stored["false_flags"][:-1]} == {4}
    damage = stored["damage"][0]
    assert damage["flagged"]["n"] >= 0.9 * damage["flagged"]["N"] and damage["collapsed"]
    assert found["config"]["thresholds"]["calibrated_on"] == sum(found["config"]["calibration"].values())
