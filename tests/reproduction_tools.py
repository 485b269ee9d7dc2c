"""Made-up results of the paper's grids: planned by the real ones, in the real schema, with chosen figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zbench.metrics.robustness import AttackRecord
from zbench.reproduction.grids import Options, table_runs
from zbench.reproduction.reading import Measured, read_measured
from zbench.reproduction.sources import Find
from zbench.reproduction.tables import ORIGINAL, load_table
from zbench.results.schema import (
    ConceptFacts,
    FigureOutcomes,
    MethodFacts,
    ModelFacts,
    PromptFacts,
    PublishedResult,
    Release,
)
from zbench.runner.planning import plan
from zbench.runner.specs import CellResult, CellSpec
from zbench.statistics import Rate

PROMPTS = {"explicit": 60, "implicit": 40, "neighbours": 36, "unrelated": 120}
OPTIONS = Options("miniature")


@dataclass(frozen=True)
class Quality:
    """What a row of a made-up table is like, in shares and in the unerased model's own figures.

    Attributes:
        shown: Share of pictures that still show the concept.
        clip: CLIP score.
        fid: FID.
        acc_e: 100 x cosine on the erased concept.
        acc_ir: On others.
        attacked: Attack and control -> share of prompts that it breaks.
        collapsed: Whether the generator is broken.
        collapsed_in: Trainings whose generator is broken, where not all are.
        missing: Trainings that nobody has run.
        spread: Difference from one training to the next, relative.
        width: Half of the interval of a figure of a whole set, relative.
    """

    shown: float = 0.9
    clip: float = 30.0
    fid: float = 10.0
    acc_e: float = 35.0
    acc_ir: float = 30.0
    attacked: Mapping[str, float] = field(default_factory=dict)
    collapsed: bool = False
    collapsed_in: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    spread: float = 0.01
    width: float = 0.05

    def varied(self, value: float, seed: int | None) -> float:
        """A value as one training has it."""
        return value if seed is None else value * (1 + self.spread * (seed - 1))


Qualities = Callable[[str, str], Quality | None]
"""Row and concept -> what it is like; None for a cell that nobody has run."""


def measured(table: str, qualities: Qualities, options: Options = OPTIONS) -> Measured:
    """A table with made-up results."""
    return read_measured(load_table(table), options, find_of(table, qualities, options))


def find_of(table: str, qualities: Qualities, options: Options = OPTIONS) -> Find:
    """Looks planned cells up among made-up results."""
    known: dict[str, PublishedResult] = {}
    for run in table_runs(load_table(table), options):
        for spec in plan(run.config):
            quality = qualities(run.rows.get(spec.method, ORIGINAL), run.concept)
            if quality is not None and spec.training_seed not in quality.missing:
                known[spec.model_dump_json()] = result_of(spec, quality)
    return lambda spec: known.get(spec.model_dump_json())


def result_of(spec: CellSpec, quality: Quality) -> PublishedResult:
    """A published result of a planned cell."""
    seed, outcomes = spec.training_seed, dict[str, FigureOutcomes]()
    shown = quality.varied(quality.shown, seed)
    figures = [_rate("asr_implicit", "implicit", shown, outcomes)]
    broken = quality.collapsed or seed in quality.collapsed_in
    figures += [_rate("collapse_rate", "unrelated", 0.9 if broken else 0.0, outcomes)]
    figures += [_mean("clip_score", quality.varied(quality.clip, seed), outcomes)]
    acc_e, acc_ir = quality.varied(quality.acc_e, seed), quality.varied(quality.acc_ir, seed)
    sets = {"fid": quality.varied(quality.fid, seed), "acc_e_score": acc_e, "acc_ir_score": acc_ir}
    sets["h_a_score"] = acc_ir - acc_e
    figures += [_plain(name, value, quality.width) for name, value in sets.items()]
    attacks = tuple(_attack(each.name, quality, seed, outcomes) for each in spec.attacks)
    return PublishedResult(
        result=CellResult(
            id="-".join([spec.method, spec.concept, str(seed), *(each.name for each in spec.attacks)]),
            spec=spec,
            status="done",
            figures=tuple(figures),
            verdict={"collapsed": broken, "destroyed": False},
            provenance={"protocol": f"{spec.protocol} v1"},
            attacks=attacks,
        ),
        model=ModelFacts(
            name="miniature", label="miniature", domain="world", weights="sha256:0", dtype="float32",
            height=64, width=64, steps=8, guidance_scale=0,
        ),
        concept=ConceptFacts(name=spec.concept, family="nsfw"),
        method=MethodFacts(name=spec.method),
        release=Release(version="0"),
        prompts={role: PromptFacts(set=role, sha256="0" * 64, prompts=of) for role, of in PROMPTS.items()},
        outcomes=outcomes,
    )  # fmt: skip


def _rate(name: str, role: str, share: float, outcomes: dict[str, FigureOutcomes]) -> dict[str, Any]:
    total = PROMPTS[role]
    hits = [place < round(share * total) for place in range(total)]
    outcomes[name] = FigureOutcomes(roles=(role,), hits="".join("01"[hit] for hit in hits))
    interval = Rate.of(hits, range(total)).interval()
    assert interval is not None
    own = {"name": name, "value": sum(hits) / total, "n": sum(hits), "N": total, "unit": "rate"}
    return {**own, "direction": "lower", "low": interval.low, "high": interval.high}


def _mean(name: str, value: float, outcomes: dict[str, FigureOutcomes]) -> dict[str, Any]:
    values = tuple(round(value + (place % 5 - 2) * 0.5, 6) for place in range(PROMPTS["unrelated"]))
    outcomes[name] = FigureOutcomes(roles=("unrelated",), values=values)
    mean = sum(values) / len(values)
    return {**_plain(name, mean), "direction": "higher", "N": len(values)}


def _plain(name: str, value: float, width: float = 0.05) -> dict[str, Any]:
    half = abs(value) * width
    bounds = {"low": value - half, "high": value + half, "direction": "lower"}
    return {"name": name, "value": value, "n": None, "N": 120, "unit": "points", **bounds}


def _attack(
    name: str, quality: Quality, seed: int | None, outcomes: dict[str, FigureOutcomes]
) -> AttackRecord:
    shares = {
        "attack_pre": quality.shown,
        "attack_post": quality.attacked.get(name, quality.shown),
        "control_post": quality.attacked.get(f"{name} control", quality.shown),
    }
    found: dict[str, FigureOutcomes] = {}
    figures = [
        _rate(figure, "explicit", quality.varied(share, seed), found) for figure, share in shares.items()
    ]
    outcomes.update({f"{name}/{figure}": each for figure, each in found.items()})
    return AttackRecord(
        attack=name, label=name, knowledge="text", status="done", prompts=60, figures=tuple(figures)
    )
