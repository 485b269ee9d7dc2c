"""The score stage: samples to evidence, and evidence to figures.

Measuring looks at pictures; everything after it reads tables of raw values (`zbench.metrics.evidence`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.detectors.base import Progress
from zbench.errors import ConfigurationError
from zbench.metrics.assemble import detector_figures, picture_figures
from zbench.metrics.collapse import CollapseThresholds
from zbench.metrics.damage import damage_verdict
from zbench.metrics.distance import feature_distance, pixel_distance
from zbench.metrics.evidence import Evidence, Features, PictureTable
from zbench.metrics.perceptual import Perceptual
from zbench.metrics.sweeps import sweeps
from zbench.protocols import UNRELATED
from zbench.stages.evidence_files import (
    FIGURES_FILE,
    ORIGINAL_FILE,
    PICTURES_FILE,
    detector_record,
    write_evidence,
)
from zbench.stages.measurements import Measurements
from zbench.stages.samples import SamplesView
from zbench.stages.scorer import Scorer, package_versions
from zbench.store import canonical_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["FIGURES_FILE", "ORIGINAL_FILE", "PICTURES_FILE", "collect", "score"]


def score(
    samples: SamplesView,
    original: SamplesView,
    scorer: Scorer,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores the pictures of one cell.

    Args:
        samples: Pictures of the erased model (or of the original itself).
        original: The unerased model's pictures of the same prompts and seeds, in any order.
        scorer: The instruments.
        folder: Where the files of `zbench.stages.evidence_files` are written; nothing is written when None.
        progress: Told (units done, units in all).

    Returns:
        What ``figures.json`` holds: ``figures`` (see `Figure`), ``sweeps``, ``detectors``, ``collapse``,
        ``instruments``, ``settings``, ``samples_sha256``, ``original_sha256`` and ``packages``.

    Raises:
        ConfigurationError: No pictures, or pictures without a counterpart of the same prompt and seed.
        OutOfMemoryError: Memory does not suffice for a single picture.
    """
    original = _paired(samples, original)
    evidence = collect(samples, original, scorer, progress)
    hashes = {"samples_sha256": samples.sha256, "original_sha256": original.sha256}
    record: dict[str, Any] = json.loads(canonical_json({**_record(evidence), **hashes}))
    if folder is not None:
        write_evidence(folder, record, evidence)
    return record


def collect(
    samples: SamplesView, original: SamplesView, scorer: Scorer, progress: Progress | None = None
) -> Evidence:
    """Measures pictures and puts the tables together.

    Args:
        samples: N pictures.
        original: The original's, in the same order.
        scorer: The instruments.
        progress: Told (units done, units in all): the original's pictures first.
    """
    baseline = scorer.measure(original, _half(progress, 0))
    measured = scorer.measure(samples, _half(progress, 1))
    distances = _distances(scorer, samples, original, measured, baseline)
    return Evidence(
        concept=scorer.concept,
        pictures=_table(scorer, samples, measured, distances),
        original=_table(scorer, original, baseline, {}),
        detectors=tuple(detector_record(each, scorer.concept, scorer.members) for each in scorer.detectors),
        members=scorer.members,
        thresholds=CollapseThresholds.calibrate(baseline.signals),
        settings=scorer.settings,
        instruments=scorer.instruments,
        features=Features(
            measured.clip_features,
            baseline.clip_features,
            scorer.fidelity(samples),
            scorer.embeddings(samples),
        ),
    )


def _table(
    scorer: Scorer, view: SamplesView, measured: Measurements, more: dict[str, NDArray[np.float64]]
) -> PictureTable:
    scores = {d.name: (d.classes, measured.scores[d.name]) for d in scorer.detectors}
    return PictureTable.of(
        view.samples, scores, {"clip_score": scorer.clip_scores(view), **more}, measured.signals
    )


def _distances(
    scorer: Scorer,
    samples: SamplesView,
    original: SamplesView,
    measured: Measurements,
    baseline: Measurements,
) -> dict[str, NDArray[np.float64]]:
    """Distances of each picture to the original's."""
    every = range(len(samples))
    found = {
        "distance_to_original": _compared(scorer, samples, original, every, pixel_distance),
        "clip_distance_to_original": feature_distance(measured.clip_features, baseline.clip_features),
    }
    if scorer.perceptual is None:
        return found
    return found | {"perceptual_distance": _perceptual(scorer, scorer.perceptual, samples, original)}


def _compared(
    scorer: Scorer,
    samples: SamplesView,
    original: SamplesView,
    rows: Sequence[int],
    distance: Callable[[Tensor, Tensor], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """A distance of some pictures to the original's, [len(rows)]."""
    import numpy as np

    parts = scorer.in_parts(rows, lambda part: distance(samples.read(part), original.read(part)))
    return np.concatenate([np.zeros(0), *parts])


def _perceptual(
    scorer: Scorer, perceptual: Perceptual, samples: SamplesView, original: SamplesView
) -> NDArray[np.float64]:
    """Distances of the pictures of unrelated prompts; it costs most of all, and others stay NaN."""
    import numpy as np

    rows = samples.indices(UNRELATED)
    found = np.full(len(samples), np.nan)
    if samples.sha256 == original.sha256:
        found[rows] = 0.0
    elif rows:
        found[rows] = _compared(scorer, samples, original, rows, perceptual.distances)
    return found


def _record(evidence: Evidence) -> dict[str, Any]:
    read, seen = detector_figures(evidence), picture_figures(evidence)
    return {
        "concept": evidence.concept,
        "members": list(evidence.members),
        "figures": [figure.model_dump(mode="json") for figure in (*read, *seen)],
        "picture_figures": [figure.name for figure in seen],
        "sweeps": sweeps(evidence),
        "verdict": damage_verdict(evidence).describe(),
        "detectors": [record.model_dump(mode="json") for record in evidence.detectors],
        "collapse": evidence.thresholds.describe(),
        "instruments": evidence.instruments,
        "settings": evidence.settings.model_dump(mode="json"),
        "packages": package_versions(),
    }


def _half(progress: Progress | None, number: int) -> Progress | None:
    """The original's pictures first, then the cell's own."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, 2 * total)


def _paired(samples: SamplesView, original: SamplesView) -> SamplesView:
    """The original's pictures in the order of the samples."""
    if len(samples) == 0:
        raise ConfigurationError("There are no pictures to score.")
    rows = {sample.key: row for row, sample in enumerate(original.samples)}
    order = [rows.get(sample.key) for sample in samples.samples]
    seeds = [None if row is None else original.samples[row].seed for row in order]
    alone = [s for s, seed in zip(samples.samples, seeds, strict=True) if s.seed != seed]
    if alone:
        raise ConfigurationError(
            f"{len(alone)} of {len(samples)} pictures have no counterpart of the same prompt and seed among"
            f" the original's (first: prompt {alone[0].prompt_id!r}); generate both by the same protocol."
        )
    chosen = [row for row in order if row is not None]
    if chosen == list(range(len(original))):
        return original
    return original.take(chosen)
