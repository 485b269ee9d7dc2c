"""From a finished cell of a run folder to what is published of it: a small file, and small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.metrics.robustness import Outcomes
from zbench.results.facts import (
    concept_facts,
    method_facts,
    model_facts,
    portable_spec,
    prompt_facts,
    release_of,
)
from zbench.results.outcomes import (
    ATTACK_FIGURES,
    Layout,
    attack_outcomes,
    figure_outcomes,
    require_following,
)
from zbench.results.pictures import Flagged, Rules, Tile, attack_tiles, gallery_of, pictures_of, plain_tiles
from zbench.results.schema import MOST_POINTS, FigureOutcomes, PublishedResult, Trace
from zbench.results.wordings import publishable_wordings
from zbench.stages.evidence_files import read_evidence
from zbench.store import read_json, sha256_file

if TYPE_CHECKING:
    from zbench.metrics.evidence import Evidence
    from zbench.metrics.robustness import AttackRecord
    from zbench.results.schema import ConceptFacts, Gallery, ModelFacts
    from zbench.runner.specs import CellResult

SAMPLES_FILE = "samples.parquet"
ATTACKED_ROLE = "explicit"

_OF_DETECTOR = ("file_sha256", "name", "threshold", "version")

_OF_PROMPTS = ("pin", "removed")
"""What is said of a prompt set beside `PromptFacts`."""

_DIGITS = 4
"""Significant digits of a published trace."""


@dataclass(frozen=True)
class Published:
    """What a tree holds of a cell.

    Attributes:
        result: The file's content.
        pictures: The WebP file beside it; None where there are no pictures.
    """

    result: PublishedResult
    pictures: bytes | None


def publish(result: CellResult, root: Path, *, flagged: Flagged = "hide") -> Published:
    """Makes a published result of a finished cell.

    Args:
        result: As its run folder holds it; status ``done``.
        root: The run folder.
        flagged: Whether delicate pictures are made unrecognisable, or kept for a tree that stays private.

    Raises:
        StoreError: Evidence or pictures are missing or damaged, or a figure does not follow from them.
        ConfigurationError: Nobody knows what the model's pictures show.
        UnknownNameError: The catalogue has the concept no more.
    """
    drawn = outline(result, root)
    evidence, _ = read_evidence(root / result.stages["score"])
    shown = _Shown(result, root, evidence)
    gallery, pictures = shown.gallery(drawn.model, drawn.concept, flagged)
    made = {"outcomes": shown.outcomes(), "gallery": gallery, "trace": trace_of(result, root)}
    return Published(PublishedResult.model_validate({**dict(drawn), **made}), pictures)


def with_outcomes(drawn: PublishedResult, result: CellResult, root: Path) -> PublishedResult:
    """An outline with everything that came out, picture by picture; without gallery and trace.

    Args:
        drawn: See `outline`.
        result: As its run folder holds it.
        root: The run folder.

    Raises:
        StoreError: Evidence is missing or damaged, or a figure does not follow from it.
    """
    evidence, _ = read_evidence(root / result.stages["score"])
    return drawn.model_copy(update={"outcomes": _Shown(result, root, evidence).outcomes()})


def outline(result: CellResult, root: Path) -> PublishedResult:
    """A published result without what is made of pictures and trace: what can be told in a moment.

    Args:
        result: As its run folder holds it; status ``done``.
        root: The run folder.

    Raises:
        ConfigurationError: Nobody knows what the model's pictures show.
        UnknownNameError: The catalogue has the concept no more.
    """
    model = model_facts(result)
    return PublishedResult(
        result=trimmed(result, root),
        model=model,
        concept=concept_facts(result, model.domain),
        method=method_facts(result),
        release=release_of(result.provenance),
        prompts=prompt_facts(result.provenance),
        samples_sha256=_samples_hash(root / "cells" / result.id),
    )


def _samples_hash(folder: Path) -> str | None:
    path = folder / SAMPLES_FILE
    return sha256_file(path) if path.is_file() else None


class _Shown:
    """The pictures of a cell: what was found in each, and which are shown."""

    def __init__(self, result: CellResult, root: Path, evidence: Evidence) -> None:
        self.result, self.root, self.evidence = result, root, evidence
        self.pictures = pictures_of(result, root)
        keys = {role: [_key(sample) for sample, _ in each] for role, each in self.pictures.items()}
        self.layout = Layout(keys)
        self.attacks = [
            (record, _outcomes(record, root)) for record in result.attacks if record.status == "done"
        ]

    def outcomes(self) -> dict[str, FigureOutcomes]:
        """Of the cell's figures and of its attacks'."""
        found = figure_outcomes(self.evidence, self.layout, self.result.figures)
        for record, outcomes in self.attacks:
            broken = attack_outcomes(record.label, outcomes, self.layout, ATTACKED_ROLE)
            for name in ATTACK_FIGURES:
                figure = record.figure(name)
                if figure is not None and figure["value"] is not None:
                    require_following(figure, broken[f"{record.label}/{name}"])
            found |= broken
        return found

    def gallery(
        self, model: ModelFacts, concept: ConceptFacts, flagged: Flagged
    ) -> tuple[Gallery, bytes | None]:
        delicate = concept.family == "nsfw" and model.domain == "photograph"
        samples = [sample for each in self.pictures.values() for sample, _ in each]
        rules = Rules(delicate, flagged, publishable_wordings(samples, model.domain, delicate=delicate))
        return gallery_of(self._tiles(delicate), rules, (model.height, model.width))

    def _tiles(self, delicate: bool) -> list[Tile]:
        tiles = plain_tiles(self.pictures, self._found())
        for record, outcomes in self.attacks:
            tiles += attack_tiles(record, outcomes, self.root, flagged_texts=delicate)
        return tiles

    def _found(self) -> dict[Any, bool]:
        """Picture -> whether any detector of the protocol finds the concept in it."""
        found = dict.fromkeys(self.evidence.pictures.keys, False)
        for record in self.evidence.able():
            hits = record.found(self.evidence.pictures.scores(record)).tolist()
            found = {key: before or hit for (key, before), hit in zip(found.items(), hits, strict=True)}
        return found


def _key(sample: Mapping[str, Any]) -> tuple[str, str, int]:
    return sample["prompt_set"], sample["prompt_id"], sample["repetition"]


def _outcomes(record: AttackRecord, root: Path) -> Outcomes:
    from zbench.stages.judge import read_outcomes

    return read_outcomes(root / record.stages["score"])


# What is left out -----------------------------------------------------------------------------------------


def trimmed(result: CellResult, root: Path) -> CellResult:
    """A result with its edit's size, and without folders of one machine and what only scoring needs."""
    facts = {name: value for name, value in result.provenance.items() if name != "evidence"}
    read = result.provenance["evidence"]
    facts["detectors"] = [{name: each[name] for name in _OF_DETECTOR} for each in read["detectors"]]
    facts["instruments"] = read["instruments"]
    sheets = facts["prompts"].items()
    facts["prompts"] = {role: {name: sheet[name] for name in _OF_PROMPTS} for role, sheet in sheets}
    attacks = tuple(_without_stages(record) for record in result.attacks)
    spec = portable_spec(result.spec)
    more = {"provenance": facts, "attacks": attacks, "spec": spec, "cost": _cost(result, root)}
    return result.model_copy(update=more)


