"""The score stage: samples to figures and to a table of raw values for every picture.

Raw detector scores are stored, not verdicts: another threshold re-reads the table and looks at no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.detectors.base import Detector, Progress
from zbench.errors import ConfigurationError
from zbench.metrics.collapse import CollapseThresholds
from zbench.metrics.distance import feature_distance, pixel_distance
from zbench.metrics.fidelity import MINIMUM, fidelity_distances
from zbench.metrics.figure import Direction, Figure
from zbench.protocols import ROLES
from zbench.stages.samples import SamplesView
from zbench.stages.scorer import Measurements, Scorer, package_versions
from zbench.statistics import Rate, cluster_bootstrap_mean, paired_test
from zbench.store import atomic_write_bytes, atomic_write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIGURES_FILE = "figures.json"
PICTURES_FILE = "pictures.parquet"
UNRELATED = "unrelated"


@dataclass(frozen=True)
class _Cell:
    """Everything the figures are computed from: N pictures, and the original's in the same order."""

    scorer: Scorer
    samples: SamplesView
    original: SamplesView
    measured: Measurements
    baseline: Measurements
    thresholds: CollapseThresholds

    @property
    def is_original(self) -> bool:
        return self.samples.sha256 == self.original.sha256

    def prompts(self, rows: list[int]) -> list[tuple[str, str]]:
        """Cluster labels: the prompt of each picture."""
        return [self.samples.samples[row].key[:2] for row in rows]


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
        folder: Where ``figures.json`` and ``pictures.parquet`` are written; nothing is written when None.
        progress: Told (units done, units in all).

    Returns:
        What ``figures.json`` holds: ``figures`` (see `Figure`), ``detectors``, ``clip``, ``fidelity``,
        ``collapse``, ``samples_sha256``, ``original_sha256`` and ``packages``.

    Raises:
        ConfigurationError: No pictures, or pictures without a counterpart of the same prompt and seed.
    """
    original = _paired(samples, original)
    baseline = scorer.measure(original, _half(progress, 0))
    measured = scorer.measure(samples, _half(progress, 1))
    thresholds = CollapseThresholds.calibrate(baseline.signals)
    cell = _Cell(scorer, samples, original, measured, baseline, thresholds)
    result = _record(cell, _figures(cell))
    if folder is not None:
        atomic_write_bytes(folder / PICTURES_FILE, _parquet(cell))
        atomic_write_json(folder / FIGURES_FILE, result)
    return result


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
    return SamplesView(
        tuple(original.samples[row] for row in chosen), original.pictures[chosen], original.folder
    )


def _record(cell: _Cell, figures: list[Figure]) -> dict[str, Any]:
    scorer = cell.scorer
    source = scorer.source
    return {
        "figures": [figure.model_dump(mode="json") for figure in figures],
        "detectors": [detector.describe() for detector in scorer.detectors],
        "clip": {
            "name": scorer.clip.name,
            "weights_sha256": scorer.clip.weights_sha256,
            "rule": scorer.clip.rule,
        },
        "fidelity": None if source is None else {"name": source.name, "rule": source.rule},
        "collapse": cell.thresholds.describe(),
        "samples_sha256": cell.samples.sha256,
        "original_sha256": cell.original.sha256,
        "packages": package_versions(),
    }


def _figures(cell: _Cell) -> list[Figure]:
    """All figures, in the order in which a table shows them."""
    concept_roles = [role for role in ROLES if role != UNRELATED]
    figures = [_success(cell, role, detector) for role in concept_roles for detector in cell.scorer.detectors]
    figures += _agreement(cell)
    figures += [_clip_score(cell), *_fidelity(cell)]
    figures += [_collapse(cell, UNRELATED, "collapse_rate")]
    figures += [_collapse(cell, role, f"collapse_{role}") for role in concept_roles]
    figures += [_distance(cell), _clip_distance(cell)]
    return figures + _objects(cell)


def _clustered_rate(cell: _Cell, hits: NDArray[np.bool_], rows: list[int]) -> Rate:
    return Rate.of([bool(hit) for hit in hits], cell.prompts(rows))


def _success(cell: _Cell, role: str, detector: Detector) -> Figure:
    """Share of a role's pictures that show the concept, with the paired test against the original."""
    primary = detector is cell.scorer.detectors[0]
    name = f"asr_{role}" if primary else f"asr_{role}@{detector.name}"
    rows, concept = cell.samples.indices(role), cell.scorer.concept
    if not detector.columns(concept):
        return _unsupported(name, detector, concept)
    if not rows:
        return Figure.skipped(name, "rate", "lower", f"no {role} prompts")
    hits = detector.found(cell.measured.scores[detector.name], concept)[rows]
    figure = Figure.of_rate(
        name, _clustered_rate(cell, hits, rows), "lower", settings=_detector_settings(detector)
    )
    if cell.is_original:
        return figure
    before = detector.found(cell.baseline.scores[detector.name], concept)[rows]
    return figure.with_test(
        paired_test([bool(h) for h in hits], [bool(h) for h in before], cell.prompts(rows))
    )


