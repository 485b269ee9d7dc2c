"""Raw scores of stored pictures by one detector, kept beside them, whatever the concept or the cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.metrics.picture_table import Key, PictureTable
from zbench.stages.measurements import behind
from zbench.stages.memory import Room
from zbench.store import DONE, StageFolder, Store, atomic_write_bytes, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zbench.detectors.base import Detector, Progress
    from zbench.stages.samples import SamplesView

DETECTIONS_FILE = "scores.parquet"

CHUNK = 64
"""Pictures held at once: a multiple of the detectors' own batches, so that it changes no score."""


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
    raw = _raw_scores(view, detector, folder.notify, progress)
    table = PictureTable.of(view.samples, {detector.name: (detector.classes, raw)}, {}, {})
    folder.write(lambda place: atomic_write_bytes(place / DETECTIONS_FILE, table.to_parquet()))


def _raw_scores(
    view: SamplesView, detector: Detector, say: Callable[[str], None], progress: Progress | None
) -> NDArray[np.float32]:
    """Scores a few pictures at a time, [N, classes]."""
    import numpy as np

    def look(rows: Sequence[int]) -> NDArray[np.float32]:
        return detector.scores(view.read(rows), behind(progress, rows, len(view)))

    room = Room(CHUNK, "pictures to be scored", say)
    return np.concatenate([scores for _, scores in room.parts(range(len(view)), look)])


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
