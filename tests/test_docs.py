"""What the documents promise, checked against what the program gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.instruments import drawn_pictures, tiny_clip, view_of
from zbench.detectors.world import load_world, load_world_second
from zbench.metrics.perceptual import ClipPerceptual
from zbench.protocols import CONCEPT_ROLES, KEPT_ROLES, UNRELATED, load_protocol
from zbench.stages.score import score
from zbench.stages.scorer import Scorer

DOCS = Path(__file__).parent.parent / "docs"


def documented() -> set[str]:
    """Names in the first column of the tables of figures that scores have; tests of attacks read theirs."""
    page = (DOCS / "metrics.md").read_text(encoding="utf-8").split("## Under attack")[0]
    return {name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`(.+?)`", row)}


@pytest.fixture(scope="module")
def names() -> set[str]:
    roles = (*CONCEPT_ROLES, *KEPT_ROLES, UNRELATED)
    parts = {role: drawn_pictures(12, seed=number) for number, role in enumerate(roles)}
    clip, settings = tiny_clip(), load_protocol("zbench").table("world", "cat", "entity")
    settings = settings.model_copy(update={"reference_pictures": 24})
    detectors = [load_world(), load_world_second()]
    view = view_of(parts, object="car")
    instruments = {"detectors": detectors, "clip": clip, "source": clip, "perceptual": ClipPerceptual(clip)}
    record = score(view, view, Scorer(settings, "cat", **instruments))
    return {figure["name"] for figure in json.loads(json.dumps(record))["figures"]}


def test_every_figure_is_documented_and_every_documented_one_exists(names: set[str]) -> None:
    listed = documented()
    plain = {name.partition("@")[0] for name in names}
    collapse = {f"collapse_{role}" for role in CONCEPT_ROLES}
    assert plain - collapse <= listed
    only_elsewhere = {"count_ROLE:NAME", "acc_e_score", "acc_ir_score", "acc_g_score", "h_a_score"}
    assert listed - {"collapse_ROLE"} - only_elsewhere <= plain
