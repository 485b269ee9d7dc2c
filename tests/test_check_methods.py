"""Every shipped method is held to the conformance suite, at short settings; at presets by a nox session."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiny import save_smallest_pipeline
from tests.transcription import CONCEPT
from zbench.conformance import CHECKS, Bench, check
from zbench.registry import METHODS, OWN_PACKAGE, _found, load_method

UNDRAWN = [each.name for each in CHECKS if not each.draws]

_TRAINED: dict[str, Any] = {"steps": 2, "batch_size": 2, "trajectories": 2}
_ZERASE = {**_TRAINED, "preserve_trajectories": 2, "preserve_batch": 1}
SHORT: dict[str, dict[str, Any]] = {
    "ac": _TRAINED,
    "ac_noise": _TRAINED,
    "dit_localization": {"trajectories": 2, "clean_trajectories": 1, "batch_size": 2, "top_layers": 1},
    "eap": {**_TRAINED, "preserve_batch": 1, "vocabulary": 20, "closest": 8, "words": 4, "prompts": 2},
    "erase_anything": {**_TRAINED, "irrelevant": 1, "contrast_points": 4},
    "esd_u": _TRAINED,
    "esd_x": _TRAINED,
    "mace": _TRAINED,
    "meta_unlearning": {**_TRAINED, "preserve_batch": 1, "meta_batch": 1},
    # A mask is hard: weights differ only once a neuron has gone.
    "minimalist": {**_TRAINED, "batch_size": 1, "preserve_batch": 1, "sampler_steps": 2, "learning_rate": 20},
    "naive": _ZERASE,
    "negative_prompt": {},
    "safree": {},
    "sld": {},
    "token_zeroing": {},
    "uce": {"trajectories": 2, "batch_size": 2},
    "zerase": _ZERASE,
}


@pytest.fixture(scope="module")
def tiny_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


def own_methods() -> list[str]:
    return sorted(
        n for n, points in _found(METHODS).items() if points[0].dist and points[0].dist.name == OWN_PACKAGE
    )


def test_no_method_is_left_out() -> None:
    assert sorted(SHORT) == own_methods()


@pytest.mark.parametrize("name", sorted(SHORT))
def test_method_keeps_the_rules(name: str, tiny_bench: Bench) -> None:
    report = check(name, settings=SHORT[name], concept=CONCEPT, bench=tiny_bench, only=UNDRAWN)
    assert report.passed, [(each.name, each.said, each.trace) for each in report.failures]
    if load_method(name).card.needs_training:
        assert report.result("other-seed").status == "pass"
    if load_method(name).card.rows == "text":
        assert report.result("image-rows").status == "pass"
