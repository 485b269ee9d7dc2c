"""What is published of a real run: figures that follow from outcomes, small pictures, no folders."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.published_tools import COMMIT, publishing_world, run_cells
from tests.tiny import save_smallest_pipeline
from zbench.errors import StoreError
from zbench.prompts import load_prompt_set
from zbench.results.checks import check_tree
from zbench.results.collect import Wish, collect, read_cell
from zbench.results.groups import groups
from zbench.results.outcomes import Layout
from zbench.results.pictures import Rules, Tile, draw_sprite, gallery_of
from zbench.results.publish import Published, publish, thinned
from zbench.results.schema import MOST_POINTS, PublishedResult
from zbench.results.tree import read_tree
from zbench.results.wordings import publishable_wordings
from zbench.store import sha256_bytes, sha256_file


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`original` and `shift`, attacked by words and by changed weights."""
    model = save_smallest_pipeline(tmp_path_factory.mktemp("model") / "pipeline")
    with publishing_world(tmp_path_factory.mktemp("world")):
        out = tmp_path_factory.mktemp("runs") / "runs"
        yield run_cells(model, out, "shift", attacks=("words", "pushed", "unable"))


@pytest.fixture(scope="module")
def published(run_folder: Path) -> list[Published]:
    return [publish(read_cell(path), run_folder) for path in sorted((run_folder / "cells").iterdir())]


