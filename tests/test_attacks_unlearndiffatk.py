"""UnlearnDiffAtk: its equation, and that it attacks the erased model and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

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
from tests.test_attacks_tokens import guard_for
from tests.tiny import save_smallest_pipeline
from tests.transcription import CONCEPT, Reference
from zbench.attacks import Context
from zbench.attacks.toolkit.free_tokens import onto_simplex
from zbench.attacks.toolkit.target_pictures import NoiseSource
from zbench.attacks.toolkit.tokens import ordinary_tokens, token_table
from zbench.attacks.unlearndiffatk import UnlearnDiffAtk
from zbench.edits import NoEdit
from zbench.edits.seams import VelocityEdit
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model

__all__ = ["descents"]

SMALL = {"denoising_steps": (0, 1), "iterations": 2, "budget": 2, "tokens": 3}
VARIANTS = ("discrete", "continuous")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


def attack_of(variant: str, **fields: Any) -> UnlearnDiffAtk:
    return UnlearnDiffAtk.model_validate({**SMALL, "variant": variant, **fields})


def test_first_loss_is_the_equation(tiny_model: Model, descents: list[Recorded]) -> None:
    """Transcribed in float64, x0*, noise and caption made anew from texts and seeds."""
    attack, edit = attack_of("discrete", iterations=1, budget=1), erasure(tiny_model)
    context = context_of(attack, tiny_model, edit)
    list(attack.attack(context))
    [run] = descents
    clean, sigmas = clean_latents(attack, context).double(), tiny_model.sigmas()[:2].double()
    with tiny_model.edited(edit):
        reference = Reference(tiny_model)
        reference.adopt(edit)
    for number, prompt in enumerate(PROMPTS):
        noise = torch.randn(2, *tiny_model.latent_shape(), generator=context.generator("noise", prompt.id))
        [caption] = tiny_model.encode([run.layouts[number].text(run.tried[0][number])])
        errors = []
        for sigma, e in zip(sigmas, noise.double(), strict=True):
            x = (1 - sigma) * clean[number] + sigma * e
            said = reference.velocity(x[None], 1000 * sigma[None], [caption], live=True)[0]
            errors.append((said - (e - clean[number])).square().mean())
        expected = torch.stack(errors).mean().item()
        assert run.losses[0][number].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_candidates_depend_on_the_erased_weights(
    model: Model, descents: list[Recorded], variant: str
) -> None:
    """The released attack of this name never calls the transformer: its result knows no weights."""
    attack = attack_of(variant, iterations=8, learning_rate=0.05)
    before = model.counter.backwards
    first, again, other = (candidates(attack, model, erasure(model, seed)) for seed in (5, 5, 6))
    assert model.counter.backwards - before == 3 * 2 * 8, "one backward pass per step for the whole batch"
    last = first[-1].spent
    assert last.forwards >= 2 * 2 * 8 and last.backwards == 2 * 2 * 8, "samples: 2 points a step"
    assert last.encodings == 1 + 2 * 8 and last.seconds > first[0].spent.seconds > 0
    same, differs = (
        [_equal(a.payload, b.payload) for a, b in zip(first, found, strict=True)] for found in (again, other)
    )
    assert all(same) and not all(differs)
    losses = [torch.stack(run.losses) for run in descents]
    assert torch.equal(losses[0], losses[1]) and not torch.allclose(losses[0], losses[2], rtol=1e-3)


def _equal(left: Any, right: Any) -> bool:
    return torch.equal(left, right) if isinstance(left, Tensor) else left == right


def mean_loss(attack: UnlearnDiffAtk, model: Model, run: Recorded, rows: Tensor) -> float:
    """Loss at fixed points, for these rows in the free places."""
    context = context_of(attack, model, erasure(model))
    fixed = attack.model_copy(update={"iterations": 6})
    with context.erased(), torch.no_grad():
        goal = attack._goal(context)
        live = list(range(len(PROMPTS)))
        losses = [
            run._losses(model, rows, run.tokens.words, live, points) for points in fixed.points(context, goal)
        ]
    return torch.stack(losses).mean().item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_falls(model: Model, descents: list[Recorded], variant: str) -> None:
    attack = attack_of(variant, iterations=15, budget=2, learning_rate=0.05, weight_decay=0.0)
    candidates(attack, model, erasure(model))
    [run] = descents
    embedded = run.tokens._embedded
    start = attack._start(context_of(attack, model, erasure(model)), "start")[1]
    end = embedded(run.tokens.answer()) if variant == "discrete" else run.tokens.rows()
    assert mean_loss(attack, model, run, end) < 0.995 * mean_loss(attack, model, run, embedded(start))


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_iterations_candidates_are_the_random_start(model: Model, variant: str) -> None:
    attack = attack_of(variant, iterations=0)
    found = candidates(attack, model, erasure(model, 5))
    assert all(c.spent.backwards == 0 for c in found)
    assert all(
        _equal(a.payload, b.payload)
        for a, b in zip(found, candidates(attack, model, erasure(model, 6)), strict=True)
    ), "no step, no knowledge of the weights"
    context = context_of(attack, model, erasure(model))
    layouts, start = attack._start(context, "start")
    texts = [layout.text(words) for layout, words in zip(layouts, start, strict=True)]
    encoded = model.encode(texts)
    for prompt, text, caption in zip(PROMPTS, texts, encoded, strict=True):
        assert text.endswith(prompt.text) and len(text) > len(prompt.text)
        for payload in payloads(found, prompt):
            if variant == "discrete":
                assert payload == text
            else:
                torch.testing.assert_close(payload, caption, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_its_prompts_one_at_a_time(model: Model, descents: list[Recorded], variant: str) -> None:
    attack = attack_of(variant)
    together = candidates(attack, model, erasure(model))
    for number, prompt in enumerate(PROMPTS):
        alone = candidates(attack, model, erasure(model), [prompt])
        for left, right in zip(payloads(together, prompt), payloads(alone, prompt), strict=True):
            if isinstance(left, str):
                assert left == right
            else:
                torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3)
        losses = torch.stack(descents[0].losses)[:, number]
        torch.testing.assert_close(losses, torch.stack(descents[-1].losses)[:, 0], rtol=1e-3, atol=1e-5)


def test_a_larger_budget_only_appends(model: Model) -> None:
    small, large = (candidates(attack_of("discrete", budget=b), model, erasure(model)) for b in (2, 3))
    assert [c.payload for c in large[: len(small)]] == [c.payload for c in small]
    assert [c.label for c in large[:: len(PROMPTS)]] == ["step 2", "step 4", "step 6"]
    with pytest.raises(ConfigurationError, match="budget"):
        UnlearnDiffAtk.with_preset("miniature", budget=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_left_behind(model: Model, variant: str) -> None:
    attack, edit = attack_of(variant), erasure(model)
    context = context_of(attack, model, edit)

    def work() -> None:
        for arm in (attack.attack(context), attack.control(context)):
            for _ in arm:
                assert not model.edits, "the erased model has been left when a candidate is offered"

    with torch.no_grad():
        assert_untouched(model, work)


def test_a_prompt_that_is_not_a_number_fails_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = candidates(attack_of("discrete"), model, erasure(model))
    from zbench.attacks.toolkit import target_pictures

    drawn = target_pictures.target_latents

    def broken(context: Context, texts: Sequence[str]) -> Tensor:
        latents = drawn(context, texts)
        latents[1] = torch.nan
        return latents

    monkeypatch.setattr(target_pictures, "target_latents", broken)
    found = candidates(attack_of("discrete"), model, erasure(model))
    [failed] = [candidate for candidate in found if candidate.prompt_id == PROMPTS[1].id]
    assert failed.kind == "failed" and "not a number at step 1" in failed.failure
    for prompt in (PROMPTS[0], PROMPTS[2]):
        assert payloads(found, prompt) == payloads(expected, prompt), (
            "the others go on as if it were not there"
        )


def test_inadmissible_texts_are_never_encoded(
    model: Model, descents: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, asked = model.pipeline.tokenizer, []
    allowed = ordinary_tokens(model).tolist()
    refused = {tokenizer.decode([token]) for token in allowed[::2]}

    def admissible(context: Context, text: str) -> bool:
        asked.append(text)
        return not any(f"{word} " in text for word in refused)

    monkeypatch.setattr(Context, "admissible", admissible)
    attack = attack_of("discrete", iterations=8)
    prompts = [PROMPTS[1]]
    found = candidates(attack, model, erasure(model), prompts)
    context = context_of(attack, model, erasure(model), prompts)
    [run] = descents
    tried = [run.layouts[0].text(words[0]) for words in run.tried]
    shown = [*tried, *(c.payload for c in found), *(c.payload for c in attack.control(context))]
    assert len(shown) == 16 + 2 + 2
    assert all(admissible(context, str(text)) for text in shown)
    assert len(asked) > len(shown)


class Constant(VelocityEdit):
    """A velocity that no caption reaches."""

    kind = "tests-constant-velocity"

    def edit_velocity(self, velocity: Tensor, *rest: Any, **more: Any) -> Tensor:
        return torch.zeros_like(velocity)

    @classmethod
    def _restore(cls, folder: object, settings: object) -> Constant:
        return cls()


def test_reasons_not_to_attack(model: Model) -> None:
    attack = attack_of("discrete")
    assert attack.supports(context_of(attack, model, erasure(model))) is None
    assert "no gradient" in str(attack.supports(context_of(attack, model, Constant())))
    late = attack_of("discrete", denoising_steps=(0, 2))
    assert "denoising step 2 does not exist" in str(late.supports(context_of(late, model, NoEdit())))


def test_words_are_found_behind_a_guard_and_rows_go_past_it(
    tiny_model: Model, descents: list[Recorded]
) -> None:
    guard = guard_for(tiny_model)
    for variant, sees in (("discrete", True), ("continuous", False)):
        attack = attack_of(variant, iterations=1, budget=1)
        candidates(attack, tiny_model, guard)
        run = descents[-1]
        points = run.shown[0]
        for number in range(len(PROMPTS)):
            text = run.layouts[number].text(run.tried[0][number])
            with context_of(attack, tiny_model, guard if sees else NoEdit()).erased() as erased:
                captions = erased.encode([text]) * 2
            said = tiny_model.velocity(points.latents[number], points.timesteps[number], captions)
            expected = (said - points.wanted[number]).square().mean().item()
            assert run.losses[0][number].item() == pytest.approx(expected, rel=1e-3)


def test_target_can_be_a_picture_of_the_concept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from zbench.attacks.toolkit import target_pictures

    drawn: list[list[str]] = []
    original = target_pictures.drawn_latents

    def noted(model: Model, texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        drawn.append(list(texts))
        return original(model, texts, seeds)

    monkeypatch.setattr(target_pictures, "drawn_latents", noted)
    for target in ("prompt", "concept"):
        candidates(attack_of("discrete", target=target, iterations=1), model, erasure(model))
    assert drawn[0] == [prompt.text for prompt in PROMPTS]
    assert set(drawn[1]) <= set(CONCEPT.training_prompts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_control_has_the_form_of_the_attack_and_none_of_its_knowledge(model: Model, variant: str) -> None:
    attack = attack_of(variant)

    def arm(make: Callable[[Context], Iterator[Any]], seed: int) -> list[Any]:
        return list(make(context_of(attack, model, erasure(model, seed))))

    before = model.counter.forwards
    control, other = arm(attack.control, 5), arm(attack.control, 6)
    if variant == "discrete":
        assert model.counter.forwards == before
    attacked = arm(attack.attack, 5)
    assert [c.prompt_id for c in control] == [c.prompt_id for c in attacked]
    assert [c.kind for c in control] == [c.kind for c in attacked]
    if variant == "discrete":
        assert all(_equal(a.payload, b.payload) for a, b in zip(control, other, strict=True))
    assert not any(
        _equal(a.payload, b.payload) for a, b in zip(control, control[len(PROMPTS) :], strict=False)
    )
    if variant == "continuous":
        assert [c.payload.shape for c in control] == [c.payload.shape for c in attacked]


def test_simplex_projection_is_the_nearest_distribution() -> None:
    values = torch.randn(20, 7, generator=torch.Generator().manual_seed(0)).double()
    nearest = onto_simplex(values)
    torch.testing.assert_close(nearest.sum(-1), torch.ones(20).double())
    assert bool((nearest >= 0).all())
    inside = torch.rand(200, 1, 7, generator=torch.Generator().manual_seed(1)).double()
    inside = inside / inside.sum(-1, keepdim=True)
    assert bool(((inside - values).norm(dim=-1) >= (nearest - values).norm(dim=-1) - 1e-9).all())
    torch.testing.assert_close(onto_simplex(nearest), nearest)


def test_free_tokens_are_five_for_nsfw_concepts_and_three_for_others(model: Model) -> None:
    attack = UnlearnDiffAtk()
    context = context_of(attack, model, NoEdit())
    assert attack.layout(context, "a car").counts == (5,)
    style = CONCEPT.model_copy(update={"family": "style"})
    assert attack.layout(Context(model, NoEdit(), style, ()), "a car").counts == (3,)


def test_random_rows_go_as_far_as_the_attack_did(model: Model) -> None:
    """A control that moves farther leaves what the model knows, and the attack wins by standing still."""
    attack = attack_of("continuous", iterations=4, budget=3)
    context = context_of(attack, model, erasure(model))
    table = token_table(model)
    start = attack._start(context, "start")[1]
    runs = list(attack.attack(context))
    assert len(runs) == 3 * len(PROMPTS)
    for number in (1, 2, 3):
        other = attack._start(context, f"control {number}")[1]
        moved = (attack._random_rows(context, other, number) - table[other]).norm(dim=-1)
        far = torch.stack([context.shared.norms[prompt.id][number - 1] for prompt in PROMPTS])
        torch.testing.assert_close(moved, far, rtol=1e-3, atol=1e-6)
        assert bool((far > 0).all()) and far.shape == start.shape
    alone = context_of(attack, model, erasure(model), [PROMPTS[1]])
    _, *_ = attack.control(alone)
    torch.testing.assert_close(
        alone.shared.norms[PROMPTS[1].id][0], context.shared.norms[PROMPTS[1].id][0], rtol=1e-3, atol=1e-4
    )


def test_the_shortlist_offers_the_words_of_least_loss(model: Model, descents: list[Recorded]) -> None:
    attack = attack_of("discrete", shortlist=3, iterations=6, budget=1, learning_rate=0.05)
    context = context_of(attack, model, erasure(model))
    found = list(attack.attack(context))
    [run] = descents
    same = replace(attack._goal(context), noise=NoiseSource(context, "shortlist"))
    points = list(attack.model_copy(update={"iterations": 4}).points(context, same))
    with context.erased() as erased:
        live = run.live
        order = torch.stack(run.losses).argsort(dim=0, stable=True)[:3]
        for number, prompt in enumerate(PROMPTS):
            rivals = [run.tokens.answer(), *(run.tried[i] for i in order[:, number].tolist())]
            losses = [run._compared(erased, words, live, points)[number].item() for words in rivals]
            best = rivals[losses.index(min(losses))][number]
            assert payloads(found, prompt) == [run.layouts[number].text(best)]
    assert found[0].spent.encodings == 1 + 6 + 4 * 4


def test_points_are_not_all_in_memory_at_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred steps of a batch of large pictures would not fit."""
    from zbench.attacks.toolkit import descent, token_attack

    made, ahead = [0], list[int]()
    points, step = UnlearnDiffAtk.points, descent.Descent.step

    def counted(self: UnlearnDiffAtk, *arguments: Any) -> Iterator[Any]:
        for each in points(self, *arguments):
            made[0] += 1
            yield each

    def seen(self: Any, *arguments: Any) -> None:
        step(self, *arguments)
        ahead.append(made[0] - len(ahead))

    monkeypatch.setattr(UnlearnDiffAtk, "points", counted)
    monkeypatch.setattr(descent.Descent, "step", seen)
    monkeypatch.setattr(token_attack, "_PART", 3)
    candidates(attack_of("discrete", iterations=8, budget=1), model, erasure(model), PROMPTS[:1])
    assert len(ahead) == 8 and max(ahead) == 3


def test_rows_and_shares_have_learning_rates_of_their_own(model: Model, descents: list[Recorded]) -> None:
    """Shares are between 0 and 1; a step of that size takes rows far from every word."""
    for variant, rate in (("discrete", 0.05), ("continuous", 0.02)):
        attack = attack_of(variant, learning_rate=0.05, rows_learning_rate=0.02, iterations=1, budget=1)
        candidates(attack, model, erasure(model), PROMPTS[:1])
        [group] = descents[-1].tokens._optimiser.param_groups
        assert group["lr"] == rate
    assert UnlearnDiffAtk.with_preset("thorough").shortlist > 0
