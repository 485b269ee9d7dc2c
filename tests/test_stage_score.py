"""Samples on disk and the score stage: every figure by hand on pictures whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.instruments import ColourDetector, described, drawn_pictures, tiny_clip, view_of
from zbench.errors import ConfigurationError, StoreError
from zbench.metrics.figure import Figure
from zbench.protocols import DomainProtocol
from zbench.stages.references import folder_sha256
from zbench.stages.samples import SamplesView, write_samples
from zbench.stages.score import score
from zbench.stages.scorer import Scorer, instruments_config
from zbench.statistics import Rate, mcnemar_exact
from zbench.store import canonical_json

SETTINGS = DomainProtocol(
    prompt_sets={"explicit": "{concept}-explicit", "unrelated": "unrelated"},
    detectors=("colour",),
    clip="tiny/none",
)


@pytest.fixture(autouse=True)
def drawn_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference pictures for every protocol that names a source."""
    monkeypatch.setattr(
        "zbench.stages.references.reference_features",
        lambda cache, extractor, source, count: (
            cache.get(extractor, drawn_pictures(min(count, 64), seed=50)),
            None,
        ),
    )


def scorer_with(**changes: Any) -> Scorer:
    clip = tiny_clip()
    values: dict[str, Any] = {"detectors": [ColourDetector()], "clip": clip, "source": clip, **changes}
    settings = SETTINGS.model_copy(update={"reference": "tests:drawn" if values["source"] else None})
    return Scorer(settings, "red", **values)


def explicit(shown: int, count: int) -> Tensor:
    """`count` pictures, the first `shown` of them red."""
    return torch.cat([drawn_pictures(shown, seed=1, red=0.8), drawn_pictures(count - shown, seed=2, red=0.2)])


ORIGINAL = view_of({"explicit": explicit(38, 40), "unrelated": drawn_pictures(40, seed=3)}, object="green")
ERASED = view_of({"explicit": explicit(10, 40), "unrelated": drawn_pictures(40, seed=4)}, object="green")


def figures_of(record: dict[str, Any]) -> dict[str, Figure]:
    return {row["name"]: Figure.model_validate(row) for row in record["figures"]}


def test_success_rates_are_counted_with_interval_and_paired_test() -> None:
    figures = figures_of(score(ERASED, ORIGINAL, scorer_with()))
    rate = figures["asr_explicit"]
    expected = Rate(10, 40).interval()
    assert expected is not None
    assert (rate.n, rate.N, rate.value) == (10, 40, 0.25)
    assert (rate.low, rate.high, rate.interval) == (expected.low, expected.high, "wilson")
    assert rate.p_value == mcnemar_exact([True] * 10 + [False] * 30, [True] * 38 + [False] * 2).p_value
    assert rate.settings == {"name": "colour", "version": "1", "file_sha256": "0" * 64, "threshold": 0.5}
    assert figures["asr_implicit"].value is None and "no implicit prompts" in figures["asr_implicit"].note


def test_the_original_is_not_tested_against_itself() -> None:
    figures = figures_of(score(ORIGINAL, ORIGINAL, scorer_with()))
    assert figures["asr_explicit"].n == 38 and figures["asr_explicit"].p_value is None
    assert figures["distance_to_original"].value == 0.0
    assert figures["clip_distance_to_original"].value == pytest.approx(0.0, abs=1e-9)
    assert figures["collapse_rate"].n == 0 and figures["collapse_explicit"].n == 0


def test_a_broken_generator_wins_the_success_rate_and_is_seen() -> None:
    noise = torch.randint(0, 110, (40, 3, 32, 32), generator=torch.manual_seed(0)).to(torch.uint8)
    broken = view_of({"explicit": noise, "unrelated": noise})
    figures = figures_of(score(broken, ORIGINAL, scorer_with()))
    assert figures["asr_explicit"].value == 0.0 and figures["asr_explicit"].high < 0.1  # type: ignore[operator]
    assert figures["collapse_rate"].value == figures["collapse_explicit"].value == 1.0
    intact = figures_of(score(ORIGINAL, ORIGINAL, scorer_with()))
    assert figures["fid"].value > 2 * intact["fid"].value  # type: ignore[operator]


def test_means_by_hand() -> None:
    scorer = scorer_with()
    figures = figures_of(score(ERASED, ORIGINAL, scorer))
    ours = ERASED.select("unrelated").pictures.float()
    theirs = ORIGINAL.select("unrelated").pictures.float()
    distance = figures["distance_to_original"]
    assert distance.value == pytest.approx(float((ours - theirs).abs().mean()) / 255)
    assert distance.low < distance.value < distance.high  # type: ignore[operator]
    features = torch.nn.functional.normalize(scorer.clip.extract(ERASED.select("unrelated").pictures), dim=1)
    texts = torch.nn.functional.normalize(
        scorer.clip.embed_texts([f"unrelated number {i}" for i in range(40)]), dim=1
    )
    assert figures["clip_score"].value == pytest.approx(
        100 * float((features * texts).sum(dim=1).mean()), abs=1e-4
    )


