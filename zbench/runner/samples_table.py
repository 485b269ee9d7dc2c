"""`samples.parquet`: what was measured on every scored picture of a cell, and which picture that is.

It stands beside ``result.json`` and is enough to derive every rate again: raw values, never verdicts. Equal
scores of equal pictures give equal bytes, whatever machine, launcher or interruption they went through.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import StoreError
from zbench.metrics.picture_table import Key, PictureTable
from zbench.stages.evidence_files import PICTURES_FILE
from zbench.stages.samples import picture_name, read_manifest

if TYPE_CHECKING:
    from zbench.stages.samples import Sample

SAMPLES_FILE = "samples.parquet"


def samples_table(score_folder: Path, samples_folders: Iterable[Path]) -> bytes:
    """The table of a cell, as the bytes of a Parquet file.

    Args:
        score_folder: The cell's complete scores folder.
        samples_folders: The complete folders of the cell's own pictures, in any order.

    Returns:
        One row for each scored picture, in the order of the scores: prompt set, prompt id, role, repetition,
        seed, the picture's SHA-256, ``picture`` (its place below the run folder) and every raw value that was
        measured; see `zbench.metrics.picture_table.PictureTable`.

    Raises:
        StoreError: A file is missing or damaged, or a scored picture is not the one that lies there.
    """
    table = PictureTable.read(score_folder / PICTURES_FILE)
    places = _places(samples_folders)
    found = [places.get(key) for key in table.keys]
    for key, sha256, known in zip(table.keys, table.frame["sha256"], found, strict=True):
        if known is None or known[0].sha256 != sha256:
            raise StoreError(
                f"The scored picture {key[1]} #{key[2]} is not among the cell's pictures;"
                f" delete {score_folder} and run again."
            )
    column = list(table.frame.columns).index("sha256") + 1
    frame = table.frame.copy()
    frame.insert(column, "picture", [known[1] for known in found if known is not None])
    return PictureTable(frame).to_parquet()


def _places(folders: Iterable[Path]) -> dict[Key, tuple[Sample, str]]:
    """Description and place of every picture."""
    return {
        sample.key: (sample, f"{folder.parent.name}/{folder.name}/{picture_name(index)}")
        for folder in folders
        for index, sample in enumerate(read_manifest(folder).samples)
    }
