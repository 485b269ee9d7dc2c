"""Small instruments for tests: a random CLIP, a detector that reads colours, pictures with some structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zbench.detectors.base import Detector, Progress
from zbench.metrics.clip import Clip
from zbench.stages.samples import Sample, SamplesView

WIDTH = 16
CONTEXT = 24


def tiny_clip(seed: int = 0, image_size: int = 32) -> Clip:
    """A random CLIP of open_clip's stock class, texts encoded as bytes."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=WIDTH,
        vision_cfg={"image_size": image_size, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        text_cfg={"context_length": CONTEXT, "vocab_size": 256, "width": 32, "heads": 2, "layers": 2},
    )
    digest = f"{seed:x}" * 64
    return Clip(model, byte_tokens, digest[:64])


def byte_tokens(texts: list[str]) -> Tensor:
    """int64 [N, CONTEXT]; 255 ends a text (open_clip pools at the largest id)."""
    rows = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        codes = list(text.encode())[: CONTEXT - 1]
        row[: len(codes)] = torch.tensor(codes)
        row[len(codes)] = 255
    return rows


class ColourDetector(Detector):
    """Scores the share of each colour channel: `red` and `green` are its concepts."""

    def __init__(
        self, name: str = "colour", classes: Sequence[str] = ("red", "green"), gain: float = 1.0
    ) -> None:
        self.name, self.version, self.file_sha256 = name, "1", "0" * 64
        self.classes, self.threshold, self.gain = tuple(classes), 0.5, gain
        self.calls: list[int] = []

    def scores(self, pictures: Tensor, progress: Progress | None = None) -> NDArray[np.float32]:
        """Mean of each channel over 255."""
        self.calls.append(len(pictures))
        if progress is not None:
            progress(len(pictures), len(pictures))
        means = pictures.float().mean(dim=(2, 3))[:, : len(self.classes)] / 255 * self.gain
        result: NDArray[np.float32] = means.clamp(0, 1).numpy()
        return result


def drawn_pictures(count: int, size: int = 32, seed: int = 0, red: float | None = None) -> Tensor:
    """uint8 [count, 3, size, size]: a gradient with a few soft discs on it; `red` fixes the red channel's
    level."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    pictures = np.zeros((count, 3, size, size))
    for picture in pictures:
        background, slope = rng.uniform(0.2, 0.7, 3), rng.uniform(-0.2, 0.2, (2, 3))
        picture[:] = (background + x[..., None] * slope[0] + y[..., None] * slope[1]).transpose(2, 0, 1)
        for _ in range(rng.integers(1, 4)):
            cx, cy, radius = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.25)
            inside = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) * size))
            picture += inside * (rng.uniform(0.1, 0.9, 3)[:, None, None] - picture)
        if red is not None:
            picture[0] = red + 0.05 * (picture[0] - picture[0].mean())
    return torch.from_numpy((pictures.clip(0, 1) * 255).round().astype(np.uint8))


def described(count: int, role: str, repetitions: int = 1, **more: Any) -> list[Sample]:
    """`count` descriptions of pictures, `repetitions` for each prompt."""
    return [
        Sample(
            prompt_id=f"{role}-{i // repetitions}", prompt=f"{role} number {i // repetitions}", role=role,
            repetition=i % repetitions, seed=1000 + i, prompt_set=f"set-{role}", **more,
        )
        for i in range(count)
    ]  # fmt: skip


def view_of(pictures: dict[str, Tensor], repetitions: int = 1, **more: Any) -> SamplesView:
    """A view with the given pictures for each role, not read from disk."""
    samples = [s for role, part in pictures.items() for s in described(len(part), role, repetitions, **more)]
    stacked = torch.cat(list(pictures.values()))
    hashed = [
        s.model_copy(update={"sha256": f"{int(p.long().sum())}-{i}"})
        for i, (s, p) in enumerate(zip(samples, stacked, strict=True))
    ]
    return SamplesView(tuple(hashed), stacked)
