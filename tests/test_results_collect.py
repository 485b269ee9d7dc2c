"""`zbench collect`: what is published, what is refused and why, and that nothing is ever half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.published_tools import CLEAN, publishing_world, run_cells
from tests.tiny import save_smallest_pipeline
from zbench.cli.collect import collect as command
from zbench.cli.collect import split_folders
from zbench.code import release_of
from zbench.errors import ConfigurationError, StoreError
from zbench.results.checks import check_tree
from zbench.results.collect import Collected, Wish, collect
from zbench.results.form import to_text
from zbench.results.groups import groups
from zbench.results.publish import Published
from zbench.results.schema import Gallery
from zbench.results.tree import read_tree
from zbench.results.writing import write
from zbench.store import Store, atomic_write_json, read_json

SHORT = Wish(shortened=True)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A run folder with cells of all kinds, and one whose cells are attacked; do not write into them."""
    model = save_smallest_pipeline(tmp_path_factory.mktemp("model") / "pipeline")
    out = tmp_path_factory.mktemp("runs")
    with publishing_world(tmp_path_factory.mktemp("world")):
        plain = run_cells(model, out / "plain", "shift", "breaks", "picky")
        attacked = Path(shutil.copytree(plain, out / "attacked"))
        run_cells(model, attacked, "shift", attacks=("words",))
        run_cells(model, attacked, "shift", attacks=("pushed",))
        yield plain, attacked


@pytest.fixture
def plain(worlds: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(worlds[0], tmp_path / "plain"))


@pytest.fixture
def attacked(worlds: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(worlds[1], tmp_path / "attacked"))


def reasons(collected: Collected) -> dict[str, str]:
    """Method -> why its cell stays out."""
    return {
        each.cell.partition("/")[2].partition("-")[0]: "; ".join(each.reasons)
        for each in (*collected.refused, *collected.covered)
    }


def rewrite(run: Path, cell: str, **changes: Any) -> None:
    """Alters the result of a cell, as if it had come out like that."""
    path = next((run / "cells").glob(f"{cell}*"))
    record = read_json(path / "result.json") | changes
    (path / "result.json").unlink()
    folder = Store(run).stored(f"cells/{path.name}")

    def fill(place: Path) -> None:
        for file in path.iterdir():
            if file.name not in ("done.json", "result.json"):
                shutil.copy(file, place / file.name)
        atomic_write_json(place / "result.json", record)

    folder.write(fill)


# Which cells ------------------------------------------------------------------------------------------------