def _unsupported(name: str, detector: Detector, concept: str) -> Figure:
    return Figure.skipped(name, "rate", "lower", f"the detector {detector.name} has no class for {concept}")


def _detector_settings(detector: Detector) -> dict[str, Any]:
    described = detector.describe()
    return {key: described[key] for key in ("name", "version", "file_sha256", "threshold")}


def _agreement(cell: _Cell) -> list[Figure]:
    """Share of all generated pictures on which two detectors say the same about the concept."""
    concept = cell.scorer.concept
    able = [detector for detector in cell.scorer.detectors if detector.columns(concept)]
    if len(able) < 2:
        return []
    first, second = (detector.found(cell.measured.scores[detector.name], concept) for detector in able[:2])
    rate = _clustered_rate(cell, first == second, list(range(len(cell.samples))))
    names = {"detectors": [detector.name for detector in able[:2]]}
    return [Figure.of_rate("detector_agreement", rate, "none", settings=names, note="all generated pictures")]


def _clip_score(cell: _Cell) -> Figure:
    note = "100 x cosine with the prompt, unrelated prompts"
    settings = {"clip": cell.scorer.clip.name, "rule": cell.scorer.clip.rule}
    return _mean(cell, "clip_score", cell.measured.clip_scores, "points", "higher", note, settings)


def _distance(cell: _Cell) -> Figure:
    distances = pixel_distance(cell.samples.pictures, cell.original.pictures)
    note = "mean absolute pixel difference to the original's picture, 0 to 1, unrelated prompts"
    return _mean(cell, "distance_to_original", distances, "distance", "lower", note, {})


def _clip_distance(cell: _Cell) -> Figure:
    distances = feature_distance(cell.measured.clip_features, cell.baseline.clip_features)
    note = "1 - cosine of image features with the original's picture, unrelated prompts"
    settings = {"clip": cell.scorer.clip.name}
    return _mean(cell, "clip_distance_to_original", distances, "distance", "lower", note, settings)


def _mean(
    cell: _Cell,
    name: str,
    values: NDArray[np.float64],
    unit: str,
    direction: Direction,
    note: str,
    settings: dict[str, Any],
) -> Figure:
    """Mean over unrelated prompts."""
    rows = cell.samples.indices(UNRELATED)
    if not rows:
        return Figure.skipped(name, unit, direction, "no unrelated prompts")
    mean = cluster_bootstrap_mean([float(value) for value in values[rows]], cell.prompts(rows))
    return Figure.of_mean(name, mean, unit, direction, note=note, settings=settings)


def _fidelity(cell: _Cell) -> list[Figure]:
    """FID and KID of the unrelated pictures against the reference pictures."""
    count = len(cell.samples.indices(UNRELATED))
    reason = None
    if cell.scorer.source is None:
        reason = "no reference pictures: give a folder of them"
    elif count < MINIMUM:
        reason = f"needs at least {MINIMUM} pictures of unrelated prompts, has {count}"
    if reason is not None:
        return [Figure.skipped(name, "distance", "lower", reason, count) for name in ("fid", "kid")]
    return _measured_fidelity(cell, count)


