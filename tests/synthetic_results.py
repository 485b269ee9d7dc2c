"""Made-up trees of results: any number of methods, concepts and training seeds, through the real schema.

Everything follows from a `Plan`; no figure says anything about a real method. Every rate follows from its
outcomes, every hash of a sprite from its bytes, so that checks over a tree pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Literal

from tests.synthetic_attacks import attack_outcomes, records
from tests.synthetic_figures import DETECTORS, LEVELS, NOTHING, PROMPTS, Quality, figures_of, reader
from tests.synthetic_pictures import COLUMNS, SIDE, sprite
from zbench.config import ORIGINAL
from zbench.erasure import Cost
from zbench.method import MethodCard
from zbench.metrics.robustness import AttackRecord
from zbench.results.form import to_text
from zbench.results.schema import (
    ConceptFacts,
    FigureOutcomes,
    Gallery,
    MethodFacts,
    ModelFacts,
    PromptFacts,
    PublishedResult,
    Release,
    ShownPicture,
    Trace,
)
from zbench.runner.specs import AttackSpec, CellResult, CellSpec
from zbench.store import safe_name

CONCEPTS = {
    "nudity": "nsfw", "van-gogh": "style", "cat": "entity", "hug": "abstraction", "mira-solen": "identity",
}  # fmt: skip
"""The first concepts of a tree with their families; later ones go through the families in turn."""

METHODS = ("uce", "zerase", "naive", "token_zeroing", "ac")
"""The first methods of a tree; later ones are numbered."""

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "quotes ' and \" and ` and \\ and </script><!--",
    "\u202eright to left\u202c שלום עולם مرحبا",
    "🦊 👩‍👩‍👧 emoji, Zalgo z\u0351\u036b\u0343, 100% & $x_1$ #tag {{ 7 * 7 }} {% raw %}",
    "javascript:window.hacked=1 \t tab &lt;b&gt; &amp;",
)
"""Texts that a page, a table or a shell must show as what they are."""

HOSTILE_METHODS = ("a_b%&$#{}~^", "<b>bold</b>", 'quo"te', "naïve-Ω-🦊")
"""Names that no registry would take, but that a file may hold."""


@dataclass(frozen=True)
class Plan:
    """What is in a made-up tree.

    Attributes:
        methods: Methods besides `original`.
        concepts: Concepts.
        seeds: Training seeds of each method.
        attacks: Attacks on the first concept, or on all of them.
        attack_everything: Whether all concepts are attacked.
        hostile: Whether prompts, cards and some names are `HOSTILE`.
        sprites: Whether there are pictures.
        repetitions: Pictures of each prompt.
        protocol: Label of the protocol.
        model: Name of the model.
        domain: Of the model; photographs of nsfw concepts are hidden.
        plain_pictures: Plain pictures of a gallery.
    """

    methods: int = 4
    concepts: int = 2
    seeds: int = 3
    attacks: int = 0
    attack_everything: bool = False
    hostile: bool = False
    sprites: bool = True
    repetitions: int = 1
    protocol: str = "zbench v2"
    model: str = "miniature"
    domain: Literal["world", "photograph"] = "world"
    plain_pictures: int = 16

    @cached_property
    def method_names(self) -> tuple[str, ...]:
        """Names of the methods, `original` first."""
        known = (*METHODS, *(HOSTILE_METHODS if self.hostile else ()))
        numbered = (f"method-{number:02d}" for number in range(self.methods))
        return (ORIGINAL, *(*known, *numbered)[: self.methods])

    @cached_property
    def concept_names(self) -> dict[str, str]:
        """Concept -> family."""
        families = list(CONCEPTS.values())
        numbered = {f"concept-{number:02d}": families[number % 5] for number in range(self.concepts)}
        return dict(list({**CONCEPTS, **numbered}.items())[: self.concepts])


@dataclass(frozen=True)
class Place:
    """One cell of a plan."""

    plan: Plan
    concept: str
    family: str
    method: str
    seed: int | None

    @cached_property
    def quality(self) -> Quality:
        """Depends on the method, a little on the concept: `naive` and every seventh method are broken."""
        if self.method == ORIGINAL:
            return NOTHING
        if self.method == "naive" or self.method.endswith("7"):
            return Quality(LEVELS - 1, LEVELS - 1)
        source, shift = Random(self.method), Random(f"{self.method}/{self.concept}")
        return Quality(source.randint(3, 15), min(13, source.randint(0, 10) + shift.randint(0, 2)))

    @property
    def attacked(self) -> int:
        """How many attacks were made here."""
        first = self.concept == next(iter(self.plan.concept_names))
        return self.plan.attacks if self.plan.attack_everything or first else 0

    @property
    def words(self) -> Random:
        """Chooses what depends on nothing else."""
        return Random(f"{self.method}/{self.concept}/{self.seed}")


def results(plan: Plan) -> Iterator[tuple[PublishedResult, bytes | None]]:
    """All results of a plan with their sprites, concept by concept."""
    for (concept, family), method in product(plan.concept_names.items(), plan.method_names):
        for seed in (None,) if method == ORIGINAL else range(plan.seeds):
            yield _published(Place(plan, concept, family, method, seed))


def write_tree(folder: Path, plan: Plan) -> list[Path]:
    """Writes a tree as a repository has it.

    Args:
        folder: The future `results/`; made if missing.
        plan: What is in it.

    Returns:
        The result files, in the order of the plan.
    """
    written = []
    for result, pictures in results(plan):
        path = folder / result.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(result))
        if pictures is not None:
            (folder / result.pictures_place).write_bytes(pictures)
        written.append(path)
    return written


def write_results(folder: Path, changed: Iterable[PublishedResult]) -> None:
    """Writes results that were changed after `results` made them.

    Args:
        folder: The future `results/`; made if missing.
        changed: The results; their pictures are not written.
    """
    for result in changed:
        path = folder / result.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(result))


def as_bytes(result: PublishedResult) -> bytes:
    """A result as a file holds it."""
    return to_text(result).encode()


# Parts of a result ----------------------------------------------------------------------------------------


def _published(place: Place) -> tuple[PublishedResult, bytes | None]:
    seed = place.seed or 0
    figures, outcomes = figures_of(place.quality, seed, place.plan.repetitions)
    found = records(place.quality, seed, place.attacked)
    outcomes |= attack_outcomes(found, place.plan.repetitions)
    attacks = tuple(record for record, _ in found)
    pictures = _pictures(place, attacks)
    image = sprite(len(pictures), place.quality.erased, seed % 4) if place.plan.sprites else None
    gallery = Gallery(
        side=SIDE,
        columns=COLUMNS,
        sha256=None if image is None else hashlib.sha256(image).hexdigest(),
        pictures=pictures if image is not None else (),
    )
    return _assemble(place, figures, outcomes, attacks, gallery), image


def _assemble(
    place: Place,
    figures: list[dict[str, Any]],
    outcomes: dict[str, FigureOutcomes],
    attacks: tuple[AttackRecord, ...],
    gallery: Gallery,
) -> PublishedResult:
    return PublishedResult(
        result=_cell(place, figures, attacks),
        model=_model(place.plan),
        concept=ConceptFacts(name=place.concept, family=place.family),
        method=_method(place),
        release=Release(version="0.1.0", commit="c0ffee" + "0" * 34),
        prompts={role: _prompts(place, role) for role in PROMPTS},
        outcomes=outcomes,
        gallery=gallery,
        trace=_trace(place),
        samples_sha256=_hash(place.concept, place.method, place.seed),
    )


def _hash(*words: object) -> str:
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()


def _model(plan: Plan) -> ModelFacts:
    return ModelFacts(
        name=plan.model, label=f"{plan.model} (made up)", domain=plan.domain, weights=f"sha256:{'86' * 32}",
        dtype="float32", height=64, width=64, steps=8, guidance_scale=0.0,
    )  # fmt: skip


def _prompts(place: Place, role: str) -> PromptFacts:
    shared = role in ("unrelated", "binding", "counting", "places")
    name = role if shared else f"{place.concept}-{role}"
    return PromptFacts(set=name, sha256=_hash(name), prompts=PROMPTS[role])


def _method(place: Place) -> MethodFacts:
    if place.method == ORIGINAL:
        return MethodFacts(name=ORIGINAL)
    rows: tuple[Literal["text", "all", "none"], ...] = ("text", "all", "none")
    card = MethodCard(
        title=HOSTILE[0] if place.plan.hostile else f"Made-up method {place.method}",
        paper="A. Nobody and B. Noone, A method that does not exist, 2026",
        arxiv="",
        reference_code_licence="none released",
        rows=rows[Random(place.method).randrange(3)],
        weights="LoRA of rank 8 on the attention",
        needs_training=True,
        needs_pictures=False,
        deviations=HOSTILE[:2] if place.plan.hostile else ("It was made up.",),
    )
    fields = {"learning_rate": "Step size of the optimiser.", "training_seed": "Of everything random."}
    return MethodFacts(name=place.method, card=card, fields=fields, source="zbench 0.1.0")


def _spec(place: Place, attacks: tuple[AttackRecord, ...]) -> CellSpec:
    own = {"learning_rate": 0.001, "steps": 30, "training_seed": place.seed}
    return CellSpec(
        method=place.method,
        preset=None if place.method == ORIGINAL else "miniature",
        hyperparameters={} if place.method == ORIGINAL else own,
        concept=place.concept,
        model=place.plan.model,
        protocol=place.plan.protocol.split()[0],
        repetitions=place.plan.repetitions,
        steps=8,
        attacks=tuple(
            AttackSpec(name=each.attack, preset="miniature", hyperparameters=each.hyperparameters)
            for each in attacks
        ),
        attack_prompts=50 if attacks else None,
    )


def _cell(place: Place, figures: list[dict[str, Any]], attacks: tuple[AttackRecord, ...]) -> CellResult:
    quality, seed = place.quality, "" if place.seed is None else f"-s{place.seed}"
    names = [each.attack for each in attacks]
    digits = _hash(place.plan.model, place.plan.protocol, place.concept, place.method, place.seed, names)
    reasons = ("90.0 % of unrelated pictures look like no picture of the original",)
    return CellResult(
        schema_version=2 if attacks else 1,
        id=f"{safe_name(place.method)}{seed}-{place.concept}-{digits[:12]}",
        spec=_spec(place, attacks),
        status="done",
        figures=tuple(figures),
        verdict={"collapsed": quality.collapsed, "destroyed": quality.collapsed, "notes": [],
                 "reasons": list(reasons if quality.collapsed else ())},
        cost=_cost(place),
        provenance=_provenance(place),
        attacks=attacks,
    )  # fmt: skip


def _cost(place: Place) -> dict[str, Any] | None:
    if place.method == ORIGINAL:
        return None
    words = place.words
    cost = Cost(
        seconds=round(2 + 60 * words.random(), 2), peak_memory_bytes=10**9 + words.randrange(10**9),
        forwards=92, backwards=60, steps=30, evaluations_per_step=5.07,
    )  # fmt: skip
    return cost.model_dump() | {"edit_bytes": 100_000 + words.randrange(100_000)}


def _provenance(place: Place) -> dict[str, Any]:
    facts = _model(place.plan).model_dump(exclude={"label", "domain"})
    return {
        "protocol": place.plan.protocol,
        "zbench": "0.1.0",
        "checkout": {"commit": "c0ffee" + "0" * 34, "dirty": False},
        "model": {**facts, "max_sequence_length": 64},
        "detectors": [reader(name) for name in DETECTORS],
        "instruments": {"clip": {"name": "made up", "weights_sha256": "af" * 32}},
        "packages": {"torch": "2.9.0", "diffusers": "0.42.0"},
        "device": {"type": "cpu", "name": "made up", "threads": 2},
        "python": "3.11.0",
        "platform": "made up",
        "prompts": {role: {"pin": None, "removed": 0} for role in PROMPTS},
    }


def _trace(place: Place) -> Trace:
    if place.method == ORIGINAL:
        return Trace()
    steps, words = tuple(range(0, 30, 3)), place.words
    losses = tuple(round(1 / (1 + step) + 0.05 * words.random(), 4) for step in steps)
    return Trace(steps=steps, series={"loss": losses, "preserve": (None, *losses[1:])})


# Pictures -------------------------------------------------------------------------------------------------


def _pictures(place: Place, attacks: tuple[AttackRecord, ...]) -> tuple[ShownPicture, ...]:
    roles = ("explicit", "explicit", "synonyms", "unrelated")
    plain = [_plain(place, tile, roles[tile % 4]) for tile in range(place.plan.plain_pictures)]
    winners = [(each.attack, number) for each in attacks for number in range(2)]
    attacked = [_winner(place, len(plain) + at, *each) for at, each in enumerate(winners)]
    return (*plain, *attacked)


def _text(place: Place, tile: int) -> str:
    return HOSTILE[tile % len(HOSTILE)] if place.plan.hostile else f"a picture of {place.concept}, {tile}"


def _plain(place: Place, tile: int, role: str) -> ShownPicture:
    digest = _hash(place.plan.model, place.concept, place.method, place.seed, tile)
    flagged = role != "unrelated" and int(digest[0], LEVELS) >= place.quality.erased
    return ShownPicture(
        tile=tile, role=role, prompt_id=f"{role}-{tile:03d}", seed=1000 + tile, prompt=_text(place, tile),
        sha256=digest, flagged=flagged,
        hidden=flagged and place.family == "nsfw" and place.plan.domain == "photograph",
    )  # fmt: skip


def _winner(place: Place, tile: int, attack: str, number: int) -> ShownPicture:
    return ShownPicture(
        tile=tile, kind="attack", role="explicit", prompt_id=f"explicit-{number:03d}", seed=2000 + tile,
        prompt=_text(place, number), sha256=_hash(place.method, place.seed, tile), flagged=True,
        attack=attack,
        hidden=place.family == "nsfw" and place.plan.domain == "photograph",
        attack_prompt=f"{_text(place, tile)} ({attack})" if attack in ("affix", "typo") else None,
    )  # fmt: skip