def test_finished_cells_are_published_and_others_refused(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collected = collect([plain], out, SHORT)
    assert sorted(place.parts[-2] for place in collected.written) == ["original", "shift"]
    told = reasons(collected)
    assert told["breaks"] == "failed: RuntimeError: the sky fell"
    assert told["picky"] == "skipped: only erases styles"
    assert len(read_tree(out).results) == 2


def test_shortened_cells_need_to_be_wanted(plain: Path, tmp_path: Path) -> None:
    collected = collect([plain], tmp_path / "results")
    assert not collected.written and "only the first 4 prompts" in reasons(collected)["shift"]
    assert not (tmp_path / "results").exists()


def test_a_dry_run_writes_nothing(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collected = collect([plain], out, Wish(shortened=True, dry_run=True))
    assert len(collected.written) == 2 and not out.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"checkout": {"commit": "a" * 40, "dirty": True}}, "uncommitted changes"),
        ({"checkout": None, "release": None}, "which code made it is unknown"),
        ({"checkout": None, "release": {"record_sha256": "0" * 64, "altered": 3}}, "3 altered files"),
    ],
)
def test_code_that_cannot_be_named_is_refused(
    plain: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = next((plain / "cells").glob("shift*")) / "result.json"
    rewrite(plain, "shift", provenance=read_json(path)["provenance"] | change)
    assert reason in reasons(collect([plain], tmp_path / "results", SHORT))["shift"]


def test_an_installed_release_is_named_by_its_hash(plain: Path, tmp_path: Path) -> None:
    path = next((plain / "cells").glob("shift*")) / "result.json"
    released = {"checkout": None, "release": {"record_sha256": "ab" * 32, "altered": 0}}
    rewrite(plain, "shift", provenance=read_json(path)["provenance"] | released)
    collect([plain], tmp_path / "results", SHORT)
    result = next(each for each in read_tree(tmp_path / "results").results if each.method.name == "shift")
    assert (result.release.commit, result.release.wheel_sha256) == (None, "ab" * 32)


def test_a_cell_of_a_newer_schema_is_refused(plain: Path, tmp_path: Path) -> None:
    rewrite(plain, "shift", schema_version=99)
    assert "upgrade zbench" in reasons(collect([plain], tmp_path / "results", SHORT))["shift"]


@pytest.mark.parametrize("damaged", ["cells/shift*/result.json", "scores/*/pictures.parquet"])
def test_altered_evidence_is_refused(plain: Path, tmp_path: Path, damaged: str) -> None:
    for path in plain.glob(damaged):
        path.write_bytes(path.read_bytes() + b" ")
    collected = collect([plain], tmp_path / "results", SHORT)
    assert "altered" in reasons(collected)["shift"]


def test_a_cell_without_evidence_of_its_attacks_is_refused(attacked: Path, tmp_path: Path) -> None:
    shutil.rmtree(attacked / "attack_scores")
    collected = collect([attacked], tmp_path / "results", SHORT)
    assert "attack_scores" in "".join(each.reasons[0] for each in collected.refused)


def written_by(run: Path, places: str, code: dict[str, Any] | None) -> None:
    """Lets stages say that some code wrote them; nothing where it is None, as an older zbench did."""
    for path in run.glob(f"{places}/done.json"):
        record = {name: value for name, value in read_json(path).items() if name != "code"}
        atomic_write_json(path, record if code is None else record | {"code": code})


def test_stages_say_which_code_wrote_them(plain: Path) -> None:
    for path in plain.glob("*/*/done.json"):
        assert read_json(path)["code"] == {"checkout": CLEAN, "release": None}, path


@pytest.mark.parametrize("kind", ["erasures", "samples", "scores"])
def test_stages_of_unclean_code_are_refused(plain: Path, tmp_path: Path, kind: str) -> None:
    written_by(plain, f"{kind}/*", {"checkout": {"commit": "a" * 40, "dirty": True}, "release": None})
    told = reasons(collect([plain], tmp_path / "results", SHORT))["shift"]
    assert f"{kind}/" in told and "uncommitted changes" in told and "new folder (--out)" in told


@pytest.mark.parametrize("kind", ["attacks", "attack_scores", "detections"])
def test_attacks_of_unclean_code_are_refused(attacked: Path, tmp_path: Path, kind: str) -> None:
    assert list(attacked.glob(f"{kind}/*/done.json"))
    written_by(attacked, f"{kind}/*", {"checkout": None, "release": None})
    told = reasons(collect([attacked], tmp_path / "results", SHORT))["shift"]
    assert f"{kind}/" in told and "which code made it is unknown" in told


def test_stages_of_an_older_zbench_are_judged_by_their_cell(plain: Path, tmp_path: Path) -> None:
    written_by(plain, "*/*", None)
    assert len(collect([plain], tmp_path / "results", SHORT).written) == 2


def test_pictures_that_were_altered_are_refused(plain: Path, tmp_path: Path) -> None:
    for path in plain.glob("samples/*/pictures/*.png"):
        Image.new("RGB", (64, 64), "red").save(path)
    collected = collect([plain], tmp_path / "results", SHORT)
    assert not collected.written and "were altered" in reasons(collected)["shift"]


def without_evidence(record: dict[str, Any]) -> None:
    record["provenance"].pop("evidence")


def without_pins(record: dict[str, Any]) -> None:
    for sheet in record["provenance"]["prompts"].values():
        sheet.pop("pin")


def without_unit(record: dict[str, Any]) -> None:
    record["figures"][0].pop("unit")


def without_scores(record: dict[str, Any]) -> None:
    record["stages"].pop("score")


def on_a_branch(record: dict[str, Any]) -> None:
    record["provenance"]["checkout"] = {"branch": "x"}


@pytest.mark.parametrize(
    "damage", [without_evidence, without_pins, without_unit, without_scores, on_a_branch]
)
def test_a_damaged_cell_keeps_no_other_one_out(
    plain: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    record = read_json(next((plain / "cells").glob("shift*")) / "result.json")
    damage(record)
    rewrite(plain, "shift", **record)
    collected = collect([plain], tmp_path / "results", SHORT)
    assert [place.parts[-2] for place in collected.written] == ["original"] and "shift" in reasons(collected)
    assert not check_tree(tmp_path / "results")


# Several results of one cell, or of one measurement ---------------------------------------------------------


def test_attacked_cells_take_the_place_of_plain_ones(plain: Path, attacked: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert len(collect([plain], out, SHORT).written) == 2
    collected = collect([attacked], out, SHORT)
    assert (len(collected.written), len(collected.removed)) == (4, 2)
    assert all(len(each.result.attacks) == 1 for each in read_tree(out).results)
    assert len(list(out.rglob("*.webp"))) == 4
    again = collect([plain], out, SHORT)
    assert not again.written and "the same measurement with more attacks" in reasons(again)["shift"]


def test_a_run_folder_with_both_publishes_the_attacked_one(attacked: Path, tmp_path: Path) -> None:
    collected = collect([attacked], tmp_path / "results", SHORT)
    assert (len(collected.written), len(collected.covered)) == (4, 2) and not collected.refused[2:]
    assert "the same measurement with more attacks" in reasons(collected)["shift"]


def test_suites_of_attacks_stand_side_by_side(attacked: Path, tmp_path: Path) -> None:
    collect([attacked], tmp_path / "results", SHORT)
    assert not check_tree(tmp_path / "results")
    found = groups(read_tree(tmp_path / "results").results)
    suites = {attack.name for group in found for each in group.results for attack in each.result.spec.attacks}
    assert suites == {"pushed", "words"} and [len(group.results) for group in found] == [2, 2]
    assert [group.original is not None for group in found] == [True, True]


def test_another_result_of_a_cell_needs_to_be_replaced(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    (path,) = out.rglob("shift*.json")
    record = json.loads(path.read_text())
    record["result"]["figures"][0]["value"] = 0.123
    path.write_text(json.dumps(record))
    collected = collect([plain], out, SHORT)
    assert "--replace" in reasons(collected)["shift"] and json.loads(path.read_text()) == record
    assert len(collect([plain], out, Wish(shortened=True, replace=True)).replaced) == 1
    assert len(collect([plain], out, SHORT).unchanged) == 2


def test_the_same_measurement_of_another_machine_is_left_alone(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    (path,) = out.rglob("shift*.json")
    before = path.read_bytes()
    stored = read_json(next((plain / "cells").glob("shift*")) / "result.json")
    facts = stored["provenance"] | {"platform": "another", "device": {"type": "cuda"}}
    rewrite(plain, "shift", provenance=facts, seconds={"erase": 9.0})
    assert len(collect([plain], out, SHORT).unchanged) == 2 and path.read_bytes() == before


def test_a_damaged_file_in_the_tree_is_not_silently_overwritten(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    (path,) = out.rglob("shift*.json")
    path.write_text(path.read_text()[:100])
    assert "truncated" in reasons(collect([plain], out, SHORT))["shift"]
    assert len(collect([plain], out, Wish(shortened=True, replace=True)).replaced) == 1


def other_figure(out: Path, name: str, value: float) -> Path:
    """Alters what a published result says of a figure without outcomes."""
    path = next(out.rglob(f"{name}*.json"))
    record = json.loads(path.read_text())
    figure = next(each for each in record["result"]["figures"] if each["name"] == "fid")
    figure.update(value=value, low=value - 1, high=value + 1)
    path.write_text(json.dumps(record))
    return path


def test_a_result_with_more_attacks_replaces_no_other_figures(
    plain: Path, attacked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    path = other_figure(out, "shift", 99.0)
    collected = collect([attacked], out, SHORT)
    told = [reason for each in collected.refused for reason in each.reasons if "shift" in each.cell]
    assert len(told) == 2 and all("says otherwise of fid" in reason for reason in told) and path.exists()
    assert path.relative_to(out).as_posix() not in map(str, collected.removed)
    assert collect([attacked], out, Wish(shortened=True, replace=True)).removed and not path.exists()


def test_a_plain_cell_with_other_figures_is_not_covered(plain: Path, attacked: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect([attacked], out, SHORT)
    for path in sorted(out.rglob("shift*.json")):
        record = json.loads(path.read_text())
        next(each for each in record["result"]["figures"] if each["name"] == "fid")["value"] = 99.0
        path.write_text(json.dumps(record))
    collected = collect([plain], out, SHORT)
    assert any("says otherwise of fid" in each.reasons[0] for each in collected.refused)


def test_what_a_killed_collect_left_is_taken_away(plain: Path, attacked: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "results", tmp_path / "before"
    collect([plain], before, SHORT)
    collect([attacked], out, SHORT)
    for runs in (plain, attacked):
        shutil.copytree(before, out, dirs_exist_ok=True)
        assert len(collect([runs], out, SHORT).removed) == 2
        assert not check_tree(out)


def test_lost_pictures_are_put_back(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    (pictures,) = out.rglob("shift*.webp")
    before = pictures.read_bytes()
    pictures.unlink()
    collected = collect([plain], out, SHORT)
    assert len(collected.replaced) == 1 and pictures.read_bytes() == before and not check_tree(out)


# Writing ----------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_half_written(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    (path,) = out.rglob("shift*.json")
    result = next(each for each in read_tree(out).results if each.method.name == "shift")
    pictures = path.with_suffix(".webp").read_bytes()
    path.unlink()
    path.with_suffix(".webp").unlink()

    def full(target: Path, data: bytes) -> None:
        if target.suffix == ".json":
            raise StoreError(f"Cannot write {target}: No space left on device.")
        target.write_bytes(data)

    monkeypatch.setattr("zbench.results.writing.atomic_write_bytes", full)
    with pytest.raises(StoreError, match="No space"):
        write(Published(result, pictures), out)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    assert write(Published(result, pictures), out) and not write(Published(result, pictures), out)
    assert path.read_text() == to_text(result)


@pytest.mark.parametrize("fails", [".json", ".webp"])
def test_a_replacement_that_fails_leaves_what_was_there(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    out = tmp_path / "results"
    collect([plain], out, SHORT)
    result = next(each for each in read_tree(out).results if each.method.name == "shift")
    folder = (out / result.place).parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = result.model_copy(update={"samples_sha256": "0" * 64})
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).suffix == fails and Path(target).parent == folder and "writing" in str(source):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("zbench.results.writing.os.replace", replace)
    with pytest.raises(StoreError, match="No space"):
        write(Published(other, b"others"), out)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    bare = other.model_copy(update={"gallery": Gallery()})
    assert write(Published(bare, None), out) and not write(Published(bare, None), out)
    assert not (out / result.pictures_place).exists()


@pytest.mark.parametrize("what", ["no folder", "no run", "no cells", "into a run"])
def test_bad_input_is_refused_in_one_line(plain: Path, tmp_path: Path, what: str) -> None:
    run, out = tmp_path / "other", tmp_path / "results"
    if what == "no run":
        run.mkdir()
        (run / "a.txt").write_text("")
    elif what == "no cells":
        Store.open(run)
    elif what == "into a run":
        run, out = plain, plain
    with pytest.raises((StoreError, ConfigurationError)) as error:
        collect([run], out, SHORT)
    assert "\n" not in str(error.value) and not (out / "miniature").exists()


# The command ------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(plain: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "results"
    told = CliRunner().invoke(app, [str(plain), str(out), "--shortened"])
    assert told.exit_code == 1
    assert "refused plain/picky-s0" in told.output and f"{out}: 2 written, 2 refused" in told.output
    for name in ("breaks", "picky"):
        shutil.rmtree(next((plain / "cells").glob(f"{name}*")))
    assert CliRunner().invoke(app, [str(plain), str(out), "--shortened"]).exit_code == 0


def test_the_last_folder_is_the_tree_unless_it_is_a_run(plain: Path, tmp_path: Path) -> None:
    assert split_folders([plain, tmp_path / "tree"]) == ([plain], tmp_path / "tree")
    assert split_folders([plain]) == ([plain], Path("results"))
    assert split_folders([plain, plain]) == ([plain, plain], Path("results"))


# The installed release --------------------------------------------------------------------------------------


def installed(folder: Path, extra: str = "") -> metadata.Distribution:
    """A release of one module, as an installer would leave it."""
    package, info = folder / "zbench", folder / "zbench-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("__version__ = '1.0'\n")
    digest = "rMAfsP6Hb75p993EYq2Er99BwmStgG2VR2FptTsBTiY"
    lines = [f"zbench/__init__.py,sha256={digest},20", "zbench-1.0.dist-info/RECORD,,", *extra.splitlines()]
    (info / "RECORD").write_text("\n".join(lines) + "\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zbench\nVersion: 1.0\n")
    return metadata.Distribution.at(info)


def test_two_installations_of_one_wheel_are_one_release(tmp_path: Path) -> None:
    notes = ("../../bin/zbench,sha256=abc,10", "zbench-1.0.dist-info/INSTALLER,sha256=def,4")
    of_installer = "\n".join([*notes, "zbench/__pycache__/a.pyc,,"])
    first = release_of(installed(tmp_path / "a"), tmp_path / "a")
    second = release_of(installed(tmp_path / "b", of_installer), tmp_path / "b")
    assert first is not None and second is not None
    assert first["record_sha256"] == second["record_sha256"] and len(first["record_sha256"]) == 64


def test_altered_files_of_a_release_are_counted(tmp_path: Path) -> None:
    distribution = installed(tmp_path)
    before = release_of(distribution, tmp_path)
    assert before is not None and before["altered"] == 0
    (tmp_path / "zbench/__init__.py").write_text("__version__ = '1.1'\n")
    after = release_of(distribution, tmp_path)
    assert after is not None and after["altered"] == 1 and after["record_sha256"] == before["record_sha256"]


def test_an_editable_installation_is_no_release(tmp_path: Path) -> None:
    distribution = installed(tmp_path)
    (tmp_path / "zbench-1.0.dist-info/RECORD").write_text("__editable__.zbench-1.0.pth,sha256=abc,20\n")
    assert release_of(distribution, tmp_path) is None


def test_only_cells_of_wanted_protocols_are_published(plain: Path, tmp_path: Path) -> None:
    collected = collect([plain], tmp_path / "results", Wish(shortened=True, protocols=("paper",)))
    assert collected == Collected()
    own = collect([plain], tmp_path / "results", SHORT).written
    spec = read_tree(tmp_path / "results").results[0].result.spec
    wish = Wish(shortened=True, protocols=(spec.protocol,))
    assert collect([plain], tmp_path / "others", wish).written == own
