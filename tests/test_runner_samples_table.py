"""`samples.parquet`: one row for each scored picture, from which rates can be derived again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.instruments import ColourDetector, described, drawn_pictures, tiny_clip
from zbench.errors import StoreError
from zbench.protocols import load_protocol
from zbench.runner.samples_table import samples_table
from zbench.stages.samples import SamplesView, write_samples
from zbench.stages.score import score
from zbench.stages.scorer import Scorer
from zbench.store import sha256_file

SETTINGS = load_protocol("zbench").table("world", "nudity", "nsfw").model_copy(update={"reference": None})
ROLES = ("explicit", "unrelated")


@pytest.fixture
def cell(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A scores folder and the samples folders of its pictures, of which one was not scored."""
    folders = [tmp_path / "samples" / f"pictures-{role}" for role in ROLES]
    for seed, (role, folder) in enumerate(zip(ROLES, folders, strict=True)):
        write_samples(folder, drawn_pictures(6, seed=seed), described(6, role, repetitions=2))
    view = SamplesView.concat([SamplesView.load(folder) for folder in folders]).take(range(11))
    scores = tmp_path / "scores" / "scores-red"
    scores.mkdir(parents=True)
    scorer = Scorer(SETTINGS, "red", detectors=[ColourDetector()], clip=tiny_clip(), source=None)
    score(view, view, scorer, folder=scores)
    return scores, folders


def test_rows_name_their_pictures_and_hold_raw_values(cell: tuple[Path, list[Path]], tmp_path: Path) -> None:
    scores, folders = cell
    table = pd.read_parquet(io.BytesIO(samples_table(scores, folders)))
    raw = pd.read_parquet(scores / "pictures.parquet")
    assert len(table) == 11 and list(table["role"].unique()) == list(ROLES)
    first = ["prompt_set", "prompt_id", "role", "repetition", "seed", "sha256", "picture"]
    assert list(table.columns)[: len(first)] == first
    assert all(sha256_file(tmp_path / row.picture) == row.sha256 for row in table.itertuples())
    pd.testing.assert_frame_equal(table.drop(columns="picture"), raw)
    assert {"colour/red", "clip_score", "distance_to_original", "collapse/contrast"} <= set(table.columns)


def test_equal_evidence_gives_equal_bytes(cell: tuple[Path, list[Path]]) -> None:
    scores, folders = cell
    assert samples_table(scores, folders) == samples_table(scores, reversed(folders))


@pytest.mark.parametrize("change", ["sha256", "prompt_id"])
def test_a_score_of_a_picture_that_is_not_there_is_refused(
    cell: tuple[Path, list[Path]], change: str
) -> None:
    scores, folders = cell
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    manifest["samples"][3][change] = "another"
    (folders[0] / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="explicit-1 #1 is not among the cell's pictures; delete"):
        samples_table(scores, folders)


def test_what_is_missing_is_named(cell: tuple[Path, list[Path]]) -> None:
    scores, folders = cell
    with pytest.raises(StoreError, match="not among"):
        samples_table(scores, folders[:1])
    (scores / "pictures.parquet").unlink()
    with pytest.raises(StoreError, match=r"pictures\.parquet is missing"):
        samples_table(scores, folders)
