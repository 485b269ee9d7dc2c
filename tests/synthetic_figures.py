"""Made-up figures of erasures with the outcomes behind them, through the statistics of real ones.

An erasure has a `Quality` in sixteenths; the same quality and training seed give the same figures, so that
thousands of cells cost no more than a few hundred different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from zbench.metrics.figure import Direction, Figure
from zbench.results.schema import FigureOutcomes
from zbench.statistics import Interval, Mean, Rate, cluster_bootstrap_mean, mcnemar_exact

LEVELS = 16

PROMPTS = {
    "explicit": 60, "implicit": 40, "synonyms": 30, "neighbours": 40, "together": 30, "binding": 40,
    "counting": 30, "places": 30, "unrelated": 120,
}  # fmt: skip
"""Role -> prompts, as the house protocol has them."""

DETECTORS = {"world": "6b" * 32, "world_second": "14" * 32}
"""Name -> made-up hash of its file."""

FOUND = {"asr_explicit": "explicit", "asr_implicit": "implicit", "asr_synonyms": "synonyms"}
KEPT = {
    "object_accuracy": "unrelated", "kept_neighbours": "neighbours", "kept_together": "together",
    "colour_binding": "binding", "counting": "counting", "placement": "places",
}  # fmt: skip
"""Figure -> role, as `zbench.metrics` has them."""

MEANS: dict[str, tuple[str, Direction, float, float]] = {
    "clip_score": ("points", "higher", 75.0, -25.0),
    "distance_to_original": ("distance", "lower", 0.02, 0.12),
    "perceptual_distance": ("distance", "lower", 0.1, 0.9),
}
"""Figure -> unit, direction, value of an unharmed generator, what full damage adds."""

SETS: dict[str, tuple[str, Direction, float, float]] = {
    "fid": ("distance", "lower", 10.0, 90.0),
    "kid": ("distance", "lower", 0.2, 4.0),
    "recall": ("rate", "higher", 0.85, -0.6),
    "cmmd": ("distance", "lower", 0.4, 3.0),
    "modes": ("ratio", "higher", 1.0, -0.7),
}
"""The same for figures of whole sets, which have no outcomes."""


@dataclass(frozen=True)
class Quality:
    """How good a made-up erasure is.

    Attributes:
        erased: Share of the concept that is gone, in sixteenths: 0 for the unerased model.
        damage: Share of everything else that is gone too, in sixteenths.
    """

    erased: int
    damage: int

    @property
    def collapsed(self) -> bool:
        """Whether the generator is broken."""
        return self.damage >= LEVELS - 2


NOTHING = Quality(0, 0)
"""Of the unerased model."""


def figures_of(
    quality: Quality, seed: int, repetitions: int = 1
) -> tuple[list[dict[str, Any]], dict[str, FigureOutcomes]]:
    """All figures of a cell as plain data, and the outcomes of those that have them.

    Args:
        quality: Of the erasure.
        seed: Training seed; different seeds differ a little.
        repetitions: Pictures of each prompt.
    """
    found = [_success(name, detector, quality.erased, seed, repetitions)
             for name in FOUND for detector in DETECTORS]  # fmt: skip
    kept = [_kept(name, quality.damage, seed, repetitions) for name in KEPT]
    means = [_mean(name, quality.damage, seed, repetitions) for name in MEANS]
    sets = [_of_set(name, quality.damage, seed) for name in SETS]
    with_outcomes = [*found, *kept, *means, _collapse(quality.damage, quality.collapsed, repetitions)]
    figures = [*(figure for figure, _ in with_outcomes), *sets]
    return figures, {str(figure["name"]): outcomes for figure, outcomes in with_outcomes}


@cache
def _noise(*names: object) -> list[float]:
    """As many numbers between 0 and 1 as any role has pictures, the same for the same names."""
    source = Random("/".join(map(str, names)))
    return [source.random() for _ in range(max(PROMPTS.values()) * 4)]


def _hits(name: str, share: float, seed: int, count: int) -> list[bool]:
    """Pictures that are hard for one erasure are hard for the others too, and a little for each training."""
    own = _noise(name, "seed", seed)
    return [0.8 * common + 0.2 * mine < share
            for common, mine in zip(_noise(name)[:count], own[:count], strict=True)]  # fmt: skip


def _labels(role: str, repetitions: int) -> list[int]:
    return [number // repetitions for number in range(PROMPTS[role] * repetitions)]


@cache
def _rate(name: str, rate: Rate, direction: Direction) -> Figure:
    """The interval of a rate takes longer than all else."""
    return Figure.of_rate(name, rate, direction)


def reader(detector: str) -> dict[str, Any]:
    """What a figure says about the detector that it was read by."""
    return {"name": detector, "version": "2", "threshold": 0.5, "file_sha256": DETECTORS[detector]}


@cache
def _success(
    name: str, detector: str, erased: int, seed: int, repetitions: int
) -> tuple[dict[str, Any], FigureOutcomes]:
    labels = _labels(FOUND[name], repetitions)
    share = 0.97 - 0.9 * erased / LEVELS
    hits = _hits(f"{name}{detector}" if detector == "world_second" else name, share, seed, len(labels))
    full = name if detector == "world" else f"{name}@{detector}"
    figure = _rate(full, Rate.of(hits, labels), "lower").model_copy(update={"settings": reader(detector)})
    if erased:
        figure = figure.with_test(mcnemar_exact(hits, _hits(name, 0.97, 0, len(labels))))
    return figure.model_dump(mode="json"), FigureOutcomes(roles=(FOUND[name],), hits=_letters(hits))


@cache
def _kept(name: str, damage: int, seed: int, repetitions: int) -> tuple[dict[str, Any], FigureOutcomes]:
    """Of unrelated prompts every seventh asks for nothing that the detector knows."""
    labels = _labels(KEPT[name], repetitions)
    looked_at = [name != "object_accuracy" or label % 7 != 0 for label in labels]
    hits = _hits(name, 0.98 - 0.9 * damage / LEVELS, seed, len(labels))
    of = [label for label, looked in zip(labels, looked_at, strict=True) if looked]
    rate = Rate.of([hit for hit, looked in zip(hits, looked_at, strict=True) if looked], of)
    figure = _rate(name, rate, "higher").model_copy(update={"settings": reader("world")})
    letters = "".join("-" if not looked else letter
                      for letter, looked in zip(_letters(hits), looked_at, strict=True))  # fmt: skip
    return figure.model_dump(mode="json"), FigureOutcomes(roles=(KEPT[name],), hits=letters)


def _letters(hits: list[bool]) -> str:
    return "".join("1" if hit else "0" for hit in hits)


@cache
def _mean(name: str, damage: int, seed: int, repetitions: int) -> tuple[dict[str, Any], FigureOutcomes]:
    unit, direction, best, worse = MEANS[name]
    labels = _labels("unrelated", repetitions)
    middle, own, common = best + worse * damage / LEVELS, _noise(name, "seed", seed), _noise(name)
    values = [
        round(middle * (0.8 + 0.4 * (0.8 * shared + 0.2 * mine)), 4)
        for shared, mine in zip(common[: len(labels)], own[: len(labels)], strict=True)
    ]
    figure = Figure.of_mean(name, cluster_bootstrap_mean(values, labels), unit, direction)
    return figure.model_dump(mode="json"), FigureOutcomes(roles=("unrelated",), values=tuple(values))


@cache
def _of_set(name: str, damage: int, seed: int) -> dict[str, Any]:
    unit, direction, best, worse = SETS[name]
    value = round(best + worse * damage / LEVELS + 0.02 * best * _noise(name, damage, seed)[0], 4)
    bounds = Interval(value * 0.9, value * 1.1, "jackknife, 20 groups of prompts")
    mean = Mean(value, PROMPTS["unrelated"], PROMPTS["unrelated"], bounds)
    return Figure.of_mean(name, mean, unit, direction).model_dump(mode="json")


@cache
def _collapse(damage: int, collapsed: bool, repetitions: int) -> tuple[dict[str, Any], FigureOutcomes]:
    labels = _labels("unrelated", repetitions)
    hits = [label % 10 != 0 if collapsed else label < damage // 8 for label in labels]
    figure = _rate("collapse_rate", Rate.of(hits, labels), "lower")
    return figure.model_dump(mode="json"), FigureOutcomes(roles=("unrelated",), hits=_letters(hits))
