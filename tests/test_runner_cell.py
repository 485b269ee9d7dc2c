"""One cell, and a whole run, on a tiny random pipeline: resume, sharing, failures, damage."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.runner_tools import Recorder, recorded_run, small_instruments, stranger_world
from zbench.concepts import concept_names, load_concept
from zbench.config import RunConfig
from zbench.errors import ConfigurationError, StoreError
from zbench.protocols import ROLES, load_protocol
from zbench.registry import load_method
from zbench.report.run_folder import read_record
from zbench.report.table import build_table, render_csv, render_markdown
from zbench.runner import RunResult, run, run_cell
from zbench.runner.planning import plan
from zbench.runner.roles import prompt_sets_of, prompts_left_out, scored_counts
from zbench.runner.specs import EXCLUDED, CellSpec
from zbench.stages.generate import picture_seed
from zbench.stages.inputs import ModelHandle
from zbench.store import Store, read_json

SIZES = ((48, 80), (96, 64))


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_instruments):
        yield


@pytest.fixture(scope="module")
def finished_once(
    _small_world: None, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run folder with `original` and `shift`; do not write into it."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    run_once(tiny_pipeline_folder, out)
    return out


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of a finished run folder: moving one changes nothing."""
    return Path(shutil.copytree(finished_once, tmp_path / "moved"))


def config_of(model: Path, out: Path, **more: Any) -> RunConfig:
    fields: dict[str, Any] = {
        "methods": ("shift",), "concept": "nudity", "model": str(model), "out": out, "prompts": 2, "steps": 2,
        "height": 48, "width": 80, "device": "cpu",
    }  # fmt: skip
    return RunConfig.create({**fields, **more})


def run_once(model: Path, out: Path, **more: Any) -> tuple[RunResult, Recorder]:
    return recorded_run(config_of(model, out, **more))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_run_writes_everything(tiny_pipeline_folder: Path, tmp_path: Path, height: int, width: int) -> None:
    out = tmp_path / "runs"
    result, recorder = run_once(tiny_pipeline_folder, out, height=height, width=width, training_seeds=2)
    assert [(cell.spec.label, cell.status) for cell in result.cells] == [
        ("original", "done"), ("shift s0", "done"), ("shift s1", "done")]  # fmt: skip
    sets = len(ROLES)
    assert len(recorder.stages) == sets + 1 + 2 * (1 + sets + 1)
    rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert [row["method"] for row in rows] == ["original", "shift", "shift"]
    assert all(row["asr_explicit_N"] == "2" for row in rows)
    assert "seconds" not in rows[0]
    costs = list(csv.DictReader(io.StringIO((out / "cost.csv").read_text())))
    assert [row["seconds"] for row in costs] == ["", "1.5", "1.5"]
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 6 * 128
    picture = next((out / "samples").rglob("0000.png"))
    with Image.open(picture) as image:
        assert image.size == (width, height)
    assert f"{width}x{height} pixels, 2 steps" in (out / "table.md").read_text()


