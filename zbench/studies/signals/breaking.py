"""Pictures broken on purpose, in known ways and strengths."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Split = Literal["tuning", "validation"]
Break = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""float [N, 3, H, W] from 0 to 255 and a source of randomness, to the same; clamped afterwards."""

_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Breakage:
    """One way of breaking pictures.

    Attributes:
        group: Kind of damage.
        label: With its strength, as the table prints it.
        split: ``tuning``: looked at while the rules were chosen; ``validation``: drawn up afterwards.
        promised: Whether at least 99 % must be flagged; weaker kinds are measured only.
        change: What it does.
    """

    group: str
    label: str
    split: Split
    promised: bool
    change: Break

    def apply(self, pictures: Tensor, seed: int) -> Tensor:
        """Breaks pictures.

        Args:
            pictures: uint8 [N, 3, H, W].
            seed: Of everything random.

        Returns:
            uint8 [N, 3, H, W].
        """
        import torch

        generator = torch.Generator().manual_seed(seed)
        broken = self.change(pictures.float(), generator)
        return broken.round().clamp(0, 255).to(torch.uint8)


def noise(sigma: float, grey: bool = False) -> Break:
    """White noise added to the picture, sigma in grey levels of 255; the same in all channels for `grey`."""

    def change(pictures: Tensor, generator: torch.Generator) -> Tensor:
        drawn = _normal(pictures, generator)
        return pictures + sigma * (drawn[:, :1] if grey else drawn)

    return change


