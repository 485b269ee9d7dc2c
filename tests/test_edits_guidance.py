"""Guidance edits against their formulas in float64, with and without the pipeline's own guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny import save_tiny_pipeline
from zbench.edits import ConditioningEdit, NegativePromptEdit, SafetyGuidanceEdit, load_edit
from zbench.edits.guidance import GuidanceEdit, SafetyGuidance
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model, load_model

CONCEPT = "nude, naked"
PROMPTS = ["a nude person on a beach", "a red car beside a house", "an apple"]
MEDIUM = {"scale": 3.0, "threshold": 0.02, "momentum_scale": 0.3, "momentum_decay": 0.4, "start": 1000.0}


def negative(model: Model, scale: float = 1.5) -> NegativePromptEdit:
    return NegativePromptEdit(model.encode([CONCEPT])[0], scale)


def safety(model: Model, **changes: float) -> SafetyGuidanceEdit:
    return SafetyGuidanceEdit(model.encode([CONCEPT])[0], **{**MEDIUM, **changes})


def plain(model: Model, x: Tensor, t: Tensor, prompts: list[str]) -> Tensor:
    with torch.no_grad():
        return model.velocity(x, t, model.encode(prompts)).double()


def transcribed(model: Model, chosen: dict[str, float], seeds: list[int], prompts: list[str]) -> Tensor:
    """Final latents of safe latent diffusion by its equations, in float64, without any edit."""
    x, nu = model.noise(seeds).double(), torch.zeros(())
    times, sigmas = model.timesteps().double(), model.sigmas().double()
    for step, t in enumerate(times):
        at = t.float().expand(len(seeds))
        v_c, v_s, v_u = (
            plain(model, x.float(), at, texts)
            for texts in (prompts, [CONCEPT] * len(seeds), [""] * len(seeds))
        )
        phi = chosen["scale"] * (v_c - v_s)
        mu = torch.where(v_c - v_s < chosen["threshold"], torch.minimum(phi.abs(), torch.ones(())), 0.0)
        gamma = mu * (v_s - v_u) + chosen["momentum_scale"] * nu
        nu = chosen["momentum_decay"] * nu + (1 - chosen["momentum_decay"]) * gamma
        v = v_c - chosen.get("strength", 1.0) * gamma if t <= chosen["start"] else v_c
        x = x + (sigmas[step + 1] - sigmas[step]) * v
    return x


def finished(model: Model, seeds: list[int], prompts: list[str]) -> Tensor:
    return model.trajectory(model.encode(prompts), seeds).latents[-1].double()


def test_negative_prompt_follows_its_formula(tiny_model: Model) -> None:
    """In a batch of captions of different length, which the transformer pads."""
    x, t = tiny_model.noise([1, 2, 3]), torch.tensor([900.0, 500.0, 200.0])
    v, v_neg = plain(tiny_model, x, t, PROMPTS), plain(tiny_model, x, t, [CONCEPT] * 3)
    with tiny_model.edited(negative(tiny_model)):
        edited = plain(tiny_model, x, t, PROMPTS)
    assert not torch.allclose(edited, v, atol=1e-2)
    torch.testing.assert_close(edited, v + 1.5 * (v - v_neg), atol=1e-5, rtol=1e-4)
    assert torch.equal(plain(tiny_model, x, t, PROMPTS), v)


@pytest.mark.parametrize(("make", "more"), [(negative, 1), (safety, 2)])
def test_further_evaluations_are_counted(tiny_model: Model, make: Any, more: int) -> None:
    edit, before = make(tiny_model), tiny_model.counter.forwards
    with tiny_model.edited(edit):
        tiny_model.generate(["a house"], [1], steps=2)
    assert tiny_model.counter.forwards - before == 2 * (1 + more)


@pytest.mark.parametrize(
    "changes", [{}, {"start": 860.0, "strength": 1.7}, {"threshold": 0.3, "momentum_scale": 0.0}]
)
def test_safety_guidance_follows_its_equations(tiny_model: Model, changes: dict[str, float]) -> None:
    expected = transcribed(tiny_model, {**MEDIUM, **changes}, [4, 5], PROMPTS[:2])
    untouched = finished(tiny_model, [4, 5], PROMPTS[:2])
    with tiny_model.edited(safety(tiny_model, **changes)):
        found = finished(tiny_model, [4, 5], PROMPTS[:2])
    assert (expected - untouched).abs().max() > 1e-2, "the guidance must matter for this to prove anything"
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_momentum_matters_and_starts_anew_with_every_trajectory(tiny_model: Model) -> None:
    with tiny_model.edited(safety(tiny_model)):
        first, again = (finished(tiny_model, [4, 5], PROMPTS[:2]) for _ in range(2))
        other = finished(tiny_model, [7, 8], PROMPTS[1:])
    assert torch.equal(first, again)
    with tiny_model.edited(safety(tiny_model)):
        assert torch.equal(finished(tiny_model, [7, 8], PROMPTS[1:]), other)
    with tiny_model.edited(safety(tiny_model, momentum_scale=0.0)):
        assert not torch.allclose(finished(tiny_model, [4, 5], PROMPTS[:2]), first, atol=1e-4)


def test_momentum_does_not_leak_into_other_samples(tiny_model: Model) -> None:
    """A call at a lower timestep goes on only where the last one was."""
    x, low, high = tiny_model.noise([1, 2]), torch.full((2,), 400.0), torch.full((2,), 900.0)
    cases = {
        "other captions": (x, high, [PROMPTS[1], PROMPTS[0]]),
        "another batch size": (tiny_model.noise([1]), high[:1], PROMPTS[:1]),
        "a risen timestep": (x, torch.full((2,), 300.0), PROMPTS[:2]),
        "one risen timestep": (x, torch.tensor([900.0, 300.0]), PROMPTS[:2]),
        "the same timestep": (x, low, PROMPTS[:2]),
    }
    with tiny_model.edited(safety(tiny_model)):
        alone = plain(tiny_model, x, low, PROMPTS[:2])
    for case, call in cases.items():
        with tiny_model.edited(safety(tiny_model)):
            plain(tiny_model, *call)
            assert torch.equal(plain(tiny_model, x, low, PROMPTS[:2]), alone), case
    with tiny_model.edited(safety(tiny_model)):
        plain(tiny_model, x, high, PROMPTS[:2])
        assert not torch.allclose(plain(tiny_model, x, low, PROMPTS[:2]), alone, atol=1e-5), "it goes on"


def test_detaching_forgets_the_momentum(tiny_model: Model) -> None:
    edit, x = safety(tiny_model), tiny_model.noise([1])
    with tiny_model.edited(edit):
        alone = plain(tiny_model, x, torch.tensor([400.0]), PROMPTS[:1])
    with tiny_model.edited(edit):
        plain(tiny_model, x, torch.tensor([900.0]), PROMPTS[:1])
    with tiny_model.edited(edit):
        assert torch.equal(plain(tiny_model, x, torch.tensor([400.0]), PROMPTS[:1]), alone)


@pytest.mark.parametrize("make", [negative, safety])
def test_a_sample_does_not_depend_on_its_batch(tiny_model: Model, make: Any) -> None:
    with tiny_model.edited(make(tiny_model)):
        together = finished(tiny_model, [4, 5, 6], PROMPTS)
        own = finished(tiny_model, [5], PROMPTS[1:2])
        torch.testing.assert_close(together[1:2], own, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("make", [negative, safety])
def test_detaches_exactly_and_loads_what_it_saved(tiny_model: Model, make: Any, tmp_path: Path) -> None:
    edit, before = make(tiny_model), finished(tiny_model, [1], PROMPTS[:1])
    edit.save(tmp_path / "edit", tiny_model)
    loaded = load_edit(tmp_path / "edit")
    assert type(loaded) is type(edit) and loaded.describe() == edit.describe()
    with tiny_model.edited(edit):
        edited = finished(tiny_model, [1], PROMPTS[:1])
    with tiny_model.edited(loaded):
        assert torch.equal(finished(tiny_model, [1], PROMPTS[:1]), edited)
    assert not torch.equal(edited, before)
    assert torch.equal(finished(tiny_model, [1], PROMPTS[:1]), before)


def test_gradients_flow_to_the_latents(tiny_model: Model) -> None:
    x = tiny_model.noise([1]).requires_grad_()
    with tiny_model.edited(safety(tiny_model)):
        velocity = tiny_model.velocity(x, torch.tensor([500.0]), tiny_model.encode(PROMPTS[:1]))
        (gradient,) = torch.autograd.grad(velocity.square().sum(), x)
    assert bool(gradient.isfinite().all()) and bool(gradient.any())


class TestPipelineGuidance:
    """Where the pipeline guides by itself, the guided velocity is what is edited."""

    @pytest.fixture(scope="class")
    def guided_model(self, tmp_path_factory: pytest.TempPathFactory) -> Model:
        folder = save_tiny_pipeline(tmp_path_factory.mktemp("guided") / "pipeline", guidance_scale=3.0)
        return load_model(folder, "cpu")

    def sampled(self, model: Model, prompts: list[str], edited: Any) -> Tensor:
        """Latents after one Euler step along what `edited` makes of guided velocities of two prompts."""
        x, sigmas = model.noise([1, 2]), model.sigmas().double()
        t = model.timesteps()[:1].expand(2)
        empty = plain(model, x, t, ["", ""])

        def guided(texts: list[str]) -> Tensor:
            conditional = plain(model, x, t, texts)
            return conditional + 3.0 * (conditional - empty)

        return x.double() + (sigmas[1] - sigmas[0]) * edited(guided, empty)

    def after_first_step(self, model: Model, prompts: list[str]) -> Tensor:
        states: list[Tensor] = []

        def keep(pipeline: Any, step: int, t: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
            states.append(state["latents"])
            return {}

        model.pipeline(
            prompt_embeds=model.encode(prompts),
            negative_prompt_embeds=model.encode([""] * 2),
            latents=model.noise([1, 2]),
            height=model.spec.height,
            width=model.spec.width,
            num_inference_steps=model.spec.steps,
            guidance_scale=3.0,
            callback_on_step_end=keep,
        )
        return states[0].double()

    def test_negative_prompt_edits_the_guided_velocity(self, guided_model: Model) -> None:
        prompts = PROMPTS[:2]

        def edited(guided: Any, empty: Tensor) -> Tensor:
            v, v_neg = guided(prompts), guided([CONCEPT] * 2)
            return v + 1.5 * (v - v_neg)

        expected = self.sampled(guided_model, prompts, edited)
        with guided_model.edited(negative(guided_model)):
            found = self.after_first_step(guided_model, prompts)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_safety_guidance_is_the_papers(self, guided_model: Model) -> None:
        """v_u + s_g (v_c - v_u - gamma) with s_g = 1 + g: the pipeline's g counts from the conditional."""
        x, t = guided_model.noise([1, 2]), guided_model.timesteps()[:1].expand(2)
        v_c, v_s = (plain(guided_model, x, t, texts) for texts in (PROMPTS[:2], [CONCEPT] * 2))

        def edited(guided: Any, v_u: Tensor) -> Tensor:
            mu = torch.where(v_c - v_s < 0.02, (3 * (v_c - v_s).abs()).clamp(max=1), 0.0)
            return v_u + 4.0 * (v_c - v_u - mu * (v_s - v_u))

        expected = self.sampled(guided_model, PROMPTS[:2], edited)
        with guided_model.edited(safety(guided_model)):
            found = self.after_first_step(guided_model, PROMPTS[:2])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_a_call_without_guidance_is_edited_as_a_whole(self, guided_model: Model) -> None:
        x, t = guided_model.noise([1, 1]), torch.full((2,), 600.0)
        for prompts in (PROMPTS[:2], ["", PROMPTS[0]]):
            v, v_neg = plain(guided_model, x, t, prompts), plain(guided_model, x, t, [CONCEPT] * 2)
            with guided_model.edited(negative(guided_model)):
                found = plain(guided_model, x, t, prompts)
            torch.testing.assert_close(found, v + 1.5 * (v - v_neg), atol=1e-5, rtol=1e-4)