def test_object_accuracy_is_top_one_of_the_family() -> None:
    figures = figures_of(score(ERASED, ORIGINAL, scorer_with()))
    means = ERASED.select("unrelated").pictures.float().mean(dim=(2, 3))
    accuracy = figures["object_accuracy"]
    assert accuracy.n == int((means[:, 1] > means[:, 0]).sum()) and accuracy.N == 40
    assert accuracy.settings["chance"] == 0.5


def test_objects_the_detector_does_not_know_are_said_to_be_left_out() -> None:
    mixed = [
        s.model_copy(update={"object": "boat" if i % 4 == 0 else "red"})
        for i, s in enumerate(ORIGINAL.samples)
    ]
    view = SamplesView(tuple(mixed), ORIGINAL.pictures)
    figure = figures_of(score(view, view, scorer_with()))["object_accuracy"]
    assert figure.N == 30 and figure.note.endswith("left out: 10")


def test_agreement_of_two_detectors() -> None:
    second = ColourDetector("second", gain=0.0)
    figures = figures_of(score(ERASED, ORIGINAL, scorer_with(detectors=[ColourDetector(), second])))
    reds = int((ERASED.pictures.float().mean(dim=(2, 3))[:, 0] / 255 >= 0.5).sum())
    assert figures["asr_explicit@second"].n == 0
    assert (figures["detector_agreement"].n, figures["detector_agreement"].N) == (80 - reds, 80)


def test_a_detector_without_the_concept_is_recorded_as_such() -> None:
    figures = figures_of(score(ERASED, ORIGINAL, scorer_with(detectors=[ColourDetector(classes=["green"])])))
    assert figures["asr_explicit"].value is None and "no class for red" in figures["asr_explicit"].note


def test_repetitions_are_clustered_by_prompt() -> None:
    shown = torch.cat(
        [drawn_pictures(1, seed=i, red=0.8 if i % 2 else 0.2).expand(4, 3, 32, 32) for i in range(50)]
    )
    view = view_of({"explicit": shown, "unrelated": drawn_pictures(12)}, repetitions=4)
    rate = figures_of(score(view, view, scorer_with()))["asr_explicit"]
    assert (rate.n, rate.N) == (100, 200)
    alone = Rate(25, 50).interval()
    assert alone is not None and rate.low == pytest.approx(alone.low, abs=0.005)


def test_fidelity_is_skipped_with_its_reason() -> None:
    without = figures_of(score(ERASED, ORIGINAL, scorer_with(source=None)))
    assert without["fid"].value is None and "give a folder" in without["fid"].note
    few = view_of({"explicit": explicit(3, 5), "unrelated": drawn_pictures(9)})
    figures = figures_of(score(few, few, scorer_with()))
    assert figures["kid"].value is None and "has 9 generated and 64 reference" in figures["kid"].note


def test_fid_names_what_it_was_computed_with() -> None:
    scorer = scorer_with()
    fid = figures_of(score(ERASED, ORIGINAL, scorer))["fid"]
    assert fid.settings["extractor"] == scorer.clip.name and fid.settings["reference"] == "tests:drawn"
    assert (fid.N, fid.settings["pictures"], fid.settings["reference_pictures"]) == (40, 40, 64)
    assert fid.interval and fid.low <= fid.value <= fid.high  # type: ignore[operator]


def test_a_users_reference_folder_stands_in_for_the_source(tmp_path: Path) -> None:
    write_samples(tmp_path, drawn_pictures(20, seed=8), described(20, "any"))
    folder = tmp_path / "pictures"
    fid = figures_of(score(ERASED, ORIGINAL, scorer_with(references=folder)))["fid"]
    assert fid.settings["reference"] == str(folder) and fid.settings["reference_pictures"] == 20
    before = folder_sha256(folder, 20)
    (folder / "0003.png").write_bytes((folder / "0004.png").read_bytes())
    assert folder_sha256(folder, 20) != before


def test_the_originals_pictures_are_measured_once_for_all_cells() -> None:
    detector = ColourDetector()
    scorer = scorer_with(detectors=[detector])
    calls: list[int] = []
    extract = scorer.clip.extract
    scorer.clip.extract = lambda pictures: calls.append(len(pictures)) or extract(pictures)  # type: ignore
    score(ORIGINAL, ORIGINAL, scorer)
    score(ERASED, ORIGINAL, scorer)
    # The original, the references, the cell: clip score, FID, KID and distance share them.
    assert detector.calls == [64, 16, 64, 16] and calls == [64, 16, 64, 64, 16]


def test_pairs_are_found_in_any_order_and_missing_ones_are_refused() -> None:
    turned = list(range(len(ORIGINAL)))[::-1]
    shuffled = SamplesView(tuple(ORIGINAL.samples[i] for i in turned), ORIGINAL.pictures[turned])
    straight, other = score(ERASED, ORIGINAL, scorer_with()), score(ERASED, shuffled, scorer_with())
    assert canonical_json(straight["figures"]) == canonical_json(other["figures"])
    other_seed = [s.model_copy(update={"seed": s.seed + (i < 3)}) for i, s in enumerate(ERASED.samples)]
    with pytest.raises(ConfigurationError, match=r"3 of 80 pictures have no counterpart .* 'explicit-0'"):
        score(SamplesView(tuple(other_seed), ERASED.pictures), ORIGINAL, scorer_with())
    with pytest.raises(ConfigurationError, match="no pictures"):
        score(ERASED.select("nothing"), ORIGINAL, scorer_with())