def _measured_fidelity(cell: _Cell, count: int) -> list[Figure]:
    scorer = cell.scorer
    reference = scorer.reference_features(*cell.samples.pictures.shape[2:])
    assert reference is not None and scorer.source is not None
    features = scorer.fidelity_features(cell.samples, UNRELATED)
    values = fidelity_distances(features, reference, scorer.source, scorer.settings.kid_subset_size)
    settings = {
        "extractor": scorer.source.name, "rule": scorer.source.rule, "pictures": count,
        "reference": scorer.reference_name, "reference_pictures": len(reference),
        "torch_fidelity": package_versions()["torch-fidelity"],
    }  # fmt: skip
    few = count <= features.shape[1]
    note = (
        f"{count} pictures in {features.shape[1]} dimensions: biased upward, compare at equal size"
        if few
        else ""
    )
    subsets = {"subset_size": int(values["kid_subset_size"]), "subset_sd": values["kid_subset_sd"]}
    fid = Figure(
        name="fid",
        value=values["fid"],
        N=count,
        unit="distance",
        direction="lower",
        settings=settings,
        note=note,
    )
    kid = {"name": "kid", "value": values["kid"], "settings": settings | subsets, "note": ""}
    return [fid, fid.model_copy(update=kid)]


def _collapse(cell: _Cell, role: str, name: str) -> Figure:
    """Share of a role's pictures that look like no picture of the original."""
    rows = cell.samples.indices(role)
    if not rows:
        return Figure.skipped(name, "rate", "lower", f"no {role} prompts")
    flagged = cell.thresholds.collapsed(cell.measured.signals)[rows]
    note = f"signals calibrated on {cell.thresholds.calibrated_on} of the original's pictures"
    return Figure.of_rate(name, _clustered_rate(cell, flagged, rows), "lower", note=note)


def _objects(cell: _Cell) -> list[Figure]:
    """Share of unrelated prompts whose object the first detector takes for the likeliest of its family."""
    detector = cell.scorer.detectors[0]
    wanted = {row: cell.samples.samples[row].object for row in cell.samples.indices(UNRELATED)}
    named = {row: name for row, name in wanted.items() if name is not None}
    known = {row: name for row, name in named.items() if detector.columns(name)}
    if not named:
        return []
    if not known:
        return [
            Figure.skipped("object_accuracy", "rate", "higher", f"{detector.name} knows none of the objects")
        ]
    raw = cell.measured.scores[detector.name]
    hits = [_top(detector, raw[row], name) for row, name in known.items()]
    chance = sum(1 / len(detector.rivals(name)) for name in known.values()) / len(known)
    note = (
        f"unknown to the detector and left out: {len(named) - len(known)}" if len(known) < len(named) else ""
    )
    settings = _detector_settings(detector) | {"reading": "top 1 of the object's family", "chance": chance}
    rate = Rate.of(hits, cell.prompts(list(known)))
    return [Figure.of_rate("object_accuracy", rate, "higher", settings=settings, note=note)]


def _top(detector: Detector, row: NDArray[np.float32], name: str) -> bool:
    rivals = list(detector.rivals(name))
    return rivals[int(row[rivals].argmax())] in detector.columns(name)


def _parquet(cell: _Cell) -> bytes:
    """One row for each picture: what it is, raw scores, CLIP score, collapse signals, distances."""
    import io

    import pandas as pd

    columns: dict[str, Any] = {
        name: [getattr(sample, name) for sample in cell.samples.samples]
        for name in ("prompt_set", "prompt_id", "role", "repetition", "seed", "sha256")
    }
    for detector in cell.scorer.detectors:
        raw = cell.measured.scores[detector.name]
        columns |= {f"{detector.name}/{label}": raw[:, index] for index, label in enumerate(detector.classes)}
    columns["clip_score"] = cell.measured.clip_scores
    columns |= {f"collapse/{name}": values for name, values in cell.measured.signals.items()}
    columns["collapsed"] = cell.thresholds.collapsed(cell.measured.signals)
    columns["distance_to_original"] = pixel_distance(cell.samples.pictures, cell.original.pictures)
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    return buffer.getvalue()
