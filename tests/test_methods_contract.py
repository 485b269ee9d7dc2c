import subprocess
import sys

import pytest

from tests.transcription import CONCEPT
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.model import Model
from zbench.registry import load_method

NAMES = ("zerase", "uce", "ac", "naive")


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_builds(name: str) -> None:
    method = load_method(name)
    assert set(method.presets) == {"paper", "miniature"}
    for preset, values in method.presets.items():
        built = method.with_preset(preset, training_seed=3).model_dump()
        assert built["training_seed"] == 3 and all(built[field] == value for field, value in values.items())
    assert any("tuning prompts" in note for note in method.card.notes) or name == "naive"


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
    for name in ("zerase", "uce", "naive"):
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
