"""The token toolkit against `Model.encode`, which the pipeline itself stands behind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from zbench.attacks.toolkit.tokens import (
    TemplatedPrompt,
    encode_inputs,
    nearest_tokens,
    ordinary_tokens,
    through_guards,
    token_table,
    with_words,
)
from zbench.edits import ProjectionEdit, TokenZeroingEdit
from zbench.edits.seams import ConditioningEdit
from zbench.model import Model

PROMPTS = (
    "a nude person on a beach",
    "一个裸体的人在海滩上",
    "a red car beside a house, the golden gate bridge",
    " user assistant ",
    "x" * 400,
)


def random_words(model: Model, count: int, seed: int = 0) -> Tensor:
    allowed = ordinary_tokens(model)
    return allowed[torch.randint(len(allowed), (count,), generator=torch.Generator().manual_seed(seed))]


def test_own_embeddings_are_encoded_as_the_pipeline_does(tiny_model: Model) -> None:
    """D3: chat template, penultimate hidden state, valid tokens only; in a padded batch as well."""
    inputs = [TemplatedPrompt.of(tiny_model, prompt).inputs() for prompt in PROMPTS]
    expected = tiny_model.encode(PROMPTS)
    assert len({len(caption) for caption in expected}) > 2 and len(expected[-1]) == 96
    for found in (encode_inputs(tiny_model, inputs), [encode_inputs(tiny_model, [one])[0] for one in inputs]):
        for caption, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(caption, wanted, rtol=1e-4, atol=1e-5)


def test_encoding_is_differentiable_and_prompts_do_not_meet(tiny_model: Model) -> None:
    leaves = [TemplatedPrompt.of(tiny_model, p).inputs().clone().requires_grad_() for p in PROMPTS[:2]]
    first, _ = encode_inputs(tiny_model, leaves)
    first[3].sum().backward()
    assert leaves[1].grad is None or not leaves[1].grad.any()
    gradient = leaves[0].grad
    assert gradient is not None and gradient[:4].ne(0).any(dim=1).all(), "rows that a causal encoder has read"
    assert not gradient[4:].any(), "and none after"


def test_ordinary_tokens_are_whole_words_that_encode_as_themselves(tiny_model: Model) -> None:
    tokenizer, found = tiny_model.pipeline.tokenizer, ordinary_tokens(tiny_model).tolist()
    texts = [tokenizer.decode([token]) for token in found]
    assert " a" in texts and len(texts) > 5 and found == sorted(found)
    for token, text in zip(found, texts, strict=True):
        assert text[0] == " " and text.strip() and tokenizer(text)["input_ids"] == [token]
    assert not set(found) & set(tokenizer.all_special_ids)


class Vocabulary:
    """A tokenizer with these tokens; a text is one token, or several unknown ones."""

    all_special_ids = (0,)
    added_tokens_decoder = (1,)

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def decode(self, ids: Sequence[int]) -> str:
        return self.texts[ids[0]]

    def __call__(self, texts: Sequence[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        return {"input_ids": [[9, 9] if "-" in text else [self.texts.index(text)] for text in texts]}


def test_no_specials_pieces_or_words_about_minors_are_ordinary() -> None:
    from zbench.attacks.toolkit.tokens import _ordinary

    texts = [" end", " start", " car", "car", " ", " \ufffd", " child", " two-part", " a b", " \n", " tree"]
    assert [texts[token] for token in _ordinary(Vocabulary(texts))] == [" car", " tree"]


@pytest.mark.parametrize("where", ["prefix", "suffix"])
@pytest.mark.parametrize("prompt", PROMPTS[:4])
def test_free_places_hold_what_the_text_says(tiny_model: Model, prompt: str, where: str) -> None:
    layout = TemplatedPrompt.of(tiny_model, prompt).insert(where, 4)  # type: ignore[arg-type]
    for seed in range(5):
        words = random_words(tiny_model, 4, seed)
        text = layout.text(words)
        assert layout.is_faithful(words), "the text is encoded as what was optimised"
        assert torch.equal(layout.filled(words)[layout.free], words)
        assert text == with_words(tiny_model, prompt, words, where)  # type: ignore[arg-type]
        assert prompt.strip() in text
        [caption] = encode_inputs(tiny_model, [layout.inputs(token_table(tiny_model)[words])])
        torch.testing.assert_close(caption, tiny_model.encode([text])[0], rtol=1e-4, atol=1e-5)


def test_truncation_cuts_free_places_off_as_it_cuts_the_prompt(tiny_model: Model) -> None:
    plain = TemplatedPrompt.of(tiny_model, PROMPTS[-1])
    assert len(plain.insert("suffix", 3).free) == 0
    assert plain.insert("suffix", 3).inputs(torch.ones(3, 40)).shape == (96, 40)
    ahead = plain.insert("prefix", 3)
    assert len(ahead.free) == 3 and len(ahead.ids) == 96 and ahead.is_faithful(random_words(tiny_model, 3))


def test_nearest_tokens_keep_to_the_allowed_ones(tiny_model: Model) -> None:
    table, allowed = token_table(tiny_model), ordinary_tokens(tiny_model)
    assert not table.requires_grad
    assert torch.equal(nearest_tokens(table, 7 * table[allowed], allowed), allowed), "cosine: length is free"
    few = allowed[:3]
    assert set(nearest_tokens(table, torch.randn(50, table.shape[1]), few).tolist()) <= set(few.tolist())


def guard_for(model: Model) -> ProjectionEdit:
    """A guard that finds triggers in every prompt."""
    width = model.transformer.config.cap_feat_dim
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, width - 2, generator=generator).double())[0]
    return ProjectionEdit(basis, torch.zeros(width), alpha=0.0, tau=1.0)


class Scaled(ConditioningEdit):
    """A guard that gives gradients."""

    kind = "tests-scaled-captions"

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        return [3 * embedding for embedding in embeddings]

    @classmethod
    def _restore(cls, folder: object, settings: object) -> Scaled:
        return cls()


def test_guards_are_passed_with_their_values_and_cannot_stop_the_gradient(tiny_model: Model) -> None:
    texts = list(PROMPTS[:2])
    guard, zeroing = guard_for(tiny_model), TokenZeroingEdit(["nude"])
    raw = tiny_model.encode(texts)
    with tiny_model.edited(guard), tiny_model.edited(zeroing):
        guarded = tiny_model.encode(texts)
        assert not torch.equal(guarded[0], raw[0]), "the guard acts here"
        leaves = [caption.clone().requires_grad_() for caption in raw]
        passed = through_guards(tiny_model, leaves, texts)
        assert all(torch.equal(a, b) for a, b in zip(passed, guarded, strict=True)), "bit for bit"
        sum(caption.sum() for caption in passed).backward()
        assert zeroing._known, "an edit that only remembers captions has met these"
    for leaf in leaves:
        torch.testing.assert_close(leaf.grad, torch.ones_like(leaf))
    assert all(a is b for a, b in zip(through_guards(tiny_model, raw, texts), raw, strict=True))


def test_a_guards_own_gradient_is_kept(tiny_model: Model) -> None:
    leaf = tiny_model.encode(["a car"])[0].clone().requires_grad_()
    with tiny_model.edited(Scaled()):
        through_guards(tiny_model, [leaf], ["a car"])[0].sum().backward()
    torch.testing.assert_close(leaf.grad, torch.full_like(leaf, 3))