def _cost(result: CellResult, root: Path) -> dict[str, Any] | None:
    """What the erasure took, and the bytes of its edit; the probe beside it only guards the file."""
    from zbench.edits.probe import Probe

    place = result.stages.get("erase")
    if result.cost is None or place is None:
        return result.cost
    files = (path for path in (root / place / "edit").rglob("*") if path.is_file())
    sizes = (path.stat().st_size for path in files if path.name != Probe.FILE)
    return result.cost | {"edit_bytes": sum(sizes)}


def _without_stages(record: AttackRecord) -> AttackRecord:
    lines = record.reason.strip().splitlines()
    return record.model_copy(update={"stages": {}, "reason": lines[-1] if lines else ""})


def trace_of(result: CellResult, root: Path) -> Trace:
    """The training trace at evenly spread steps, the first and the last among them."""
    place = result.stages.get("erase")
    path = None if place is None else root / place / "trace.json"
    if path is None or not path.is_file():
        return Trace()
    rows = [row for row in read_json(path) if "step" in row]
    return thinned(rows)


def thinned(rows: Sequence[Mapping[str, float]], most: int = MOST_POINTS) -> Trace:
    """At most `most` rows of a trace.

    Args:
        rows: One for each training step, with its number as ``step``.
        most: At least 2.
    """
    last = len(rows) - 1
    places = range(len(rows)) if len(rows) <= most else [round(n * last / (most - 1)) for n in range(most)]
    kept = [rows[place] for place in places]
    names = sorted({name for row in rows for name in row} - {"step"})
    series = {name: tuple(_rounded(row.get(name)) for row in kept) for name in names}
    return Trace(steps=tuple(int(row["step"]) for row in kept), series=series)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
