"""Do the attacks attack? The oracle, what becomes of findings, the checks, and the study on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests.attack_tools import Words, small_judge
from tests.tiny import save_smallest_pipeline
from zbench.attacks import Candidate, Context
from zbench.attacks.toolkit.tokens import TemplatedPrompt, encode_inputs, through_guards
from zbench.concepts import load_concept
from zbench.edits import load_edit
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.model import Model
from zbench.registry import own_attack_names
from zbench.studies import STUDIES, load_study, study_options
from zbench.studies.attacks import plan, sanity
from zbench.studies.attacks.bench import Bench
from zbench.studies.attacks.claims import (
    FAILS,
    HOLDS,
    UNDECIDED,
    _verdict,
    joint_test,
    overall,
    rows_of,
)
from zbench.studies.attacks.oracle import Oracle, OracleEdit
from zbench.studies.attacks.page import render_page
from zbench.studies.attacks.plan import (
    CASES,
    THOROUGH,
    Case,
    attack_of_case,
    chosen_cases,
    preset_of,
    spec_of,
)
from zbench.studies.attacks.sanity import candidate_checks, curve_checks
from zbench.studies.attacks.study import attacks_study, verdicts
from zbench.studies.options import checked_options
from zbench.studies.paired import paired_rates

CONCEPT = "nudity"
ASKED = ("concept_vector", "typo", "unlearndiffatk")
QUICK: dict[str, dict[str, Any]] = {
    "concept_vector": {"budget": 2},
    "typo": {"budget": 2},
    "unlearndiffatk": {"budget": 1, "iterations": 1, "denoising_steps": [0], "tokens": 2},
}
OPTIONS: dict[str, Any] = {
    "concept": CONCEPT, "protocol": "tuning", "prompts": 2, "starts": 2, "attacks": ASKED, "settings": QUICK,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_smallest_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline"))


@pytest.fixture(autouse=True, scope="module")
def _small_judge() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_judge(monkeypatch)
        yield


@pytest.fixture(scope="module")
def bench(_small_judge: None, model: str, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench") / "work", model, CONCEPT, "tuning", QUICK, 16)


@pytest.fixture(scope="module")
def finished(_small_judge: None, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "attacks"
    attacks_study(out, model, **OPTIONS)
    return out


@pytest.fixture
def record(finished: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((finished / "study.json").read_text())
    return read


# The oracle -----------------------------------------------------------------------------------------------


def test_the_oracle_gives_the_anchors_caption_whatever_is_encoded(tiny_model: Model, tmp_path: Path) -> None:
    concept = load_concept(CONCEPT)
    [wanted] = tiny_model.encode([concept.anchor])
    Oracle().erase(tiny_model, concept).edit.save(tmp_path, tiny_model)
    edit = load_edit(tmp_path)
    assert isinstance(edit, OracleEdit) and edit.anchor == concept.anchor
    texts = ("a nude person", "一个裸体的人", concept.anchor)
    plain = tiny_model.encode(texts)
    with tiny_model.edited(edit):
        assert all(torch.equal(caption, wanted) for caption in tiny_model.encode(texts))
        drawn = tiny_model.generate(["a nude person", "a red car"], [1, 1], steps=1)
    assert torch.equal(drawn[0], drawn[1])
    for before, after in zip(plain, tiny_model.encode(texts), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("text", ["a", "a nude person on a very long and very sandy beach"])
def test_a_guard_that_changes_the_length_cannot_hide_gradients(tiny_model: Model, text: str) -> None:
    """Straight through, row for row: else an attack on such a guard could not even begin."""
    leaf = TemplatedPrompt.of(tiny_model, text).inputs().clone().requires_grad_()
    with tiny_model.edited(OracleEdit("a clothed person")):
        captions = encode_inputs(tiny_model, [leaf])
        [reached] = through_guards(tiny_model, captions, [text])
        [expected] = tiny_model.encode([text])
    assert torch.equal(reached, expected) and len(reached) != len(captions[0])
    [gradient] = torch.autograd.grad(reached.square().sum(), leaf)
    assert gradient.isfinite().all() and gradient.any()


# Verdicts -------------------------------------------------------------------------------------------------


def row(
    claim: str, hits: int, control: int, total: int, retry: int | None = None, **more: Any
) -> dict[str, Any]:
    """What an attack found that broke `hits` prompts, among them all that its references broke."""
    from zbench.statistics import Rate
    from zbench.studies.signals.measuring import rate_row

    counts = {"control": control, "retry": control if retry is None else retry}
    found = [number < hits for number in range(total)]
    excess = {
        name: paired_rates(found, [number < count for number in range(total)])
        for name, count in counts.items()
    }
    test = joint_test(excess)
    trials = {"N": total, "same": total - abs(hits - control), "largest_gap": 0.0}
    base = {
        "claim": claim, "label": "some", "status": "done", "rates": {"post": rate_row(Rate(hits, total))},
        "excess": excess, "test": {**test, "adjusted": test["p"]}, "trials": trials,
    }  # fmt: skip
    return {**base, **more}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (row("finds", 40, 0, 40), HOLDS),
        (row("finds", 20, 0, 20), UNDECIDED),
        (row("finds", 39, 0, 40), UNDECIDED),
        (row("finds", 28, 0, 40), FAILS),
        (row("finds", 40, 40, 40), UNDECIDED),
        (row("finds", 40, 0, 40, 40), UNDECIDED),
        (row("finds", 0, 0, 0), UNDECIDED),
        (row("returns", 12, 2, 20), HOLDS),
        (row("returns", 12, 2, 20, 11), UNDECIDED),
        (row("returns", 12, 11, 20, 2), UNDECIDED),
        (row("returns", 10, 2, 20, 19), FAILS),
        (row("returns", 100, 2, 200, 101), FAILS),
        (row("returns", 5, 2, 20), UNDECIDED),
        (row("returns", 2, 12, 20), FAILS),
        (row("returns", 5, 5, 200), FAILS),
        (row("bypass", 12, 2, 20), HOLDS),
        (row("oracle", 3, 3, 20), HOLDS),
        (row("oracle", 4, 3, 20), UNDECIDED),
        (row("oracle", 12, 2, 20), FAILS),
        (row("oracle", 3, 3, 20, status="skipped"), UNDECIDED),
        (row("oracle", 3, 3, 20, trials={"N": 0, "same": 0}), UNDECIDED),
    ],
)
def test_a_verdict_is_clear_of_noise_or_undecided(found: Mapping[str, Any], verdict: str) -> None:
    assert _verdict(found) == verdict


def test_a_claim_fails_with_one_attack_and_holds_with_all() -> None:
    assert overall([HOLDS, UNDECIDED, FAILS]) == FAILS
    assert overall([HOLDS, UNDECIDED]) == overall([]) == UNDECIDED
    assert overall([HOLDS, HOLDS]) == HOLDS


# Checks ---------------------------------------------------------------------------------------------------


def curve(*counts: tuple[int, int], pre: int = 0, retry: int | None = None) -> dict[str, Any]:
    points = [
        {"k": k, "attack_n": a, "control_n": c, "retry_n": pre if retry is None else retry, "N": 9}
        for k, (a, c) in enumerate(counts)
    ]
    return {"status": "done", "curve": points, "rates": {"pre": {"n": pre, "N": 9}}}


def test_curves_that_fall_or_begin_elsewhere_are_noticed() -> None:
    good, fallen, elsewhere = curve((0, 0), (2, 1)), curve((1, 1), (3, 0), pre=1), curve((1, 1), (3, 1))
    assert {name: each["verdict"] for name, each in curve_checks([good]).items()} == dict.fromkeys(
        ("zero", "rising"), HOLDS
    )
    assert curve_checks([good, fallen])["rising"] == {"n": 5, "N": 6, "verdict": FAILS}
    assert curve_checks([good, elsewhere])["zero"] == {"n": 1, "N": 2, "verdict": FAILS}
    assert curve_checks([good, curve((0, 0), (2, 1), retry=1)])["zero"]["verdict"] == FAILS
    assert curve_checks([{**fallen, "status": "skipped"}])["rising"]["verdict"] == UNDECIDED


class Blind(Words):
    """Looks at no weights, as the release's script of an attack's name, and counts its budget into texts."""

    name: ClassVar[str] = "blind"

    def attack(self, context: Context) -> Iterator[Candidate]:
        for prompt in context.prompts:
            for number in range(self.budget):
                yield Candidate(prompt.id, f"{number} of {self.budget} {prompt.text}")


class Looking(Words):
    """A word for what the erased model answers."""

    name: ClassVar[str] = "looking"

    def attack(self, context: Context) -> Iterator[Candidate]:
        with context.erased() as model:
            caption = model.encode(["a nude person"])
            answer = model.velocity(model.noise([0]), model.timesteps()[:1], caption).sum().item()
        for prompt in context.prompts:
            for number in range(self.budget):
                yield Candidate(prompt.id, f"{answer} {number} {prompt.text}")


def test_the_checks_tell_attacks_that_look_from_blind_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"blind": Blind, "looking": Looking}
    monkeypatch.setattr(plan, "load_attack", kinds.__getitem__)
    cases = [Case("finds", name, name) for name in kinds]
    found = candidate_checks(bench, cases, bench.prompts(f"{CONCEPT}-explicit").head(2))
    assert [each["verdict"] for each in found["weights"]] == [FAILS, HOLDS]
    assert [each["verdict"] for each in found["prefix"]] == [FAILS, HOLDS]
    assert found["candidates"] == 2 * 2 * (1 + 2 + 1)
    assert found["other"] == sanity.OTHER


# Prompts and attacks --------------------------------------------------------------------------------------


def test_prompts_that_name_or_show_the_concept_are_no_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    explicit, other = bench.prompts(f"{CONCEPT}-explicit"), bench.prompts(f"{CONCEPT}-neighbours")
    mixed = other.model_copy(update={"prompts": (explicit.prompts[0], *other.prompts[:3])})
    assert bench._asks(explicit.prompts[0].text)
    free, passed_over = bench.without_concept(mixed, 2)
    assert explicit.prompts[0] not in free.prompts and len(free.prompts) <= 2 and passed_over >= 1
    everything = bench.judge.record.model_copy(update={"threshold": 0.0})
    monkeypatch.setattr(bench.judge, "record", everything)
    with pytest.raises(ConfigurationError, match="shows 'nudity'"):
        bench.without_concept(mixed, 2)


def test_every_case_is_an_attack_that_exists_with_fields_that_it_has() -> None:
    assert {case.attack for case in CASES} <= set(own_attack_names())
    for case in CASES:
        for domain in ("world", "photograph"):
            assert attack_of_case(case, domain, {}).name == case.attack
    found = [case for case in CASES if case.claim == "finds" and "target" in case.fields]
    assert found and all(case.fields["target"] == "concept" for case in found)


class Patient(Words):
    """Has a quick preset and one that finds what is there."""

    name: ClassVar[str] = "patient"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {"budget": 1}, "thorough": {"budget": 7}}


@pytest.mark.parametrize(
    ("claim", "domain", "preset", "budget"),
    [
        ("finds", "world", THOROUGH, 7),
        ("oracle", "world", "miniature", 1),
        ("finds", "photograph", None, Patient.model_fields["budget"].default),
    ],
)
def test_whoever_is_to_find_what_is_there_is_thorough(
    claim: plan.Claim, domain: str, preset: str | None, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "load_attack", {"patient": Patient}.__getitem__)
    case = Case(claim, "patient", "patient")
    assert (preset_of(case, domain), attack_of_case(case, domain, {}).budget) == (preset, budget)
    assert spec_of(case, domain, {}).preset == preset
    assert attack_of_case(case, domain, {"patient": {"budget": 3}}).budget == 3


def test_attacks_are_chosen_by_name_and_set_by_field() -> None:
    assert chosen_cases(None) == list(CASES) and {c.attack for c in chosen_cases("typo, p4d")} == {
        "typo", "p4d"
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="typo"):
        chosen_cases(["tipo"])
    case = next(case for case in CASES if case.attack == "p4d")
    assert attack_of_case(case, "world", {"p4d": {"budget": 9}}).budget == 9
    with pytest.raises(UnknownNameError, match="budget"):
        attack_of_case(case, "world", {"p4d": {"budgets": 9}})


def test_bad_options_are_refused_before_any_work(tmp_path: Path) -> None:
    study = load_study("attacks")
    assert study is attacks_study and "attacks" in STUDIES and study_options(study)["prompts"] == 20
    for bad in ({"prompts": 0}, {"starts": -1}, {"start_from": "explicit"}, {"attacks": []}):
        with pytest.raises(ConfigurationError):
            checked_options("attacks", study, bad)
    with pytest.raises(ConfigurationError, match="budget"):
        attacks_study(tmp_path / "out", **{**OPTIONS, "settings": {"typo": {"budget": 0}}})


# The study ------------------------------------------------------------------------------------------------


def test_no_text_passes_the_oracle_and_embeddings_do(record: Mapping[str, Any]) -> None:
    texts = [each for each in record["attacks"] if each["claim"] == "oracle"]
    assert {each["label"] for each in texts} == {"typo", "unlearndiffatk"}
    for each in texts:
        assert each["status"] == "done", each["reason"]
        assert each["trials"]["same"] == each["trials"]["N"] > 0 and each["failed_prompts"] == 0
        assert each["verdict"] == HOLDS
    [bypass] = [each for each in record["attacks"] if each["claim"] == "bypass"]
    assert bypass["trials"]["same"] < bypass["trials"]["N"]


def test_the_study_says_of_each_claim_what_it_measured(finished: Path, record: dict[str, Any]) -> None:
    claims = [(each["claim"], each["target"], each["label"]) for each in record["attacks"]]
    assert claims == [(case.claim, case.target, case.label) for case in chosen_cases(ASKED)]
    assert record["verdicts"] == verdicts(record)
    assert {record["verdicts"][name] for name in ("zero", "rising", "prefix", "oracle")} == {HOLDS}
    assert record["config"]["free"]["number"] == record["config"]["asked"]["number"] == 2
    page = (finished / "study.md").read_text()
    assert page == render_page(record)
    for each in record["attacks"]:
        assert each["preset"] in (None, "miniature", THOROUGH)
        assert each["rates"]["retry"]["n"] == each["curve"][-1]["retry_n"]
        assert each["test"]["p"] == max(each["excess"][name]["p"] for name in ("control", "retry"))
    for text in (
        "were chosen on tuning prompts",
        "not that the guard was beaten",
        "plain retries dotted",
        "| no text attack exceeds its control on the oracle | **holds** |",
        "sheet.png",
        "curves.png",
    ):
        assert text in page
    assert all((finished / name).read_bytes().startswith(b"\x89PNG") for name in ("sheet.png", "curves.png"))


def test_what_was_made_is_found_again(
    finished: Path, record: dict[str, Any], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("zbench.model.load_model", refuse)
    heard: list[tuple[int, int]] = []
    told = lambda done, total: heard.append((done, total))  # noqa: E731
    again = attacks_study(tmp_path / "again", model, told, **OPTIONS, work=str(finished / "work"))
    assert json.loads(json.dumps(again["attacks"])) == record["attacks"]
    assert heard[-1] == (len(record["attacks"]) + 1,) * 2
    for name in ("sheet.png", "curves.png", "study.md"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_an_attack_that_fails_is_shown_as_such_and_decides_nothing(
    bench: Bench, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("this attack is broken")

    monkeypatch.setattr("zbench.runner.attacks.attack", fail)
    case = next(case for case in CASES if case.claim == "oracle")
    finding = bench.find(case, bench.prompts(f"{CONCEPT}-explicit").head(1))
    [row] = rows_of([finding])
    assert (row["status"], row["verdict"]) == ("failed", UNDECIDED)
    page = render_page({**record, "attacks": [row]})
    assert "typo failed: RuntimeError: this attack is broken" in page and "except for what failed" in page