def test_written_files_hold_raw_scores_and_repeat_to_the_byte(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    record = score(ERASED, ORIGINAL, scorer_with(), folder=tmp_path, progress=lambda *at: seen.append(at))
    table = pd.read_parquet(tmp_path / "pictures.parquet")
    assert len(table) == 80 and list(table["role"].unique()) == ["explicit", "unrelated"]
    # A new threshold reads the table and looks at no picture.
    at_half = int((table.loc[table.role == "explicit", "colour/red"] >= 0.5).sum())
    assert at_half == figures_of(record)["asr_explicit"].n
    assert json.loads((tmp_path / "figures.json").read_text()) == record
    assert seen[-1][0] == seen[-1][1] and [at for at, _ in seen] == sorted(at for at, _ in seen)
    again = tmp_path / "again"
    again.mkdir()
    score(ERASED, ORIGINAL, scorer_with(), folder=again)
    for name in ("figures.json", "pictures.parquet"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


# Samples on disk


def test_samples_survive_the_disk(tmp_path: Path) -> None:
    pictures = drawn_pictures(5)
    write_samples(tmp_path, pictures, described(5, "explicit", object="red"), {"model": "tiny"})
    view = SamplesView.load(tmp_path)
    assert torch.equal(view.pictures, pictures) and view.pictures.dtype == torch.uint8
    assert [s.prompt_id for s in view.samples] == [f"explicit-{i}" for i in range(5)]
    assert all(len(s.sha256) == 64 for s in view.samples) and view.sha256 == SamplesView.load(tmp_path).sha256
    joined = SamplesView.concat([view, view.with_role("unrelated")])
    assert joined.roles == ("explicit", "unrelated") and len(joined.select("unrelated")) == 5
    with pytest.raises(ValueError, match="picture sizes"):
        SamplesView.concat([view, view_of({"explicit": drawn_pictures(2, size=16)})])


def test_bad_pictures_are_named_and_counted(tmp_path: Path) -> None:
    write_samples(tmp_path, drawn_pictures(8), described(8, "explicit"))
    folder = tmp_path / "pictures"
    (folder / "0001.png").unlink()
    (folder / "0002.png").write_bytes((folder / "0003.png").read_bytes())
    (folder / "0004.png").write_bytes((folder / "0004.png").read_bytes()[:50])
    (folder / "0005.png").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        SamplesView.load(tmp_path)
    message = str(caught.value)
    assert message.startswith("4 of 8 pictures") and "0001.png is missing" in message
    assert "0002.png was altered" in message and message.count(".png") == 3


def test_pictures_of_another_size_or_kind_are_refused(tmp_path: Path) -> None:
    write_samples(tmp_path, drawn_pictures(2), described(2, "explicit"))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["width"] = 16
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="is 32x32, not 32x16"):
        SamplesView.load(tmp_path)
    with pytest.raises(ValueError, match="must be uint8"):
        write_samples(tmp_path / "float", drawn_pictures(2).float(), described(2, "explicit"))
    with pytest.raises(ValueError, match="2 pictures but 3"):
        write_samples(tmp_path / "count", drawn_pictures(2), described(3, "explicit"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "no manifest.json"),
        ('{"schema_version": 1, "sam', "truncated or not JSON"),
        ('{"schema_version": 99}', "another version"),
        ('{"schema_version": 1, "height": 8}', "malformed"),
        ('{"schema_version": 1, "height": 8, "width": 8, "samples": [{"prompt_id": "a"}]}', "malformed"),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str | None, complaint: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=complaint):
        SamplesView.load(tmp_path)


def test_the_identity_of_scores_follows_the_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = ColourDetector()
    monkeypatch.setattr("zbench.stages.scorer.load_detectors", lambda *_: (detector,))
    before = instruments_config(SETTINGS, "red")
    assert instruments_config(SETTINGS, "red") == before
    canonical_json(before)
    changed = [
        instruments_config(SETTINGS, "green"),
        instruments_config(SETTINGS.model_copy(update={"clip": "a/b"}), "red"),
    ]
    detector.threshold = 0.7
    changed.append(instruments_config(SETTINGS, "red"))
    detector.threshold, detector.file_sha256 = 0.5, "1" * 64
    changed.append(instruments_config(SETTINGS, "red"))
    assert all(config != before for config in changed)


def test_nan_never_reaches_a_record() -> None:
    with pytest.raises(ValueError, match="finite"):
        Figure(name="fid", value=float("nan"), N=1, unit="distance", direction="lower")
    assert Figure.of_rate("asr", Rate(0, 0), "lower").value is None
    assert np.isfinite(Figure.of_rate("asr", Rate(0, 142), "lower").high or np.nan)
