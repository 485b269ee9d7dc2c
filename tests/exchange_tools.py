"""What tests of exports and imports need: methods that cost nothing, and runs of them on a tiny model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.runner_tools import recorded_run
from zbench.config import RunConfig
from zbench.model import Model
from zbench.runner import RunResult
from zbench.runner.specs import CellResult

METHODS = '''
"""Random edits under the names of methods."""

import torch

from zbench.edits import ComposedEdit, DeltaEdit, LoraEdit, TokenZeroingEdit
from zbench.erasure import Cost, Erasure
from zbench.method import Method, MethodCard

CARD = MethodCard(title="Random", paper="none", arxiv="", reference_code_licence="none released", rows="text",
                  weights="some", needs_training=False, needs_pictures=False)


def random_lora(model, seed, rows):
    edit = LoraEdit(rank=2, alpha=5.0, targets=("to_q", "to_out.0", "feed_forward.w2"), rows=rows, seed=seed)
    with model.edited(edit):
        pass
    generator = torch.Generator().manual_seed(seed)
    for factor in edit.parameters():
        factor.data = 0.3 * torch.randn(factor.shape, generator=generator)
        factor.requires_grad_(False)
    return edit


class Text(Method):
    name = "text"
    card = CARD
    presets = {}

    def edit(self, model):
        return random_lora(model, 1, "text")

    def erase(self, model, concept, *, progress=None):
        cost = Cost(seconds=1.5, forwards=3)
        fields = self.model_dump(mode="json")
        return Erasure(self.edit(model), self.name, concept.name, fields, cost)


class Everywhere(Text):
    name = "everywhere"

    def edit(self, model):
        return random_lora(model, 2, "all")


class Delta(Text):
    name = "delta"

    def edit(self, model):
        linear = model.transformer.layers[0].attention.to_v
        delta = 0.5 * torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(3))
        return DeltaEdit({"layers.0.attention.to_v": delta})


class Both(Text):
    name = "both"

    def edit(self, model):
        return ComposedEdit([Delta.edit(self, model), Text.edit(self, model)])


class Tokens(Text):
    name = "tokens"

    def edit(self, model):
        return TokenZeroingEdit(("nude", "naked", "person"))
'''

ALL = ("text", "everywhere", "delta", "both", "tokens")


def config_of(model: Path, out: Path, *methods: str, **more: Any) -> RunConfig:
    fields: dict[str, Any] = {
        "concept": "nudity", "model": str(model), "out": out, "prompts": 2, "steps": 1, "device": "cpu",
        "protocol": "tuning", "methods": methods,
    }  # fmt: skip
    return RunConfig.create({**fields, **more})


def made(model: Path, folder: Path, *methods: str) -> RunResult:
    """A run of the methods above."""
    plugin = folder / "random_edits.py"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(METHODS)
    return recorded_run(config_of(model, folder / "runs", *methods, plugins=(plugin,)))[0]


def imported(model: Path, out: Path, *methods: str, **more: Any) -> RunResult:
    return recorded_run(config_of(model, out, *methods, **more))[0]


def row(result: RunResult, label: str) -> CellResult:
    return next(cell for cell in result.cells if cell.spec.label == label)


def pictures(result: RunResult, label: str) -> list[str]:
    """Hashes of all pictures of a row, in order."""
    stages = row(result, label).stages
    places = [result.root / place for stage, place in stages.items() if stage.startswith("pictures ")]
    return [
        sample["sha256"]
        for place in places
        for sample in json.loads((place / "manifest.json").read_text())["samples"]
    ]


def drawn_by(pipeline: Any, model: Model, prompts: list[str], seeds: list[int]) -> list[str]:
    """Hashes of what a stock pipeline draws, one picture at a time, sampled as a model says."""
    hashes = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        [picture] = pipeline(
            prompt, height=model.spec.height, width=model.spec.width, num_inference_steps=2,
            guidance_scale=model.spec.guidance_scale, max_sequence_length=model.spec.max_sequence_length,
            latents=model.noise([seed]), output_type="pt",
        ).images  # fmt: skip
        values = (picture.float() * 255).round().to(torch.uint8)
        hashes.append(digest(values))
    return hashes


def digest(picture: torch.Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture.cpu().numpy())).hexdigest()
