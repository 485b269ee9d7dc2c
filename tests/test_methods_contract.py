"""What holds for every shipped method, whatever it does; how it behaves is for the conformance suite."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.transcription import CONCEPT
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.model import Model
from zbench.registry import list_methods, load_method

NAMES = sorted(each.name for each in list_methods() if each.origin == "zbench")

LONGEST = 170
"""Lines of a method file: its equations are to be read in one sitting."""


def test_all_of_them_are_here() -> None:
    assert len(NAMES) >= 17 and all(each.problem is None for each in list_methods())


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_builds(name: str) -> None:
    method = load_method(name)
    assert set(method.presets) == {"paper", "miniature"}
    for preset, values in method.presets.items():
        built = method.with_preset(preset, training_seed=3).model_dump()
        assert built["training_seed"] == 3
        assert method.of(values).model_copy(update={"training_seed": 3}) == method.of(built)


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_whole(name: str) -> None:
    card = load_method(name).card
    assert re.fullmatch(r"\d{4}\.\d{5}|", card.arxiv)
    assert card.title and card.paper and card.reference_code_licence and card.weights
    assert card.rows in ("text", "all", "none")
    assert card.deviations or not card.arxiv, "nothing of a paper fits this model without a change"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_one_short_file_that_begins_with_its_equations(name: str) -> None:
    module = inspect.getmodule(load_method(name))
    assert module is not None and module.__name__ == f"zbench_methods.{name}"
    lines = Path(inspect.getfile(load_method(name))).read_text().splitlines()
    assert len(lines) <= LONGEST, f"{len(lines)} lines"
    assert (module.__doc__ or "").strip()


def test_the_card_of_zerase_warns_of_distillation() -> None:
    assert any("not a true unconditional score" in note for note in load_method("zerase").card.notes)


def test_bad_settings_are_said_in_one_line() -> None:
    method = load_method("zerase")
    with pytest.raises(UnknownNameError, match="learning_rate"):
        method.with_preset("paper", learning_rat=1.0)
    with pytest.raises(UnknownNameError, match="preset of zerase"):
        method.with_preset("minature")
    with pytest.raises(ConfigurationError, match=r"zerase\.rank = 'x'") as caught:
        method.with_preset("paper", rank="x")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"zerase\.steps = 0"):
        method.of({"steps": 0})


def test_unsupported_concepts_are_refused_before_any_work(tiny_model: Model) -> None:
    before = tiny_model.counter.forwards
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    refusing = [name for name in NAMES if load_method(name)().supports(silent) is not None]
    assert {"zerase", "uce", "naive"} <= set(refusing)
    for name in refusing:
        with pytest.raises(ConfigurationError, match=f"{name} cannot erase 'nudity'"):
            load_method(name)().erase(tiny_model, silent)
    assert tiny_model.counter.forwards == before


def test_cards_and_presets_load_without_torch() -> None:
    code = (
        "import sys; from zbench.registry import load_method\n"
        f"for name in {NAMES!r}: load_method(name).with_preset('paper')\n"
        "print(sorted({'torch', 'pandas', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
