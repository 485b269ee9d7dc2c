"""Attacks in a run: planned, made on every row, judged, recorded, found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.attack_tools import ATTACKS, Words, breaking, colour_detector, install_attacks, small_judge
from tests.runner_tools import Recorder, recorded_run, stranger_world
from tests.tiny import save_smallest_pipeline
from zbench.attacks import Attack, Context, Spent
from zbench.config import DEFAULT_ATTACKS, RunConfig
from zbench.errors import AttackError, ConfigurationError, StoreError, UnknownNameError
from zbench.metrics.robustness import SHOWN, AttackRecord, describe
from zbench.registry import own_attack_names
from zbench.report.run_folder import read_record
from zbench.runner import RunResult
from zbench.runner.attacks import attack_of, attacks_identity, is_flagged
from zbench.runner.planning import plan
from zbench.runner.reporting import _asked
from zbench.runner.specs import BY_CONTENT, EXCLUDED, CellResult, CellSpec
from zbench.stages.judge import read_outcomes
from zbench.stages.samples import SamplesView
from zbench.store import identity, read_json

SUITE = ("words", "pushed", "drifts", "unable", "fails-softly", "nothing", "retries", "raises")
SETTINGS = {name: {"budget": 2} for name in SUITE} | {"words": {"budget": 3}}
FIGURES = (
    *("attack_pre", "attack_post", "attack_new", "control_post", "retry_post"),
    *("attack_excess", "attack_excess_retry", "attack_confirmed", "control_confirmed"),
)
PROMPTS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_smallest_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), install_attacks, small_judge):
        yield


@pytest.fixture(scope="module")
def finished_once(_small_world: None, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with `original` and `shift` attacked by `SUITE`; do not write into it."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    run_once(model, out)
    return out


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_once, tmp_path / "moved"))


@pytest.fixture(scope="module")
def cells(finished_once: Path) -> tuple[CellResult, ...]:
    return read_record(finished_once).cells


def config_of(model: Path, out: Path, **more: Any) -> RunConfig:
    fields: dict[str, Any] = {
        "methods": ("shift",), "concept": "nudity", "model": str(model), "out": out, "prompts": PROMPTS,
        "steps": 2, "device": "cpu", "protocol": "tuning", "attacks": SUITE,
    }  # fmt: skip
    fields |= more
    named = {name: values for name, values in SETTINGS.items() if name in fields["attacks"]}
    return RunConfig.create({"settings": named, **fields})


def run_once(model: Path, out: Path, **more: Any) -> tuple[RunResult, Recorder]:
    return recorded_run(config_of(model, out, **more))


def record_of(cell: CellResult, name: str) -> AttackRecord:
    return next(record for record in cell.attacks if record.attack == name)


def done(cell: CellResult) -> list[AttackRecord]:
    return [record for record in cell.attacks if record.status == "done"]


# What a run says ----------------------------------------------------------------------------------------


def test_every_row_is_attacked(cells: tuple[CellResult, ...]) -> None:
    assert [(cell.spec.label, cell.status) for cell in cells] == [("original", "done"), ("shift s0", "done")]
    for cell in cells:
        status = {record.attack: record.status for record in cell.attacks}
        assert list(status) == list(SUITE)
        assert (status.pop("unable"), status.pop("raises")) == ("skipped", "failed")
        assert set(status.values()) == {"done"}
        assert record_of(cell, "unable").reason == "needs something that nobody has"
        assert "RuntimeError: the ladder broke" in record_of(cell, "raises").reason
        assert record_of(cell, "words").hyperparameters["budget"] == 3


def test_every_record_is_whole(cells: tuple[CellResult, ...], finished_once: Path) -> None:
    for record in (each for cell in cells for each in done(cell)):
        assert record.prompts == PROMPTS
        names = [figure["name"] for figure in record.figures]
        assert names == [*FIGURES, *(f"{name}{SHOWN}" for name in FIGURES)]
        assert all((finished_once / place / "done.json").is_file() for place in record.stages.values())
        found = {figure["name"]: figure for figure in record.figures}
        assert found["attack_pre"]["N"] == found["attack_post"]["N"] == PROMPTS
        assert found["attack_pre"]["settings"]["detector"]["name"] == "colour"
        assert record.curve[-1]["attack_n"] == found["attack_post"]["n"]


def test_figures_follow_from_the_stored_outcomes(cells: tuple[CellResult, ...], finished_once: Path) -> None:
    for record in (each for cell in cells for each in done(cell)):
        again = describe(read_outcomes(finished_once / record.stages["score"]))
        bare = record.model_dump(exclude=set(again))
        assert AttackRecord.model_validate({**bare, **again}) == record


def test_both_arms_are_judged_as_often_on_the_same_noise(
    cells: tuple[CellResult, ...], finished_once: Path
) -> None:
    for record in (each for cell in cells for each in done(cell)):
        rows = read_outcomes(finished_once / record.stages["score"]).rows
        keys = {
            arm: sorted((row.prompt_id, row.k, row.seed) for row in rows if row.arm == arm)
            for arm in ("attack", "control", "retry")
        }
        assert keys["attack"] == keys["control"] == keys["retry"]
        assert len(keys["attack"]) == {"words": 3 * PROMPTS, "nothing": 0, "fails-softly": PROMPTS - 1}.get(
            record.attack, 2 * PROMPTS
        )


def test_verdicts_are_the_detectors(cells: tuple[CellResult, ...], finished_once: Path) -> None:
    record = record_of(cells[1], "words")
    view = SamplesView.load(finished_once / record.stages["pictures attack 2"])
    scores = colour_detector().scores(view.pictures)[:, 0]
    rows = read_outcomes(finished_once / record.stages["score"]).rows
    found = {row.prompt_id: row for row in rows if (row.arm, row.k) == ("attack", 2)}
    for sample, score in zip(view.samples, scores.tolist(), strict=True):
        assert sample.seed == found[sample.prompt_id].seed
        assert found[sample.prompt_id].score == pytest.approx(score)
        assert found[sample.prompt_id].hit == (score >= 0.5)


def test_plain_verdicts_are_those_of_the_table(cells: tuple[CellResult, ...], finished_once: Path) -> None:
    for cell in cells:
        figure = cell.figure("asr_explicit")
        assert figure is not None
        for record in done(cell):
            pre, outcomes = record.figure("attack_pre"), read_outcomes(finished_once / record.stages["score"])
            assert pre is not None and (pre["n"], pre["N"]) == (figure["n"], figure["N"])
            if cell.spec.is_original:
                assert all(p.plain_score == p.original_score for p in outcomes.prompts)
    shown = {record.shown_by_original for cell in cells for record in done(cell)}
    first = cells[0].figure("asr_explicit")
    assert first is not None and shown == {first["n"]}


def test_what_offers_nothing_equals_no_attack(cells: tuple[CellResult, ...]) -> None:
    for cell in cells:
        record = record_of(cell, "nothing")
        found = {figure["name"]: figure for figure in record.figures}
        assert found["attack_post"]["n"] == found["attack_pre"]["n"] == found["control_post"]["n"]
        assert found["retry_post"]["n"] == found["attack_pre"]["n"]
        assert len(record.curve) == 1
        same = {figure["name"]: figure for figure in record_of(cell, "retries").figures}
        for name in ("attack_excess", "attack_excess_retry"):
            assert (same[name]["value"], same[name]["p_value"]) == (0.0, 1.0)


def test_winners_are_redrawn_three_times(cells: tuple[CellResult, ...], finished_once: Path) -> None:
    newly = 0
    for record in (each for cell in cells for each in done(cell)):
        outcomes = read_outcomes(finished_once / record.stages["score"])
        new, confirmed = record.figure("attack_new"), record.figure("attack_confirmed")
        control = record.figure("control_confirmed")
        assert new is not None and confirmed is not None and control is not None
        assert confirmed["N"] == 3 * (new["n"] or 0)
        beaten = sum(outcomes.broken("control")) - sum(outcomes.broken("control", 0))
        assert control["N"] == 3 * beaten == len(outcomes.redraws) - confirmed["N"]
        tried = {row.seed for row in outcomes.rows}
        assert not tried & {each.seed for each in outcomes.redraws}
        newly += new["n"] or 0
    assert newly, "this test says nothing where nothing is broken"


def test_plain_retries_are_drawn_once(cells: tuple[CellResult, ...]) -> None:
    for cell in cells:
        places = {record_of(cell, name).stages["pictures retries 1"] for name in ("words", "retries")}
        others = ("fails-softly", "pushed", "drifts")
        places |= {record_of(cell, name).stages["pictures retries 1"] for name in others}
        assert len(places) == 1


def test_an_attack_without_retries_of_its_own_has_the_others(
    cells: tuple[CellResult, ...], finished_once: Path
) -> None:
    """A weak control, such as random embeddings, stands beside the prompt itself, tried as often."""
    for cell in cells:
        tried = {}
        for name in ("pushed", "words"):
            rows = read_outcomes(finished_once / record_of(cell, name).stages["score"]).rows
            arm = "retry" if name == "pushed" else "control"
            tried[name] = {(r.prompt_id, r.k): (r.seed, r.score) for r in rows if r.arm == arm and r.k < 3}
        assert tried["pushed"] == tried["words"] and tried["words"]


# Finding it again ---------------------------------------------------------------------------------------


def test_a_second_run_only_tries_what_failed(model: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    _, recorder = run_once(model, finished)
    assert recorder.stages == ["original: raises: attack", "shift s0: raises: attack"]
    for row in ("original", "shift s0"):
        assert f"{row}: unable: skipped: needs something that nobody has" in recorder.lines
        assert f"{row}: raises: failed: RuntimeError: the ladder broke" in recorder.lines
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_run_without_attacks_shares_everything(model: Path, finished: Path) -> None:
    result, recorder = run_once(model, finished, attacks=())
    assert recorder.stages == []
    assert [cell.attacks for cell in result.cells] == [(), ()]
    assert len(list((finished / "cells").iterdir())) == 4


def test_altered_pictures_are_drawn_again(model: Path, finished: Path, cells: tuple[CellResult, ...]) -> None:
    place = record_of(cells[1], "words").stages["pictures attack 2"]
    (finished / place / "pictures" / "0001.png").write_bytes(b"")
    _, recorder = run_once(model, finished, attacks=("words",))
    assert recorder.stages == ["shift s0: words: draw candidates"]


def test_an_interrupted_run_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    plain = Words.attack

    def interrupted(self: Attack, context: Context) -> Any:
        calls.append(context.prompts[0].id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, context)

    more = {"attacks": ("words",), "settings": {"words": {"budget": 2, "batch_size": 2}}, "methods": ()}
    with monkeypatch.context() as patch:
        patch.setattr(Words, "attack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_once(model, tmp_path / "runs", **more)
    kept = {path.parent for path in (tmp_path / "runs" / "attacks").glob("*/done.json")}
    assert len(kept) == 1
    result, recorder = run_once(model, tmp_path / "runs", **more)
    assert recorder.stages[0] == "original: words: attack"
    assert kept < {path.parent for path in (tmp_path / "runs" / "attacks").glob("*/done.json")}
    assert record_of(result.cells[0], "words").status == "done"


def test_an_attack_alone_fails(model: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changes(attack: Attack, context: Context) -> Any:
        context.model.transformer.layers[0].attention.to_v.weight.data.mul_(2)
        yield from attack.control(context)

    monkeypatch.setitem(ATTACKS, "changes", breaking("changes", changes))
    result, _ = run_once(model, finished, attacks=("changes", "peeks", "words"), methods=())
    for cell in result.cells:
        assert cell.status == "done"
        assert [record.status for record in cell.attacks] == ["failed", "failed", "done"]
        assert "changes left the model changed" in cell.attacks[0].reason
        assert "asked for the detector 'world'" in cell.attacks[1].reason


def test_a_slower_attack_has_the_same_scores(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"attacks": ("words",), "methods": (), "settings": {"words": {"budget": 1}}}
    first, _ = run_once(model, tmp_path / "a", **more)
    [record] = first.cells[0].attacks
    for place in (place for stage, place in record.stages.items() if stage.startswith("candidates")):
        shutil.rmtree(tmp_path / "a" / place)
    plain = Words.attack

    def slower(self: Attack, context: Context) -> Any:
        for candidate in plain(self, context):
            yield replace(candidate, spent=Spent(seconds=99))

    monkeypatch.setattr(Words, "attack", slower)
    again, recorder = run_once(model, tmp_path / "a", **more)
    assert recorder.stages == ["original: words: attack"]
    assert again.cells[0].attacks == first.cells[0].attacks


# Replays ------------------------------------------------------------------------------------------------


def test_a_replay_of_what_has_changed_since_the_plan_fails(model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"prompt_id": "nobody", "text": "a house"}\n')
    [cell] = plan(config_of(model, tmp_path / "runs", attacks=(f"replay:{lines}",), methods=()))
    assert attack_of(cell.attacks[0], flagged=False).name == "replay"
    planned = attacks_identity(cell.attacks, flagged=False)
    lines.write_text('{"prompt_id": "nobody", "text": "a barn"}\n')
    assert attacks_identity(cell.attacks, flagged=False) == planned
    with pytest.raises(AttackError, match="other candidates than when this was planned"):
        attack_of(cell.attacks[0], flagged=False)


def test_no_folder_of_this_machine_enters_results(model: Path, finished: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(next((finished / "attacks").glob("words-*")), tmp_path / "secret" / "kept"))
    result, _ = run_once(model, finished, attacks=(f"replay:{source}",), methods=())
    [cell] = result.cells
    assert [record.label for record in cell.attacks] == ["replay:kept"]
    assert cell.attacks[0].status == "done", cell.attacks[0].reason
    assert cell.attacks[0].hyperparameters["sha256"]
    moved = Path(shutil.move(source, tmp_path / "kept"))
    again, recorder = run_once(model, finished, attacks=(f"replay:{moved}",), methods=())
    assert (again.record.id, again.cells[0].id) == (result.record.id, cell.id)
    assert not recorder.stages
    for pattern in ("cells/*/*.json", "**/run.json", "**/done.json", "attacks/replay-*/*.json"):
        for path in finished.glob(pattern):
            assert "secret" not in path.read_text(), path


# Identity -----------------------------------------------------------------------------------------------


def test_results_without_attacks_say_nothing_of_them(model: Path, finished: Path) -> None:
    """Written as before there were any: whatever reads results refuses fields that it does not know."""
    attacked = read_json(finished / "cells" / read_record(finished).cells[0].id / "result.json")
    assert attacked["schema_version"] == 2 and attacked["attacks"] and attacked["spec"]["attacks"]
    result, _ = run_once(model, finished, attacks=(), methods=())
    bare = read_json(finished / "cells" / result.cells[0].id / "result.json")
    assert bare["schema_version"] == read_json(finished / "run.json")["schema_version"] == 1
    assert not {"attacks", "attack_prompts"} & {*bare, *bare["spec"]}
    assert CellResult.model_validate(bare) == result.cells[0]


def test_newer_results_are_refused(finished: Path) -> None:
    place = finished / "cells" / read_record(finished).cells[0].id / "result.json"
    place.write_text(json.dumps({**read_json(place), "schema_version": 3, "unheard_of": 1}))
    with pytest.raises(StoreError, match="newer zbench"):
        read_record(finished)


def test_cells_without_attacks_keep_their_ids() -> None:
    """Computed before there were attacks: what was found then is found now."""
    spec = CellSpec(
        method="uce", hyperparameters={"training_seed": 0, "scale": 1.5}, concept="nudity", model="miniature",
        protocol="zbench", repetitions=1, steps=8, preset="miniature", prompts=3,
    )  # fmt: skip
    plain = spec.model_dump(mode="json", exclude=set(EXCLUDED | BY_CONTENT))
    assert identity("spec", plain) == "spec-b5bf971f051a"


def test_the_record_of_a_run_without_attacks_says_nothing_of_them(model: Path, tmp_path: Path) -> None:
    without = _asked(config_of(model, tmp_path, attacks=()))
    assert not {"attacks", "attack_prompts"} & set(without)
    assert _asked(config_of(model, tmp_path))["attacks"] == list(SUITE)


def test_attacks_and_their_fields_are_part_of_a_cell(model: Path, finished: Path) -> None:
    ids = set()
    for more in ({"settings": {"words": {"budget": 2}}}, {"attack_prompts": 2}):
        result, _ = run_once(model, finished, **{"attacks": ("words",), "methods": (), **more})
        ids.add(result.cells[0].id)
        assert record_of(result.cells[0], "words").prompts == more.get("attack_prompts", PROMPTS)
    assert len(ids) == 2


# Planning -----------------------------------------------------------------------------------------------


def test_attacks_start_from_the_models_preset(tmp_path: Path) -> None:
    config = RunConfig.create({"concept": "nudity", "out": tmp_path, "attacks": ("words", "retries")})
    [original] = plan(config)
    assert [(a.name, a.preset, a.hyperparameters["budget"]) for a in original.attacks] == [
        ("words", "miniature", 2), ("retries", "miniature", 2)]  # fmt: skip
    assert original.attack_prompts == 50
    set_here = config.model_copy(update={"settings": {"words": {"budget": 7}}})
    assert plan(set_here)[0].attacks[0].hyperparameters["budget"] == 7


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"attacks": ("word",)}, UnknownNameError, "Did you mean words"),
        (
            {"settings": {"words": {"budgets": 3}}},
            UnknownNameError,
            "of words 'budgets'. Did you mean",
        ),
        ({"settings": {"words": {"budget": 0}}}, ConfigurationError, r"words\.budget"),
        ({"settings": {"words": {"budget": -1}}}, ConfigurationError, r"words\.budget"),
        ({"settings": {"pushed": {"size": "nan"}}, "attacks": ("pushed",)}, ConfigurationError, "finite"),
        ({"settings": {"drifts": {"budget": 2}}}, ConfigurationError, "'drifts' is not part of this run"),
        ({"attacks": ("replay:",)}, ConfigurationError, "replay: needs a folder"),
        ({"attack_prompts": 0}, ConfigurationError, "attack_prompts"),
    ],
)
def test_bad_input_is_said_when_the_run_is_planned(more: Any, error: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=says):
        plan(RunConfig.create({"concept": "nudity", "out": tmp_path, "attacks": ("words",), **more}))


def test_an_attack_that_cannot_be_made_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = type("Broken", (Words,), {"name": "broken", "presets": {"miniature": {"budget": -1}}})
    monkeypatch.setitem(ATTACKS, "broken", broken)
    [cell] = plan(RunConfig.create({"concept": "nudity", "out": tmp_path, "attacks": ("broken",)}))
    assert "broken.budget" in (cell.attacks[0].problem or "")


def test_suites_stand_for_their_attacks() -> None:
    assert RunConfig(concept="nudity", attacks=("default", "scale")).attacks == DEFAULT_ATTACKS
    assert set(RunConfig(concept="nudity", attacks=("all",)).attacks) == set(own_attack_names())
    assert set(DEFAULT_ATTACKS) <= set(own_attack_names())


def test_texts_are_flagged_by_family_and_domain() -> None:
    from zbench.concepts import load_concept
    from zbench.model import load_spec

    world, photograph = load_spec("miniature"), load_spec("z-image-turbo")
    assert is_flagged(load_concept("nudity", "photograph"), photograph)
    assert not is_flagged(load_concept("nudity"), world)
    assert not is_flagged(load_concept("picasso", "photograph"), photograph)


def test_a_detector_without_the_concept_judges_no_attack(model: Path, tmp_path: Path) -> None:
    result, _ = run_once(model, tmp_path / "runs", attacks=("words",), methods=(), concept="violence")
    [record] = result.cells[0].attacks
    assert (record.status, record.reason) == ("skipped", "the detector colour has no class for violence")


def test_a_composite_is_attacked_by_the_names_of_its_members(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every prompt is broken into its own member's typos; what has one direction says why it stays away."""
    from zbench.attacks.concept_vector import ConceptVector
    from zbench.attacks.typo import Typo
    from zbench.concepts import load_concept

    monkeypatch.setitem(ATTACKS, "typo", Typo)
    monkeypatch.setitem(ATTACKS, "concept_vector", ConceptVector)
    members = load_concept("four-people", "world").members

    def judge(*_: Any, **options: Any) -> Any:
        return colour_detector(**{**options, "classes": ("four-people",)})

    monkeypatch.setattr("tests.runner_tools.ColourDetector", judge)
    monkeypatch.setattr("zbench.stages.scorer.first_detector", lambda settings, device=None: judge())
    result, _ = run_once(model, tmp_path / "runs", attacks=("typo", "concept_vector"), concept="four-people")
    for cell in result.cells:
        typo, vector = cell.attacks
        assert (typo.reason, typo.status, vector.status) == ("", "done", "skipped")
        assert vector.reason.startswith(f"{len(members)} concepts are erased together")
        assert typo.prompts == PROMPTS and typo.spent["queries"] >= 1
        assert {point["N"] for point in typo.curve} == {PROMPTS} and len(typo.curve) == 3 + 1
