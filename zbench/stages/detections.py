"""Raw scores of stored pictures by one detector, kept beside them, whatever the concept or the cell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.metrics.picture_table import Key, PictureTable
from zbench.store import DONE, StageFolder, Store, atomic_write_bytes, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zbench.detectors.base import Detector, Progress

DETECTIONS_FILE = "scores.parquet"


def detections_folder(store: Store, samples: Path, detector: Detector) -> StageFolder:
    """Where the raw scores of a samples folder lie, made or not.

    Args:
        store: The run folder.
        samples: A complete samples folder.
        detector: Its name, version and weights are the identity, with the pictures.
    """
    config = {
        "stage": "detections", "samples": read_json(samples / DONE)["files"]["manifest.json"],
        "detector": detector.name, "version": detector.version, "file_sha256": detector.file_sha256,
    }  # fmt: skip
    return store.stage("detections", config, prefix=f"{detector.name}-{samples.name}")


def detect(folder: StageFolder, samples: Path, detector: Detector, progress: Progress | None = None) -> None:
    """Scores the pictures of a samples folder and puts the scores in place.

    Raises:
        StoreError: Pictures are missing or altered, or the folder cannot be written.
    """
    from zbench.stages.samples import SamplesView

    view = SamplesView.load(samples)
    raw = detector.scores(view.pictures, progress)
    table = PictureTable.of(view.samples, {detector.name: (detector.classes, raw)}, {}, {})
    folder.write(lambda place: atomic_write_bytes(place / DETECTIONS_FILE, table.to_parquet()))


def read_detections(folder: StageFolder, detector: Detector) -> dict[Key, NDArray[np.float32]]:
    """Raw scores [classes] of each picture."""
    table = PictureTable.read(folder.path / DETECTIONS_FILE)
    names = [f"{detector.name}/{label}" for label in detector.classes]
    return dict(zip(table.keys, table.frame[names].to_numpy(dtype="float32"), strict=True))


def kept_scores(
    store: Store, samples: Iterable[Path], detector: Detector, progress: Progress | None = None
) -> dict[Key, NDArray[np.float32]]:
    """Raw scores of every picture in some samples folders; only what is missing is looked at.

    Args:
        store: The run folder.
        samples: Complete samples folders.
        detector: The detector.
        progress: Told (pictures done, pictures in all) for each folder.
    """
    found: dict[Key, NDArray[np.float32]] = {}
    for place in samples:
        folder = detections_folder(store, place, detector)
        if not folder.is_complete():
            detect(folder, place, detector, progress)
        found |= read_detections(folder, detector)
    return found
