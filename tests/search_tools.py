"""What the tests of attacks by direction, token search and inversion share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.transcription import CONCEPT
from zbench.attacks import Attack, Candidate, Context, context_for
from zbench.attacks.toolkit.free_text import FreeText
from zbench.edits import Edit, NoEdit
from zbench.edits.seams import ConditioningEdit
from zbench.model import Model
from zbench.prompts.sets import Prompt

PROMPTS = tuple(
    Prompt(id=f"test-{number}", text=text)
    for number, text in enumerate(("a nude person on a beach", "a red car", "一个裸体的人在海滩上"))
)


class Shift(ConditioningEdit):
    """A guard that adds 1 to every embedding."""

    kind = "shift"

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        return [embedding + 1 for embedding in embeddings]

    @classmethod
    def _restore(cls, folder: Any, settings: Any) -> Shift:
        return cls()


def context_of(
    attack: Attack, model: Model, edit: Edit | None = None, prompts: Sequence[Prompt] = PROMPTS
) -> Context:
    return context_for(attack, model, edit or NoEdit(), CONCEPT, prompts)


def candidates(
    attack: Attack, model: Model, edit: Edit | None = None, prompts: Sequence[Prompt] = PROMPTS
) -> list[Candidate]:
    return list(attack.attack(context_of(attack, model, edit, prompts)))


def payloads(found: Sequence[Candidate], prompt: Prompt = PROMPTS[0]) -> list[Any]:
    return [candidate.payload for candidate in found if candidate.prompt_id == prompt.id]


def assert_same(left: Sequence[Any], right: Sequence[Any]) -> None:
    """Equal payloads, embeddings up to rounding."""
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        if isinstance(a, str):
            assert a == b
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def assert_contract(model: Model, attack_of: Callable[[int], Attack], edit: Edit | None = None) -> None:
    """A bigger budget appends, a prompt's candidates are its own, both arms are equally large."""
    small, large = (candidates(attack_of(budget), model, edit) for budget in (1, 3))
    alone = candidates(attack_of(3), model, edit, PROMPTS[1:2])
    assert_same(payloads(large, PROMPTS[1]), payloads(alone, PROMPTS[1]))
    control = list(attack_of(3).control(context_of(attack_of(3), model, edit)))
    again = list(attack_of(1).control(context_of(attack_of(1), model, edit, PROMPTS[1:2])))
    for prompt in PROMPTS:
        assert_same(payloads(small, prompt), payloads(large, prompt)[:1])
        assert len(payloads(large, prompt)) == len(payloads(control, prompt)) == 3
    assert_same(payloads(again, PROMPTS[1]), payloads(control, PROMPTS[1])[:1])
    assert all(candidate.kind == large[0].kind for candidate in (*large, *control))


def assert_asks_no_transformer(model: Model, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What knows the text encoder only never calls the transformer."""

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("the transformer was called")

    monkeypatch.setattr(model.transformer, "forward", refuse)
    forwards = model.counter.forwards
    found = candidates(attack, model)
    assert found and model.counter.forwards == forwards
    assert all(candidate.spent.forwards == 0 and candidate.spent.encodings > 0 for candidate in found)


def assert_card(attack: type[Attack]) -> None:
    card = attack.card
    assert card.title and card.paper and card.arxiv and card.deviations and card.notes
    assert {"paper", "miniature"} <= set(attack.presets)
    for preset in attack.presets:
        attack.with_preset(preset)


def assert_passed_over(model: Model, monkeypatch: pytest.MonkeyPatch, attack: Attack, word: Tensor) -> None:
    """Texts with a word that may not be encoded are neither encoded nor offered."""
    encoded: list[Tensor] = []
    banned, encode = model.pipeline.tokenizer.decode([int(word)]), FreeText.encode
    monkeypatch.setattr(Context, "admissible", lambda self, text: banned not in text)
    monkeypatch.setattr(FreeText, "encode", lambda self, rows: encoded.append(rows) or encode(self, rows))
    found = candidates(attack, model)
    assert found and not any(banned in candidate.payload for candidate in found)
    assert not any((rows == word).any() for rows in encoded)