@settings(deadline=None)
@given(
    difference=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8),
    scale=st.floats(0, 5000),
    threshold=st.floats(-1, 1),
)
def test_the_weight_is_bounded_and_zero_beyond_the_threshold(
    difference: list[float], scale: float, threshold: float
) -> None:
    edit = SafetyGuidanceEdit(torch.zeros(2, 3), **{**MEDIUM, "scale": scale, "threshold": threshold})
    values = torch.tensor(difference)
    weight = edit._weight(values)
    assert bool(((weight >= 0) & (weight <= 1)).all())
    assert not bool(weight[values >= threshold].any())


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 0"):
        NegativePromptEdit(torch.zeros(2, 3), -1.0)
    with pytest.raises(ConfigurationError, match="A caption is"):
        NegativePromptEdit(torch.zeros(3), 1.0)
    for wrong in ({"scale": -1.0}, {"momentum_decay": 1.0}, {"start": 0.0}, {"start": 1001.0}):
        with pytest.raises(ConfigurationError, match="out of range"):
            SafetyGuidance(**{**MEDIUM, **wrong})


def test_a_caption_of_another_model_is_refused(tiny_model: Model) -> None:
    with pytest.raises(WeightsError, match="another model"):
        NegativePromptEdit(torch.zeros(2, 3), 1.0).attach(tiny_model)
    assert issubclass(NegativePromptEdit, GuidanceEdit) and not issubclass(GuidanceEdit, ConditioningEdit)
