"""Reading stored scores again: another threshold, or another detector, without generating a picture.

A threshold for a detector whose raw scores are stored looks at no picture at all. A detector that was not run
is run on the stored pictures, and its raw scores are kept beside them for next time, whatever the concept or
the cell. A re-score is a stage folder of its own; the scores that it comes from stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.detectors.base import Detector, check_threshold
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.metrics.assemble import detector_figures
from zbench.metrics.evidence import Evidence, Key, PictureTable
from zbench.metrics.sweeps import sweeps
from zbench.stages.detections import kept_scores
from zbench.stages.evidence_files import FIGURES_FILE, detector_record, read_evidence
from zbench.store import StageFolder, Store, atomic_write_json, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zbench.detectors.base import Progress

RESCORE_VERSION = 1
"""Raised when the same evidence and threshold would give other figures."""


@dataclass(frozen=True)
class StoredCell:
    """Where the evidence of one cell lies.

    Attributes:
        id: Of the cell.
        scores: Its scores folder.
        pictures: Folders of its pictures.
        original: Folders of the original's pictures.
    """

    id: str
    scores: StageFolder
    pictures: tuple[Path, ...]
    original: tuple[Path, ...]


@dataclass(frozen=True)
class Rescored:
    """A re-score.

    Attributes:
        folder: Where its ``figures.json`` lies.
        record: Its content, in the form of the score stage.
    """

    folder: Path
    record: dict[str, Any]


def rescore(
    run: Path | str,
    cell: str,
    detector: str,
    threshold: float | None = None,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Rescored:
    """Reads a cell's stored scores with another threshold or detector.

    Args:
        run: Run folder.
        cell: Id of a cell, or the unambiguous beginning of one.
        detector: Name of a detector.
        threshold: From which score on a class is found; the stored or the detector's own when None.
        device: Torch device for a detector that was not run yet.
        progress: Told how many pictures such a detector has looked at.

    Raises:
        StoreError: No such run, or stored evidence is missing or altered.
        UnknownNameError: No such cell or detector.
        ConfigurationError: The threshold is not between 0 and 1.
    """
    store = Store.open(run, create=False)
    stored = find_cell(store, cell)
    evidence, record = read_evidence(stored.scores.path)
    if detector not in {known.name for known in evidence.detectors}:
        evidence = _with_detector(store, stored, evidence, detector, device, progress)
    evidence = evidence.at(detector, check_threshold(threshold)) if threshold is not None else evidence
    folder = store.stage("rescores", _config(stored, evidence), prefix=f"{detector}-{stored.scores.id}")
    if not folder.is_complete():
        again = _record(evidence, record, stored, detector)
        folder.write(lambda temporary: atomic_write_json(temporary / FIGURES_FILE, again))
    return Rescored(folder.path, read_json(folder.path / FIGURES_FILE))


def find_cell(store: Store, name: str) -> StoredCell:
    """Finds a finished cell by its id or the unambiguous beginning of it.

    Raises:
        UnknownNameError: No finished cell, or several, begin so.
        StoreError: Its scores are missing or were altered.
    """
    results = sorted((store.root / "cells").glob("*/result.json"))
    cells = {path.parent.name: path for path in results}
    fitting = [each for each in cells if each == name] or [each for each in cells if each.startswith(name)]
    if len(fitting) != 1:
        raise UnknownNameError.of(
            "cell" if not fitting else "cell (several begin so)", name, fitting or cells
        )
    stages = read_json(cells[fitting[0]]).get("stages", {})
    if "score" not in stages:
        raise StoreError(f"The cell {fitting[0]} has no scores: it failed or was skipped; run it again.")
    scores = _stage_folder(store, stages["score"])
    pictures = _of_stage(store, stages, "pictures ")
    return StoredCell(fitting[0], scores, pictures, _of_stage(store, stages, "original ") or pictures)


def _of_stage(store: Store, stages: dict[str, str], start: str) -> tuple[Path, ...]:
    return tuple(store.root / place for stage, place in stages.items() if stage.startswith(start))


def _stage_folder(store: Store, place: str) -> StageFolder:
    """A complete stage folder from its place alone."""
    folder = store.stored(place)
    if not folder.is_complete():
        raise StoreError(
            f"{folder.path} is missing files or was altered; run the same command again to renew it."
        )
    return folder


def _config(stored: StoredCell, evidence: Evidence) -> dict[str, Any]:
    detectors = [
        each.model_dump(mode="json", include={"name", "version", "file_sha256", "threshold"})
        for each in evidence.detectors
    ]
    files = stored.scores.done()["files"]
    return {
        "stage": "rescore", "version": RESCORE_VERSION, "scores": stored.scores.id, "files": files,
        "detectors": detectors,
    }  # fmt: skip


def _record(evidence: Evidence, record: dict[str, Any], stored: StoredCell, detector: str) -> dict[str, Any]:
    """The stored record with everything that detectors say read anew."""
    kept = [figure for figure in record["figures"] if figure["name"] in record["picture_figures"]]
    swept = [each for each in record["sweeps"] if each["detector"]["name"] != detector]
    read = [figure.model_dump(mode="json") for figure in detector_figures(evidence)]
    return {
        **record,
        "figures": [*read, *kept],
        "sweeps": [*swept, *sweeps(evidence, (detector,))],
        "detectors": [each.model_dump(mode="json") for each in evidence.detectors],
        "rescored_from": stored.scores.id,
    }


# A detector that was not run yet --------------------------------------------------------------------------


def _with_detector(
    store: Store,
    stored: StoredCell,
    evidence: Evidence,
    name: str,
    device: str | None,
    progress: Progress | None,
) -> Evidence:
    """The evidence with another detector's raw scores, from disk where they were kept."""
    from zbench.stages.scorer import protocol_detector

    detector = protocol_detector(name, evidence.settings, device)
    record = detector_record(detector, evidence.concept, evidence.members)
    if not record.readings:
        raise ConfigurationError(f"The detector {name!r} has no class for the concept {evidence.concept!r}.")
    tables = [
        _with_scores(table, detector, kept_scores(store, folders, detector, progress))
        for table, folders in ((evidence.pictures, stored.pictures), (evidence.original, stored.original))
    ]
    return replace(evidence, pictures=tables[0], original=tables[1], detectors=(*evidence.detectors, record))


def _with_scores(
    table: PictureTable, detector: Detector, scores: dict[Key, NDArray[np.float32]]
) -> PictureTable:
    import numpy as np

    alone = [key for key in table.keys if key not in scores]
    if alone:
        raise StoreError(
            f"{len(alone)} of {len(table)} scored pictures are not stored any more (first: {alone[0][1]});"
            " run the same command again to draw them."
        )
    return table.with_scores(detector.name, detector.classes, np.stack([scores[key] for key in table.keys]))