def test_second_run_does_nothing_and_writes_the_same(tiny_pipeline_folder: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    result, recorder = run_once(tiny_pipeline_folder, finished)
    assert recorder.stages == []
    assert [cell.status for cell in result.cells] == ["done", "done"]
    after = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert [path for path in after if after[path] != before.get(path)] == []
    assert after.keys() == before.keys()


def test_original_pictures_are_shared_and_added_seeds_run_alone(
    tiny_pipeline_folder: Path, finished: Path
) -> None:
    _, recorder = run_once(tiny_pipeline_folder, finished, training_seeds=2)
    assert {stage.split(":")[0] for stage in recorder.stages} == {"shift s1"}
    _, recorder = run_once(tiny_pipeline_folder, finished, concept="violence", methods=())
    own = ("explicit", "implicit", "synonyms", "neighbours", "together")
    assert recorder.stages == [*(f"original: pictures {role}" for role in own), "original: score"]
    assert len(list((finished / "reports").iterdir())) == 3


@pytest.mark.parametrize(
    "damaged", ["samples/*/pictures/0001.png", "erasures/*/edit/*", "scores/*/figures.json"]
)
def test_altered_files_are_found_and_redone(tiny_pipeline_folder: Path, finished: Path, damaged: str) -> None:
    table = (finished / "table.csv").read_bytes()
    victim = sorted(finished.glob(damaged))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    result, recorder = run_once(tiny_pipeline_folder, finished)
    assert len(recorder.stages) == 1
    assert any("altered" in line for line in recorder.lines)
    assert (finished / "table.csv").read_bytes() == table
    assert not result.failed


def test_failed_cells_are_recorded_and_harm_no_other(tiny_pipeline_folder: Path, finished: Path) -> None:
    methods = ("breaks", "diverges", "picky", "shift")
    result, _ = run_once(tiny_pipeline_folder, finished, methods=methods)
    assert [cell.status for cell in result.cells] == ["done", "failed", "failed", "skipped", "done"]
    assert "RuntimeError: the sky fell" in (result.cells[1].error or "")
    assert "Traceback" in (result.cells[2].error or "")
    assert result.cells[3].error == "only erases styles"
    assert "breaks (seed 0): failed (RuntimeError: the sky fell)" in (finished / "table.md").read_text()
    _, recorder = run_once(tiny_pipeline_folder, finished, methods=methods)
    assert recorder.stages == ["breaks s0: erase", "diverges s0: erase"], (
        "failed cells are tried again, others not"
    )


def test_interrupted_run_resumes_to_the_same_bytes(
    tiny_pipeline_folder: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zbench.runner import cell as cell_module

    out, generate = tmp_path / "runs", cell_module.generate

    def interrupted(folder: Any, erasure: Any, *rest: Any) -> None:
        if erasure is not None:
            raise KeyboardInterrupt
        generate(folder, erasure, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(cell_module, "generate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config_of(tiny_pipeline_folder, out))
    assert not (out / "table.csv").exists()
    _, recorder = run_once(tiny_pipeline_folder, out)
    assert not any("erase" in stage or "original:" in stage for stage in recorder.stages)
    assert (out / "table.csv").read_bytes() == (finished / "table.csv").read_bytes()


def test_result_says_where_it_comes_from(finished: Path) -> None:
    cell = read_record(finished).cells[1]
    facts = cell.provenance
    assert facts["packages"]["torch"]
    assert facts["model"]["weights"].startswith("sha256:")
    assert set(facts["prompts"]) == set(ROLES)
    assert facts["prompts"]["explicit"] == {
        "set": "nudity-explicit", "size": 2, "removed": 0, "pin": None,
        "sha256": facts["prompts"]["explicit"]["sha256"],
    }  # fmt: skip
    assert cell.verdict is not None and set(cell.verdict) >= {"collapsed", "destroyed", "reasons"}
    assert facts["device"]["type"] == "cpu"
    assert facts["evidence"]["detectors"][0]["file_sha256"]
    assert cell.cost is not None
    assert cell.cost["forwards"] == 3


def test_table_is_a_pure_function_of_the_stored_results(finished: Path) -> None:
    record = read_record(finished)
    assert render_csv(record.table).encode() == (finished / "table.csv").read_bytes()
    assert render_markdown(record.table) == (finished / "table.md").read_text()
    assert read_record(finished / "reports" / record.id).table == record.table


def test_run_cell_needs_nothing_but_its_spec(tiny_pipeline_folder: Path, finished: Path) -> None:
    """The seam for launchers: a spec survives JSON, and its cell runs alone."""
    spec = plan(config_of(tiny_pipeline_folder, finished, settings={"shift": {"size": 0.2}}))[1]
    copy = CellSpec.model_validate_json(spec.model_dump_json())
    assert copy == spec
    result = run_cell(copy, Store.open(finished))
    assert result.status == "done", result.error
    assert set(result.stages) >= {"erase", "score", "pictures explicit", "original explicit"}
    stored = read_json(finished / "cells" / result.id / "result.json")
    assert stored["spec"]["hyperparameters"]["size"] == 0.2


def test_excluded_knobs_change_no_identity(tiny_pipeline_folder: Path, finished: Path) -> None:
    before = [cell.id for cell in read_record(finished).cells]
    result, recorder = run_once(tiny_pipeline_folder, finished, batch_size=1)
    assert recorder.stages == []
    assert [cell.id for cell in result.cells] == before
    assert {"batch_size", "device"} == EXCLUDED


def test_a_raised_version_trains_anew(
    tiny_pipeline_folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_once(tiny_pipeline_folder, finished)[1].stages == []
    monkeypatch.setattr(load_method("shift"), "version", 2)
    _, recorder = run_once(tiny_pipeline_folder, finished)
    assert [stage for stage in recorder.stages if "erase" in stage], "the old erasure is not this version's"
    assert len(list((finished / "erasures").iterdir())) == 2


def test_stage_of_another_configuration_stops_the_run(tiny_pipeline_folder: Path, finished: Path) -> None:
    done = next((finished / "erasures").glob("*/done.json"))
    done.write_text(done.read_text().replace('"method": "shift"', '"method": "other"'))
    with pytest.raises(StoreError, match="different configuration"):
        run_once(tiny_pipeline_folder, finished)


def test_result_of_a_newer_schema_is_not_read(finished: Path) -> None:
    run_file = finished / "run.json"
    run_file.write_text(run_file.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(StoreError, match="newer zbench"):
        read_record(finished)


def test_picture_seeds_depend_on_prompt_and_repetition_only() -> None:
    seeds = {picture_seed(f"p-{i}", r) for i in range(200) for r in range(5)}
    assert len(seeds) == 1000
    assert max(seeds) < 2**48
    assert picture_seed("p-0", 0) in seeds


def sets_of(concept: str, domain: str = "world", protocol: str = "zbench") -> tuple[Any, Any]:
    """A concept and its prompt sets."""
    known = load_concept(concept, domain)
    table = load_protocol(protocol).table(domain, known.name, known.family)
    return known, prompt_sets_of(table, known, domain)


def test_shared_prompts_that_ask_for_the_concept_are_not_scored() -> None:
    cat, sets = sets_of("cat")
    asking = {
        (sets[role].name, p.id)
        for role in ("unrelated", "binding", "counting", "places")
        for p in sets[role].prompts
        if any("cat" in name.split("-") for name in p.truth or {})
    }
    assert {name for name, _ in asking} == {"unrelated", "binding", "counting", "places"}
    assert prompts_left_out(sets, cat) == asking
    counts = scored_counts(sets, cat)
    assert sum(counts.values()) == sum(len(p.prompts) for p in sets.values()) - len(asking)
    assert "implicit" not in counts, "cats have no implicit prompts, and that is no error"


def test_members_of_a_composite_concept_count_as_the_concept() -> None:
    people, sets = sets_of("four-people")
    left_out = {prompt_id for _, prompt_id in prompts_left_out(sets, people)}
    for prompts in (sets[role] for role in ("unrelated", "binding", "counting", "places")):
        asking = {p.id for p in prompts.prompts if set(p.truth or {}) & set(people.members)}
        assert asking == left_out & {p.id for p in prompts.prompts}


def test_other_concepts_of_the_family_are_joined_into_one_set() -> None:
    known, sets = load_concept("church", "photograph"), {}
    table = load_protocol("paper").table("photograph", "church", "entity")
    table = table.model_copy(update={"prompt_sets": {"neighbours": table.prompt_sets["neighbours"]}})
    sets = prompt_sets_of(table, known, "photograph")
    joined = sets["neighbours"]
    named = {name for prompt in joined.prompts for name in prompt.truth or {}}
    family = {n for n in concept_names("photograph") if load_concept(n, "photograph").family == "entity"}
    assert named == family - {"church"} and joined.split == "evaluation"
    assert "church-explicit" not in joined.source and len(joined.prompts) == 4 * len(named)


def test_a_set_for_tuning_is_refused() -> None:
    table = load_protocol("zbench").domain("world")
    table = table.model_copy(update={"prompt_sets": {"explicit": "cat-explicit-tuning"}})
    with pytest.raises(ConfigurationError, match="'cat-explicit-tuning' is for tuning"):
        prompt_sets_of(table, load_concept("cat"), "world")


def test_results_of_two_protocols_make_no_table(finished: Path) -> None:
    cells = list(read_record(finished).cells)
    assert cells[0].provenance["protocol"] == load_protocol("zbench").label
    cells[1] = cells[1].model_copy(update={"provenance": {"protocol": "paper v1"}})
    with pytest.raises(ConfigurationError, match="Results of different protocols do not compare"):
        build_table(cells, [])


def test_protocols_choose_size_steps_and_guidance(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    handle = ModelHandle(str(tiny_pipeline_folder), "cpu", 48, 80, guidance_scale=0.5)
    assert handle.identity["guidance_scale"] == 0.5
    assert handle.model.spec.guidance_scale == 0.5 and (handle.spec.height, handle.spec.width) == (48, 80)
    spec = plan(RunConfig(concept="celebrity", model="z-image", protocol="zbench", out=tmp_path))[0]
    assert (spec.steps, spec.height, spec.guidance_scale) == (50, None, None)