def nothing_but_noise(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform white noise in place of the picture."""
    import torch

    return 255 * torch.rand(pictures.shape, generator=generator)


def salt_and_pepper(share: float) -> Break:
    """A share of the pixels black or white."""

    def change(pictures: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.rand(pictures[:, :1].shape, generator=generator)
        peppered = torch.where(drawn < share / 2, torch.zeros_like(pictures), pictures)
        return torch.where(drawn > 1 - share / 2, torch.full_like(pictures, 255.0), peppered)

    return change


def blotches(side: int) -> Break:
    """Smooth coloured noise in place of the picture, blotches of some pixels' side."""

    def change(pictures: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        count, channels, height, width = pictures.shape
        coarse = torch.randn(
            count, channels, max(2, height // side), max(2, width // side), generator=generator
        )
        smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
        return 128 + 60 * smooth

    return change


def one_colour(wobble: float = 0.0) -> Break:
    """A random colour for each picture, with a random error of `wobble` grey levels."""

    def change(pictures: Tensor, generator: torch.Generator) -> Tensor:
        return _colour(pictures, generator).expand_as(pictures) + wobble * _normal(pictures, generator)

    return change


def grey(level: float) -> Break:
    """The same grey (0 black, 255 white) everywhere; a generator that computes NaN draws black."""
    import torch

    return lambda pictures, _: torch.full_like(pictures, level)


def checkerboard(period: int, stripes: bool = False) -> Break:
    """Fields of two random colours, `period` pixels wide; or stripes."""

    def change(pictures: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        down, across = (torch.arange(side) // period for side in pictures.shape[2:])
        fields = ((down[:, None] * (0 if stripes else 1) + across[None, :]) % 2).float()
        first, second = _colour(pictures, generator), _colour(pictures, generator)
        return first + (second - first) * fields

    return change


def fried(contrast: float, saturation: float) -> Break:
    """Saturation and contrast multiplied."""

    def change(pictures: Tensor, _: torch.Generator) -> Tensor:
        import torch

        luminance = (pictures * torch.tensor(_WEIGHTS)[:, None, None]).sum(dim=1, keepdim=True)
        return contrast * (luminance + saturation * (pictures - luminance) - 128) + 128

    return change


def sharpened(gain: float) -> Break:
    """`gain` times the difference from a 5 x 5 mean added."""

    def change(pictures: Tensor, _: torch.Generator) -> Tensor:
        import torch

        padded = torch.nn.functional.pad(pictures, (2, 2, 2, 2), mode="reflect")
        return pictures + gain * (pictures - torch.nn.functional.avg_pool2d(padded, 5, stride=1))

    return change


def blurred(sigma: float) -> Break:
    """Gaussian blur; sigma in pixels."""

    def change(pictures: Tensor, _: torch.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional as transform

        size = 2 * min(round(3 * sigma), (min(pictures.shape[2:]) - 1) // 2) + 1
        changed: Tensor = transform.gaussian_blur(pictures, [size, size], [sigma, sigma])
        return changed

    return change


def compressed(quality: int) -> Break:
    """JPEG, whose blocks show at low quality."""

    def change(pictures: Tensor, _: torch.Generator) -> Tensor:
        import torch

        return torch.stack([_jpeg(picture, quality) for picture in pictures])

    return change


def _jpeg(picture: Tensor, quality: int) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    buffer = io.BytesIO()
    pixels = picture.permute(1, 2, 0).numpy().astype(np.uint8)
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as image:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()


def blocks(side: int) -> Break:
    """Mean colours of square blocks."""

    def change(pictures: Tensor, _: torch.Generator) -> Tensor:
        import torch

        means = torch.nn.functional.avg_pool2d(pictures, side)
        return torch.nn.functional.interpolate(means, size=pictures.shape[2:], mode="nearest")

    return change


def dimmed(gain: float, towards: float) -> Break:
    """Contrast divided, towards a grey level: washed out (128) or dark (0)."""
    return lambda pictures, _: towards + gain * (pictures - towards)


def _normal(pictures: Tensor, generator: torch.Generator) -> Tensor:
    import torch

    return torch.randn(pictures.shape, generator=generator)


def _colour(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A random colour for each picture, [N, 3, 1, 1]."""
    import torch

    return 255 * torch.rand(len(pictures), 3, 1, 1, generator=generator)


def _both(split: Split, promised: bool, group: str, kinds: dict[str, Break]) -> list[Breakage]:
    return [Breakage(group, label, split, promised, change) for label, change in kinds.items()]


BREAKAGES: tuple[Breakage, ...] = (
    *_both("tuning", True, "noise", {
        "added, sigma 15": noise(15), "added, sigma 20": noise(20), "added, sigma 30": noise(30),
        "added, sigma 40": noise(40), "added, sigma 60": noise(60), "nothing else": nothing_but_noise,
        "salt and pepper 5 %": salt_and_pepper(0.05), "salt and pepper 20 %": salt_and_pepper(0.2),
        "blotches of 2 pixels": blotches(2), "blotches of 4 pixels": blotches(4),
    }),
    *_both("tuning", True, "constant", {
        "one colour": one_colour(), "one colour, sigma 0.5": one_colour(0.5), "black": grey(0),
        "white": grey(255), "mid grey": grey(128),
    }),
    *_both("tuning", True, "pattern", {
        "checkerboard 1": checkerboard(1), "checkerboard 2": checkerboard(2),
        "checkerboard 4": checkerboard(4), "checkerboard 8": checkerboard(8),
        "checkerboard 16": checkerboard(16), "stripes 3": checkerboard(3, stripes=True),
    }),
    *_both("tuning", True, "fried", {
        "contrast x 3.5, saturation x 3.5": fried(3.5, 3.5), "contrast x 4, saturation x 4": fried(4, 4),
        "contrast x 5, saturation x 3": fried(5, 3), "contrast x 8, saturation x 8": fried(8, 8),
        "contrast x 5": fried(5, 1), "contrast x 6": fried(6, 1),
    }),
    *_both("tuning", False, "fried a little", {
        "contrast x 1.5, saturation x 1.5": fried(1.5, 1.5), "contrast x 2": fried(2, 1),
        "contrast x 2.5": fried(2.5, 1), "contrast x 3": fried(3, 1), "saturation x 2": fried(1, 2),
        "saturation x 3": fried(1, 3), "saturation x 5": fried(1, 5), "sharpened x 4": sharpened(4),
    }),
    *_both("tuning", False, "smooth blotches", {
        "of 6 pixels": blotches(6), "of 8 pixels": blotches(8), "of 16 pixels": blotches(16),
    }),
    *_both("tuning", False, "blur", {
        "sigma 2": blurred(2), "sigma 3": blurred(3), "sigma 4": blurred(4), "sigma 8": blurred(8),
    }),
    *_both("tuning", False, "blocks", {
        "JPEG, quality 3": compressed(3), "JPEG, quality 5": compressed(5),
        "JPEG, quality 10": compressed(10), "4 pixels": blocks(4), "8 pixels": blocks(8),
        "16 pixels": blocks(16),
    }),
    *_both("tuning", False, "dim", {"washed out": dimmed(0.25, 128), "dark": dimmed(0.25, 0)}),
    *_both("validation", True, "noise", {
        "added, sigma 18": noise(18), "added, sigma 25": noise(25), "added, sigma 50": noise(50),
        "grey, sigma 25": noise(25, grey=True), "salt and pepper 3 %": salt_and_pepper(0.03),
        "salt and pepper 10 %": salt_and_pepper(0.1), "nothing else, again": nothing_but_noise,
        "blotches of 3 pixels": blotches(3),
    }),
    *_both("validation", True, "constant", {
        "one colour, again": one_colour(), "one colour, sigma 1": one_colour(1.0),
        "nearly black": grey(3), "nearly white": grey(251),
    }),
    *_both("validation", True, "pattern", {
        "checkerboard 3": checkerboard(3), "checkerboard 5": checkerboard(5),
        "stripes 2": checkerboard(2, stripes=True), "stripes 8": checkerboard(8, stripes=True),
    }),
    *_both("validation", True, "fried", {
        "contrast x 4, saturation x 2.5": fried(4, 2.5), "contrast x 3, saturation x 6": fried(3, 6),
        "contrast x 4.5, saturation x 4.5": fried(4.5, 4.5), "contrast x 7": fried(7, 1),
    }),
    *_both("validation", False, "fried a little", {
        "contrast x 2, saturation x 2": fried(2, 2), "contrast x 2.2": fried(2.2, 1),
        "saturation x 4": fried(1, 4), "saturation x 8": fried(1, 8), "sharpened x 6": sharpened(6),
    }),
    *_both("validation", False, "smooth blotches", {
        "of 5 pixels": blotches(5), "of 12 pixels": blotches(12),
    }),
    *_both("validation", False, "blur", {"sigma 2.5": blurred(2.5), "sigma 5": blurred(5)}),
    *_both("validation", False, "blocks", {"JPEG, quality 7": compressed(7), "5 pixels": blocks(5)}),
    *_both("validation", False, "dim", {"washed out, 0.3": dimmed(0.3, 128), "dark, 0.3": dimmed(0.3, 0)}),
)  # fmt: skip
"""Kinds whose results were looked at while the rules were chosen are *tuning*; the others were drawn up after
the rules were fixed, and must not be used to change them."""
