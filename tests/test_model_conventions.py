"""Time, sign and prompt encoding, each where other code got it wrong (D1 to D3 of the reference dossier)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny import TEMPLATE, save_tiny_pipeline
from zbench.model import Model, load_model

PROMPTS = ["a nude person on a beach", "", "一个裸体的人在海滩上, and a red car beside a house in the rain"]
SEEDS = [3, 14, 15]


def pipeline_latents(model: Model, steps: int, guidance_scale: float = 0.0) -> Tensor:
    """What the stock pipeline makes of prompts and seeds, prompts encoded by itself."""
    latents: Tensor = model.pipeline(
        prompt=list(PROMPTS),
        height=model.spec.height,
        width=model.spec.width,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        max_sequence_length=model.spec.max_sequence_length,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="latent",
    ).images
    return latents


@pytest.mark.parametrize("steps", [1, 4])
def test_trajectory_ends_where_the_pipeline_ends(tiny_model: Model, steps: int) -> None:
    trajectory = tiny_model.trajectory(tiny_model.encode(PROMPTS), SEEDS, steps=steps)
    assert trajectory.latents.shape == (steps + 1, 3, *tiny_model.latent_shape())
    torch.testing.assert_close(trajectory.latents[-1], pipeline_latents(tiny_model, steps))
    torch.testing.assert_close(trajectory.latents[0], tiny_model.noise(SEEDS), rtol=0, atol=0)


def test_trajectory_with_dynamic_shift_other_widths_and_factor(tmp_path: Path) -> None:
    """Another width, depth, channel count, VAE factor and encoder width, and a resolution-dependent clock."""
    folder = save_tiny_pipeline(
        tmp_path / "p",
        dim=72,
        layers=2,
        channels=4,
        vae_levels=2,
        text_width=24,
        dynamic_shift=True,
        height=40,
        width=24,
    )
    model = load_model(folder, "cpu")
    assert model.latent_shape() == (4, 20, 12)
    reference = pipeline_latents(model, 4)
    torch.testing.assert_close(model.trajectory(model.encode(PROMPTS), SEEDS).latents[-1], reference)
    torch.testing.assert_close(model.sigmas(4), model.pipeline.scheduler.sigmas)


def test_trajectory_can_stop_early(tiny_model: Model) -> None:
    embeddings = tiny_model.encode(PROMPTS)
    whole, part = tiny_model.trajectory(embeddings, SEEDS), tiny_model.trajectory(embeddings, SEEDS, until=2)
    assert len(part.latents) == 3 and len(part.timesteps) == tiny_model.spec.steps
    torch.testing.assert_close(part.latents, whole.latents[:3], rtol=0, atol=0)


def test_clock_is_the_pipelines(tiny_model: Model) -> None:
    """D2: the released loop stepped along sigmas that did not belong to its timesteps."""
    pipeline_latents(tiny_model, 5)
    torch.testing.assert_close(
        tiny_model.timesteps(5), tiny_model.pipeline.scheduler.timesteps, rtol=0, atol=0
    )
    torch.testing.assert_close(tiny_model.sigmas(5), tiny_model.pipeline.scheduler.sigmas, rtol=0, atol=0)
    torch.testing.assert_close(tiny_model.sigmas(8)[:-1] * 1000, tiny_model.timesteps(8))
    expected = [1000, 954.545, 900, 833.333, 750, 642.857, 500, 300]
    torch.testing.assert_close(tiny_model.timesteps(8), torch.tensor(expected), rtol=1e-5, atol=0)


def test_time_reaches_the_transformer_as_tau(tiny_model: Model) -> None:
    """D1: timesteps in 0..1000 went to a transformer that wants (1000 - t) / 1000."""
    seen: list[Tensor] = []
    handle = tiny_model.transformer.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    tiny_model.velocity(
        tiny_model.noise([0, 1]), torch.tensor([1000.0, 250.0]), tiny_model.encode(PROMPTS[:2])
    )
    handle.remove()
    torch.testing.assert_close(seen[0], torch.tensor([0.0, 0.75]))


def test_velocity_is_minus_the_raw_output(tiny_model: Model) -> None:
    noise, embeddings = tiny_model.noise([0]), tiny_model.encode(PROMPTS[:1])
    raw = tiny_model.transformer(
        list(noise.unsqueeze(2)), torch.tensor([0.5]), embeddings, return_dict=False
    )[0][0]
    velocity = tiny_model.velocity(noise, torch.tensor([500.0]), embeddings)
    torch.testing.assert_close(velocity[0], -raw[:, 0], rtol=0, atol=0)
    assert velocity.dtype == torch.float32


def test_velocity_refuses_what_cannot_be_meant(tiny_model: Model) -> None:
    noise, embeddings = tiny_model.noise([0, 1]), tiny_model.encode(PROMPTS[:2])
    with pytest.raises(ValueError, match=r"\(0, 1000\]"):
        tiny_model.velocity(noise, torch.tensor([0.0, 500.0]), embeddings)
    with pytest.raises(ValueError, match="2 latents"):
        tiny_model.velocity(noise, torch.tensor([500.0]), embeddings)


def test_velocity_is_differentiable_in_latents_and_embeddings(tiny_model: Model) -> None:
    noise = tiny_model.noise([0]).requires_grad_()
    embedding = tiny_model.encode(PROMPTS[:1])[0].clone().requires_grad_()
    tiny_model.velocity(noise, torch.tensor([500.0]), [embedding]).square().sum().backward()
    assert noise.grad is not None and noise.grad.abs().sum() > 0
    assert embedding.grad is not None and (embedding.grad.abs().sum(dim=1) > 0).all()


def test_encoding_is_templated_penultimate_and_unpadded(tiny_model: Model) -> None:
    """D3: raw text, last hidden state and padding were used; here each is written out by hand."""
    tokenizer, encoder = tiny_model.pipeline.tokenizer, tiny_model.pipeline.text_encoder
    assert tokenizer.chat_template == TEMPLATE
    for prompt, embedding in zip(PROMPTS, tiny_model.encode(PROMPTS), strict=True):
        text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            states = encoder(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(embedding, states[-2][0])
        assert (embedding - states[-1][0]).abs().max() > 0.01


def test_encoding_leaves_the_callers_list_alone(tiny_model: Model) -> None:
    """D14: the pipeline templates the list it is given in place, so a second call templated twice."""
    prompts = list(PROMPTS)
    first = tiny_model.encode(prompts)
    assert prompts == PROMPTS
    for again, before in zip(tiny_model.encode(prompts), first, strict=True):
        torch.testing.assert_close(again, before, rtol=0, atol=0)


def test_sampling_leaves_no_gradient(tiny_model: Model) -> None:
    assert not tiny_model.trajectory(tiny_model.encode(PROMPTS), SEEDS).latents.requires_grad
    assert not any(parameter.requires_grad for parameter in tiny_model.transformer.parameters())
