"""Which fine-tunings are run: a full factorial of the two-level factors, and contrasts around naive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

from zbench.studies.collapse.conventions import Convention, Embeddings, Latents, Time

FACTORS: dict[str, tuple[Any, Any]] = {
    "rows": ("text", "all"),
    "preservation": (True, False),
    "time": ("right", "released"),
    "latents": ("trajectory", "noise"),
}
"""Factor -> its level in the paper's method, and the one that is suspected."""

RELEASED_TARGETS = ("to_q", "to_k")
SEEDS = 3
"""Training seeds of the naive run: how far equal settings lie apart."""

LONG = 3
SLOW, FAST = 0.2, 4.0
"""Factors of the learning rate."""


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    Attributes:
        rows: Which rows the adapters see.
        preservation: Whether L_pr is added, with weight 1.
        time: See `Convention`.
        latents: See `Convention`.
        embeddings: See `Convention`.
        eta: Negative guidance of the erase target.
        reference: What the target starts from: the empty prompt (paper) or the anchor prompts.
        attention: Whether L_attn is added.
        learning_rate: Of AdamW.
        steps: Optimiser steps.
        targets: Projections with an adapter.
        top_layers: Adapters in so many layers, the highest localisation scores first; in all if None.
        seed: Training seed.
    """

    rows: Literal["text", "all"] = "all"
    preservation: bool = False
    time: Time = "right"
    latents: Latents = "trajectory"
    embeddings: Embeddings = "right"
    eta: float = 2.0
    reference: Literal["empty", "anchor"] = "empty"
    attention: bool = False
    learning_rate: float = 1e-3
    steps: int = 200
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v")
    top_layers: int | None = None
    seed: int = 0

    @property
    def convention(self) -> Convention:
        """Its time, latents and embeddings."""
        return Convention(self.time, self.latents, self.embeddings)

    def describe(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"targets": list(self.targets)}


@dataclass(frozen=True)
class Planned:
    """A run and why it is there.

    Attributes:
        group: ``factorial``, or the name of the setting that is changed.
        label: What is different, as a table prints it.
        run: The settings.
        scales: Strengths at which pictures are drawn.
    """

    group: str
    label: str
    run: Run
    scales: tuple[float, ...]


def make_plan(
    learning_rate: float,
    steps: int,
    eta: float,
    released_scale: float,
    curve: tuple[float, ...],
    training_seeds: int,
) -> list[Planned]:
    """Everything that is run, the naive run among the factorial's.

    Args:
        learning_rate: Of all runs but the contrasts of the learning rate.
        steps: Of all runs but the long one.
        eta: Of all runs but the gentle ones.
        released_scale: Strength at inference that every run is drawn at, beside 1.
        curve: Further strengths for the naive run and for its twin on text rows.
        training_seeds: Of every cell of the factorial; three are what a claim about settings needs.
    """
    both = tuple(dict.fromkeys((1.0, released_scale)))
    naive = Run(learning_rate=learning_rate, steps=steps, eta=eta)
    planned = [
        Planned("factorial", label_of(run), run, _scales(run, naive, both, curve))
        for run in _factorial(naive, training_seeds)
    ]
    planned += [Planned(group, label, run, both) for group, label, run in _contrasts(naive, training_seeds)]
    return planned


def _factorial(naive: Run, training_seeds: int) -> Iterator[Run]:
    for seed in range(training_seeds):
        for levels in product(*FACTORS.values()):
            yield replace(naive, **dict(zip(FACTORS, levels, strict=True)), seed=seed)


def _scales(run: Run, naive: Run, both: tuple[float, ...], curve: tuple[float, ...]) -> tuple[float, ...]:
    shown = run in (naive, replace(naive, rows="text"))
    return tuple(sorted({*both, *curve})) if shown else both


def _contrasts(naive: Run, training_seeds: int) -> Iterator[tuple[str, str, Run]]:
    rate, released = naive.learning_rate, {"time": "released", "latents": "noise", "embeddings": "released"}
    for seed in range(training_seeds, SEEDS):
        yield "training seed", f"training seed {seed}", replace(naive, seed=seed)
    for factor in (SLOW, FAST):
        label = f"learning rate {factor * rate:g}"
        yield "learning rate", label, replace(naive, learning_rate=factor * rate)
    yield "steps", f"{LONG * naive.steps} steps", replace(naive, steps=LONG * naive.steps)
    yield "target", f"eta {naive.eta / 2:g}", replace(naive, eta=naive.eta / 2)
    yield "target", "towards the anchor, eta 0 (the release's)", replace(naive, reference="anchor", eta=0.0)
    yield "loss", "with attention loss", replace(naive, attention=True)
    for count in (1, 3):
        layers = "layer" if count == 1 else f"{count} layers"
        yield "layers", f"only the top {layers}", replace(naive, top_layers=count)
    yield "projections", "to_q and to_k only", replace(naive, targets=RELEASED_TARGETS)
    yield "embeddings", "released embeddings", replace(naive, embeddings="released")
    for rows in ("all", "text"):
        together: dict[str, Any] = {**released, "rows": rows, "targets": RELEASED_TARGETS}
        yield "everything", f"all released conventions, {rows} rows", replace(naive, **together)


def label_of(run: Run) -> str:
    """The levels of the two-level factors in words."""
    kept = "preserved" if run.preservation else "not preserved"
    time = "time right" if run.time == "right" else "time released"
    return f"{run.rows} rows, {kept}, {time}, {run.latents}"


def level_name(level: bool | str) -> str:
    """A factor's level as a page prints it."""
    return level if isinstance(level, str) else "on" if level else "off"


def naive_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The naive run with the first training seed, among the study's `runs`."""
    levels = {name: getattr(Run(), name) for name in (*FACTORS, "seed")}
    return next(
        row
        for row in rows
        if row["group"] == "factorial" and all(row["run"][name] == level for name, level in levels.items())
    )


def changes(run: Mapping[str, Any], naive: Mapping[str, Any]) -> list[str]:
    """Settings in which two described runs differ, their training seeds left out."""
    return [name for name in naive if name != "seed" and run[name] != naive[name]]
