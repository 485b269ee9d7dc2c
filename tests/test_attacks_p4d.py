"""P4D: its equation, its two layouts, and that it asks the original and the erased model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.descent_tools import (
    PROMPTS,
    Recorded,
    assert_untouched,
    candidates,
    clean_latents,
    context_of,
    descents,
    erasure,
    payloads,
)
from tests.tiny import save_smallest_pipeline
from tests.transcription import Reference
from zbench.attacks.p4d import P4D, spaced
from zbench.attacks.toolkit.free_tokens import ProjectedTokens, Vocabulary
from zbench.attacks.toolkit.tokens import ordinary_tokens, token_table
from zbench.model import Model, load_model

__all__ = ["descents"]

SMALL = {"iterations": 2, "budget": 2, "tokens": 4, "every": 2}
VARIANTS = ("n", "k")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


def attack_of(variant: str, **fields: Any) -> P4D:
    return P4D.model_validate({**SMALL, "variant": variant, **fields})


def test_first_loss_is_the_equation(tiny_model: Model, descents: list[Recorded]) -> None:
    """In float64: the erased model under free tokens, the original under the prompt, x_t from the seeds."""
    attack, edit = attack_of("n", iterations=1, budget=1), erasure(tiny_model)
    context = context_of(attack, tiny_model, edit)
    list(attack.attack(context))
    [run] = descents
    clean, times = clean_latents(attack, context).double(), tiny_model.timesteps().double()
    with tiny_model.edited(edit):
        reference = Reference(tiny_model)
        reference.adopt(edit)
    for number, prompt in enumerate(PROMPTS):
        source = context.generator("noise", prompt.id)
        time = times[torch.randint(len(times), (1,), generator=source)]
        noise = torch.randn(1, *tiny_model.latent_shape(), generator=source).double()
        x = (1 - time / 1000) * clean[number][None] + time / 1000 * noise
        text = run.layouts[number].text(run.tried[0][number])
        said, wanted = (
            reference.velocity(x, time, tiny_model.encode([words]), live=live)
            for words, live in ((text, True), (prompt.text, False))
        )
        expected = (said - wanted).square().mean().item()
        assert run.losses[0][number].item() == pytest.approx(expected, rel=1e-3)


def test_the_original_under_its_own_prompt_has_no_loss(model: Model, descents: list[Recorded]) -> None:
    """Nothing erased, the prompt's own words: the attack's goal is met exactly."""
    attack = attack_of("n", iterations=3, budget=1)
    context = context_of(attack, model, erasure(model))
    goal = attack._goal(context)
    for points in attack.points(context, goal):
        said = model.velocity(points.latents[:, 0], points.timesteps[:, 0], model.encode(goal.texts))
        torch.testing.assert_close(said, points.wanted[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_candidates_depend_on_the_erased_weights(
    model: Model, descents: list[Recorded], variant: str
) -> None:
    attack = attack_of(variant, iterations=8, learning_rate=0.5)
    before = model.counter.backwards
    first, again, other = (candidates(attack, model, erasure(model, seed)) for seed in (5, 5, 6))
    assert model.counter.backwards - before == 3 * 2 * 8
    assert first[-1].spent.forwards * len(PROMPTS) >= 2 * 2 * 8, "erased and original, once a step each"
    assert [c.payload for c in first] == [c.payload for c in again]
    assert [c.payload for c in first] != [c.payload for c in other]


def test_a_prompt_is_replaced_or_kept(model: Model) -> None:
    for prompt in PROMPTS:
        [replaced, *_] = payloads(candidates(attack_of("n"), model, erasure(model), [prompt]), prompt)
        assert len(replaced.split()) == 4, "four words and nothing of the prompt"
        [kept, *_] = payloads(candidates(attack_of("k"), model, erasure(model), [prompt]), prompt)
        words = iter(kept.split())
        assert all(word in words for word in prompt.text.split()), "all words of the prompt, in their order"
        assert len(kept.split()) > len(prompt.text.split())


@pytest.mark.parametrize("prompt", [prompt.text for prompt in PROMPTS])
def test_free_tokens_stand_at_spaces_after_every_few_tokens(model: Model, prompt: str) -> None:
    tokenizer, attack = model.pipeline.tokenizer, attack_of("k", every=3)
    pieces = spaced(tokenizer, prompt, 3)
    assert pieces[0] == "" and "".join(pieces) == f" {prompt}"
    for piece in pieces[1:]:
        assert piece[:1] in (" ", "") and (
            piece in ("", pieces[-1]) or len(tokenizer(piece)["input_ids"]) >= 3
        )
    allowed = ordinary_tokens(model)
    layout = attack.layout(context_of(attack, model, erasure(model)), prompt)
    for seed in range(5):
        source = torch.Generator().manual_seed(seed)
        assert layout.is_faithful(allowed[torch.randint(len(allowed), (len(layout.free),), generator=source)])


def test_projected_tokens_follow_the_gradient_at_the_projection(model: Model) -> None:
    """PEZ: rows of the table are tried, continuous rows are moved."""
    allowed = ordinary_tokens(model)
    table = token_table(model)
    start, goal = allowed[None, :2], allowed[None, 5:7]
    tokens = ProjectedTokens(Vocabulary(table, allowed, lambda index, words: True), start, 0.02, 0.0)
    for _ in range(400):
        tried = tokens.rows()
        assert torch.equal(tried, table[tokens.words])
        tokens.follow(tried - table[goal])
    assert torch.equal(tokens.answer(), goal)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_its_prompts_one_at_a_time(model: Model, descents: list[Recorded], variant: str) -> None:
    together = candidates(attack_of(variant), model, erasure(model))
    for number, prompt in enumerate(PROMPTS):
        alone = candidates(attack_of(variant), model, erasure(model), [prompt])
        assert payloads(together, prompt) == payloads(alone, prompt)
        losses = torch.stack(descents[0].losses)[:, number]
        torch.testing.assert_close(losses, torch.stack(descents[-1].losses)[:, 0], rtol=1e-3, atol=1e-5)


def test_nothing_is_left_behind_and_control_is_random(model: Model) -> None:
    attack, edit = attack_of("k"), erasure(model)
    context = context_of(attack, model, edit)
    found: dict[str, list[Any]] = {}

    def work() -> None:
        for name, arm in (("attack", attack.attack(context)), ("control", attack.control(context))):
            found[name] = []
            for candidate in arm:
                assert not model.edits
                found[name].append(candidate)

    assert_untouched(model, work)
    assert [c.prompt_id for c in found["attack"]] == [c.prompt_id for c in found["control"]]
    lengths = [[len(c.payload.split()) for c in found[name]] for name in ("attack", "control")]
    assert lengths[0] == lengths[1]
