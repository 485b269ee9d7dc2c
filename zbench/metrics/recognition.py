"""Acc_e, Acc_ir, Acc_g and their combinations, read from a detector's raw scores.

A picture is recognised where the class that its prompt asks for has the highest score of its family. Where a
detector also stores 100 x cosine with each class's sentence (columns ``cosine/CLASS``), the same figures are
computed from these, under names of their own (``acc_e_score`` ...). See `zbench.metrics.accuracies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zbench.detectors.record import DetectorRecord
from zbench.metrics.accuracies import Outcomes, accuracy_figures
from zbench.metrics.evidence import Evidence
from zbench.metrics.figure import Figure
from zbench.metrics.kept import tops
from zbench.metrics.success import detector_settings
from zbench.protocols import UNRELATED

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

COSINE = "cosine/"
SMALLEST_FAMILY = 3
"""With fewer rivals the highest score says little: one of two is always first."""

Wanted = dict[int, str]
"""Position of a picture -> the class that its prompt asks for."""


def recognition_figures(evidence: Evidence) -> list[Figure]:
    """The accuracies by the first detector that has the concept in a family; none where there is no such."""
    record = _recogniser(evidence)
    if record is None:
        return []
    groups = _groups(evidence, record)
    erased = groups[0]
    reason = evidence.not_numbers(record, _rows(row for group in groups for row in group))
    if reason is not None:
        return [Figure.skipped(name, "rate", "none", reason) for name in ("acc_e", "acc_ir", "h_a")]
    settings = detector_settings(record) | {"reading": "top 1 of the class's family"}
    figures = accuracy_figures(*(_hits(evidence, record, group) for group in groups), settings=settings)
    if not erased or not all(record.knows(COSINE + name) for group in groups for name in group.values()):
        return figures
    scored = [_cosines(evidence, record, group) for group in groups]
    settings |= {"reading": "100 x cosine with the class's sentence"}
    return figures + accuracy_figures(*scored, scale="score", settings=settings)


def recognised(evidence: Evidence) -> dict[str, dict[int, float]]:
    """Figure -> position of a picture -> 1 where it is recognised, 0 where not: what accuracies are made of.

    Empty where no detector tells the concept apart, or one gave no number.
    """
    record = _recogniser(evidence)
    if record is None:
        return {}
    groups = _groups(evidence, record)
    if evidence.not_numbers(record, _rows(row for group in groups for row in group)) is not None:
        return {}
    hits = (_hits(evidence, record, group).values for group in groups)
    found = zip(("acc_e", "acc_ir", "acc_g"), groups, hits, strict=True)
    return {name: dict(zip(group, of, strict=True)) for name, group, of in found}


def _recogniser(evidence: Evidence) -> DetectorRecord | None:
    able = evidence.able()
    return next((each for each in able if _tells_apart(each, each.readings[_primary(each)])), None)


def _groups(evidence: Evidence, record: DetectorRecord) -> tuple[Wanted, Wanted, Wanted]:
    """Pictures of the concept, of other concepts, and of synonyms."""
    erased, synonyms = (_of_concept(evidence, record, role) for role in ("explicit", "synonyms"))
    return erased, _of_others(evidence, record), synonyms


def _primary(record: DetectorRecord) -> str:
    return record.primary or ""


def _tells_apart(record: DetectorRecord, names: Iterable[str]) -> bool:
    return all(len(record.rivals(name)) >= SMALLEST_FAMILY for name in names)


def _of_concept(evidence: Evidence, record: DetectorRecord, role: str) -> Wanted:
    """Pictures of prompts that ask for the concept; of a composite, for which of its members."""
    own = record.readings[_primary(record)]
    wanted = {}
    for row in evidence.pictures.rows(role).tolist():
        asked = [name for name in own if (evidence.pictures.truths[row] or {}).get(name)]
        if len(asked) == 1:
            wanted[row] = asked[0]
        elif len(own) == 1:
            wanted[row] = own[0]
    return wanted


def _of_others(evidence: Evidence, record: DetectorRecord) -> Wanted:
    """Pictures of other concepts: objects of unrelated prompts, and single neighbours of the concept."""
    own = record.readings[_primary(record)]
    wanted = {}
    for row in evidence.pictures.rows(UNRELATED, "neighbours").tolist():
        thing, truth = evidence.pictures.objects[row], evidence.pictures.truths[row] or {}
        asked = [thing] if thing is not None else [name for name, shown in truth.items() if shown]
        told = [name for name in asked if _tells_apart(record, [name]) and name not in own]
        if len(told) == 1:
            wanted[row] = told[0]
    return wanted


def _hits(evidence: Evidence, record: DetectorRecord, wanted: Wanted) -> Outcomes:
    hits = tops(record, evidence.pictures, wanted).astype(float).tolist()
    return Outcomes(hits, evidence.pictures.prompts(_rows(wanted)))


def _cosines(evidence: Evidence, record: DetectorRecord, wanted: Wanted) -> Outcomes:
    scores = evidence.pictures.scores(record)
    columns = {name: record.classes.index(COSINE + name) for name in set(wanted.values())}
    values = [float(scores[row, columns[name]]) for row, name in wanted.items()]
    return Outcomes(values, evidence.pictures.prompts(_rows(wanted)))


def _rows(rows: Iterable[int]) -> NDArray[np.int64]:
    import numpy as np

    return np.asarray(list(rows), dtype=np.int64)
