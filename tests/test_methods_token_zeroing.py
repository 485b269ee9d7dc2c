import pytest
import torch
from zbench_methods.token_zeroing import TokenZeroing

from tests.transcription import CONCEPT
from zbench.edits import TokenZeroingEdit
from zbench.errors import ConfigurationError
from zbench.model import Model


def test_the_edit_holds_the_concepts_phrases_and_the_fields(tiny_model: Model) -> None:
    before = tiny_model.counter.forwards
    erasure = TokenZeroing(tokens="onward", layers=(1,), renormalise=True).erase(tiny_model, CONCEPT)
    assert isinstance(erasure.edit, TokenZeroingEdit)
    assert erasure.edit.settings() == {
        "phrases": ["nude", "naked"],
        "tokens": "onward",
        "layers": [1],
        "renormalise": True,
    }
    assert tiny_model.counter.forwards == before, "nothing is trained or sampled"
    assert erasure.cost.forwards == 0 and erasure.trace == []


def test_the_concept_goes_and_comes_back_misspelt(tiny_model: Model) -> None:
    """Observation 1 of the paper, and what it says of the training-free guard."""
    prompts = ["a nude person on a beach", "a nudee person on a beach", "a person on a beach"]
    plain = tiny_model.generate(prompts, range(3), steps=2)
    with tiny_model.edited(TokenZeroing().erase(tiny_model, CONCEPT).edit):
        edited = tiny_model.generate(prompts, range(3), steps=2)
    assert [not torch.equal(*pair) for pair in zip(plain, edited, strict=True)] == [True, False, False]


def test_any_concept_is_supported_and_bad_layers_are_refused(tiny_model: Model) -> None:
    assert TokenZeroing().supports(CONCEPT.model_copy(update={"phrases": ("unclothed",)})) is None
    with pytest.raises(ConfigurationError, match="0 to 2"):
        TokenZeroing(layers=(3,)).erase(tiny_model, CONCEPT).edit.attach(tiny_model)
    with pytest.raises(ConfigurationError, match=r"token_zeroing\.tokens"):
        TokenZeroing.of({"tokens": "all"})