@pytest.fixture(scope="module")
def tree(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `collect` makes of the run; do not write into it."""
    out = tmp_path_factory.mktemp("tree")
    collected = collect([run_folder], out, Wish(shortened=True))
    assert (len(collected.written), collected.refused) == (2, [])
    return out


def test_the_tree_holds_every_cell_where_it_belongs(tree: Path) -> None:
    read = read_tree(tree)
    assert [each.method.name for each in read.results] == ["original", "shift"]
    assert not read.problems and not check_tree(tree)
    (group,) = groups(read.results)
    assert group.conditions == {"prompts": 4, "repetitions": 2}
    assert group.slug == "tuning-v1-prompts-4-repetitions-2"
    assert group.original is not None and len(group.results) == 2


def test_nothing_of_this_machine_is_published(tree: Path, run_folder: Path) -> None:
    for path in tree.rglob("*.json"):
        text = path.read_text()
        assert str(run_folder) not in text and not re.search(r'"/(tmp|home|root|work)', text)


def test_a_result_says_what_it_is(published: list[Published]) -> None:
    for each in published:
        result = each.result
        assert result.release.commit == COMMIT and result.release.wheel_sha256 is None
        assert result.concept.family == "nsfw" and result.model.domain == "world"
        assert result.samples_sha256 and result.result.provenance["detectors"][0]["file_sha256"]
        assert "evidence" not in result.result.provenance
        assert all(not record.stages for record in result.result.attacks)
    method = published[-1].result.method
    assert method.source == "stranger 1.0" and method.card and method.card.title == "Shift"
    assert method.fields["training_seed"].startswith("Everything random")


def test_the_size_of_the_edit_is_told(published: list[Published], run_folder: Path) -> None:
    original, erased = (each.result.result for each in published)
    assert original.cost is None and erased.cost is not None
    files = (run_folder / erased.stages["erase"] / "edit").iterdir()
    kept = {path.name: path.stat().st_size for path in files}
    assert erased.cost["edit_bytes"] == sum(kept.values()) - kept.get("probe.safetensors", 0) > 0


def test_outcomes_are_laid_out_by_prompt(published: list[Published]) -> None:
    for result in (each.result for each in published):
        explicit = result.outcomes["asr_explicit"]
        assert (
            explicit.roles == ("explicit",) and len(explicit.hits) == result.prompts["explicit"].prompts * 2
        )
        figure = result.result.figure("asr_explicit")
        assert figure and (explicit.hits.count("1"), len(explicit.hits)) == (figure["n"], figure["N"])
        assert len(result.outcomes["clip_score"].values) == result.prompts["unrelated"].prompts * 2
        post = result.outcomes["words/attack_post"].hits
        assert post[1::2].strip("-") == "" and set(post[::2]) <= {"0", "1"}


def test_rates_of_damage_have_outcomes_too(published: list[Published]) -> None:
    measured = {f["name"] for f in published[0].result.result.figures if f["n"] is not None}
    assert {"collapse_rate", "asr_explicit"} <= measured
    assert measured - set(published[0].result.outcomes) <= {"manifold_precision", "precision"}


def test_all_cells_show_the_same_plain_pictures(published: list[Published]) -> None:
    shown = [
        [(p.role, p.prompt_id, p.seed, p.prompt) for p in each.result.gallery.pictures if p.kind == "plain"]
        for each in published
    ]
    assert shown[0] and all(each == shown[0] for each in shown)
    assert all(words for *_, words in shown[0])


def test_winners_of_attacks_are_shown_with_what_they_asked(published: list[Published]) -> None:
    winners = [p for each in published for p in each.result.gallery.pictures if p.kind == "attack"]
    assert winners and all(each.flagged for each in winners)
    for each in winners:
        assert (each.attack_prompt is not None) == (each.attack == "words")
        assert each.prompt is not None and each.attack_prompt != each.prompt


def test_the_sprite_is_what_the_gallery_says(published: list[Published]) -> None:
    for each in published:
        assert each.pictures is not None
        gallery = each.result.gallery
        assert gallery.sha256 == sha256_bytes(each.pictures)
        with Image.open(io.BytesIO(each.pictures)) as sheet:
            rows = -(-len(gallery.pictures) // gallery.columns)
            assert sheet.size == (
                gallery.side * min(gallery.columns, len(gallery.pictures)),
                gallery.side * rows,
            )


def test_collecting_again_touches_nothing(tree: Path, run_folder: Path) -> None:
    before = {
        path: (path.stat().st_mtime_ns, sha256_file(path)) for path in tree.rglob("*") if path.is_file()
    }
    for wish in (Wish(shortened=True), Wish(shortened=True, replace=True)):
        collected = collect([run_folder], tree, wish)
        assert len(collected.unchanged) == 2 and not collected.refused and not collected.replaced
    after = {path: (path.stat().st_mtime_ns, sha256_file(path)) for path in tree.rglob("*") if path.is_file()}
    assert after == before


def test_a_figure_that_does_not_follow_is_not_published(run_folder: Path) -> None:
    result = read_cell(next((run_folder / "cells").glob("shift*")))
    wrong = [{**f, "n": f["n"] + 1} if f["name"] == "asr_explicit" else f for f in result.figures]
    said = r"asr_explicit is .* and its outcomes give .* score the cell again"
    with pytest.raises(StoreError, match=said):
        publish(result.model_copy(update={"figures": tuple(wrong)}), run_folder)


def test_files_are_json_with_a_figure_a_line(tree: Path) -> None:
    path = next(tree.rglob("shift*.json"))
    text = path.read_text()
    record = json.loads(text)
    assert record["kind"] == "zbench result" and text.endswith("}\n")
    named = [line for line in text.splitlines() if '"name":"asr_explicit"' in line]
    assert len(named) == 1
    assert PublishedResult.model_validate(record).result.figure("asr_explicit")["p_value"] is not None  # type: ignore[index]


# Pictures that may not be shown -----------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "0000.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def tile(path: Path, role: str, flagged: bool = False, **more: str) -> Tile:
    sample = {
        "prompt_set": "s", "prompt_id": role, "role": role, "repetition": 0, "seed": 1, "prompt": "p",
        "sha256": "0" * 64,
    }  # fmt: skip
    return Tile(path, sample, flagged, **more)


def test_delicate_pictures_are_unrecognisable(picture: Path) -> None:
    tiles = [
        tile(picture, "explicit"), tile(picture, "unrelated"), tile(picture, "unrelated", flagged=True),
        tile(picture, "explicit", attack="words", attack_prompt="obscene"),
    ]  # fmt: skip
    gallery, sprite = gallery_of(tiles, Rules(True, "hide", {}), (64, 64))
    assert [each.hidden for each in gallery.pictures] == [True, False, True, True]
    assert all(each.prompt is None and each.attack_prompt is None for each in gallery.pictures)
    assert sprite is not None
    with Image.open(io.BytesIO(sprite)) as sheet:
        pixels = np.asarray(sheet.convert("L"), dtype=float)
    hidden, seen = pixels[:, :64], pixels[:, 64:128]
    assert hidden[:16, :16].std() < 3 < 15 < seen[:16, :16].std()
    kept, _ = gallery_of(tiles, Rules(True, "keep", {}), (64, 64))
    plain, _ = gallery_of(tiles, Rules(False, "hide", {}), (64, 64))
    assert not any(each.hidden for each in (*kept.pictures, *plain.pictures))


def test_large_pictures_get_larger_tiles(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (512, 384), "red").save(path)
    gallery, sprite = gallery_of([tile(path, "explicit")], Rules(False, "hide", {}), (384, 512))
    assert gallery.side == 128 and sprite is not None
    with Image.open(io.BytesIO(sprite)) as sheet:
        assert sheet.size == (128, 128)
    assert draw_sprite([(path, False)], 128, 8) == sprite


def test_only_shipped_or_free_wordings_are_shown() -> None:
    shipped = {"prompt_set": "nudity-explicit", "prompt_id": "nudity-explicit-evaluation-1"}
    words = next(p.text for p in load_prompt_set("nudity-explicit").prompts if p.id == shipped["prompt_id"])
    samples = [
        {**shipped, "prompt": words},
        {**shipped, "prompt": "other words under this id"},
        {"prompt_set": "ring-a-bell", "prompt_id": "ring-a-bell-7", "prompt": "gated"},
        {"prompt_set": "coco-10k", "prompt_id": "coco-10k-0", "prompt": "free"},
        {"prompt_set": "mine", "prompt_id": "mine-0", "prompt": "the user's own"},
    ]
    found = publishable_wordings(samples, "world")
    assert set(found.values()) == {words, "free"}
    assert set(publishable_wordings(samples, "world", delicate=True).values()) == {words}


# Traces and layouts -----------------------------------------------------------------------------------------


def test_traces_keep_their_ends() -> None:
    rows = [{"step": float(step), "loss": 1 / (1 + step)} for step in range(1000)]
    trace = thinned(rows)
    assert len(trace.steps) == MOST_POINTS and trace.steps[0] == 0 and trace.steps[-1] == 999
    assert list(trace.steps) == sorted(set(trace.steps)) and len(trace.series["loss"]) == MOST_POINTS
    assert thinned([{"step": 0.0, "a": 1.0}, {"step": 1.0, "b": 2.0}]).series == {
        "a": (1.0, None),
        "b": (None, 2.0),
    }
    assert thinned([]).steps == ()


def test_pictures_that_a_figure_does_not_look_at_are_dashes() -> None:
    layout = Layout({"unrelated": [("u", "1", 0), ("u", "2", 0)], "explicit": [("e", "1", 0), ("e", "1", 1)]})
    found = layout.outcomes({("u", "2", 0): 1.0, ("e", "1", 1): 0.0}, is_rate=True)
    assert found.roles == ("explicit", "unrelated") and found.hits == "-0-1"
    means = layout.outcomes({("u", "1", 0): 1 / 3}, is_rate=False)
    assert means.values == (0.3333333, None) and means.numbers == (0.3333333, None)
