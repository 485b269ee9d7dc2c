"""The seams without weights: embeddings, attention, velocity; each acts everywhere, detaches exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from tests.test_edits_lora import filled, random_call
from zbench.edits import AttentionEdit, ComposedEdit, ConditioningEdit, LoraEdit, VelocityEdit, load_edit
from zbench.model import Model


class Scaled(ConditioningEdit):
    """Embeddings times a factor, for one prompt."""

    kind = "test-scaled"

    def __init__(self, prompt: str, factor: float) -> None:
        super().__init__()
        self.prompt, self.factor = prompt, factor

    def settings(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "factor": self.factor}

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        return [e * self.factor if p == self.prompt else e for e, p in zip(embeddings, prompts, strict=True)]

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)


class Zeroed(AttentionEdit):
    """Layer 1 attends to nothing."""

    kind = "test-zeroed"

    def wrap(self, layer: int, processor: Any, model: Model) -> Any:
        if layer != 1:
            return processor
        return lambda attention, hidden_states, **kwargs: torch.zeros_like(hidden_states)

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls()


class Guided(VelocityEdit):
    """Pushes away from a caption: v - s (v(other) - v)."""

    kind = "test-guided"

    def __init__(self, other: Tensor) -> None:
        super().__init__()
        self.other = other

    def edit_velocity(
        self,
        velocity: Tensor,
        latents: Tensor,
        timesteps: Tensor,
        embeddings: list[Tensor],
        predict: Callable[[list[Tensor]], Tensor],
    ) -> Tensor:
        return velocity - 2 * (predict([self.other] * len(latents)) - velocity)

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        raise NotImplementedError


def test_conditioning_acts_in_encode_and_in_pictures(tiny_model: Model, tmp_path: Path) -> None:
    prompts, plain = ["a red car", "a house"], tiny_model.generate(["a red car", "a house"], [1, 1], steps=2)
    before = tiny_model.encode(prompts)
    edit = Scaled("a house", -1.0)
    with tiny_model.edited(edit):
        during = tiny_model.encode(prompts)
        pictures = tiny_model.generate(prompts, [1, 1], steps=2)
    assert torch.equal(during[0], before[0]) and torch.equal(during[1], -before[1])
    assert torch.equal(pictures[0], plain[0]) and not torch.equal(pictures[1], plain[1])
    assert torch.equal(tiny_model.encode(prompts)[1], before[1])
    edit.save(tmp_path / "edit", tiny_model)
    with tiny_model.edited(load_edit(tmp_path / "edit")):
        assert torch.equal(tiny_model.encode(prompts)[1], -before[1])


def test_attention_edit_swaps_processors_and_puts_them_back(tiny_model: Model) -> None:
    call = random_call(tiny_model, (12, 20), [3, 50], 1)
    processors = [layer.attention.processor for layer in tiny_model.transformer.layers]
    with torch.no_grad():
        before = tiny_model.velocity(*call)
        with tiny_model.edited(Zeroed()):
            assert not torch.equal(tiny_model.velocity(*call), before)
        assert torch.equal(tiny_model.velocity(*call), before)
    assert all(
        layer.attention.processor is p
        for layer, p in zip(tiny_model.transformer.layers, processors, strict=True)
    )


def test_velocity_edit_acts_on_every_call_and_its_cost_is_counted(tiny_model: Model) -> None:
    embeddings = tiny_model.encode(["a red car", "a house"])
    other = tiny_model.encode(["a nude person"])[0]
    noise, time = tiny_model.noise([1, 2]), torch.tensor([700.0, 700.0])
    with torch.no_grad():
        plain, away = (
            tiny_model.velocity(noise, time, embeddings),
            tiny_model.velocity(noise, time, [other, other]),
        )
        picture = tiny_model.generate(["a red car"], [1], steps=1)
        forwards = tiny_model.counter.forwards
        with tiny_model.edited(Guided(other)):
            torch.testing.assert_close(
                tiny_model.velocity(noise, time, embeddings), plain - 2 * (away - plain)
            )
            assert tiny_model.counter.forwards == forwards + 2
            assert not torch.equal(tiny_model.generate(["a red car"], [1], steps=1), picture)
        assert torch.equal(tiny_model.velocity(noise, time, embeddings), plain)


def test_all_seams_compose_and_leave_nothing_behind(tiny_model: Model) -> None:
    lora = filled(LoraEdit(2), tiny_model)
    everything = ComposedEdit([Scaled("a house", 2.0), lora, Zeroed(), Guided(tiny_model.encode(["a"])[0])])
    plain = tiny_model.generate(["a house"], [1], steps=2)
    with tiny_model.edited(everything):
        assert everything.rows == "all" and len(everything.parameters()) == len(lora.parameters())
        assert not torch.equal(tiny_model.generate(["a house"], [1], steps=2), plain)
    assert torch.equal(tiny_model.generate(["a house"], [1], steps=2), plain)
