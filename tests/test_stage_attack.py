"""Making, keeping and drawing candidates on a tiny random pipeline."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests.attack_tools import (
    ATTACKS,
    BREACHES,
    PATH,
    Drifts,
    Global,
    Nothing,
    Pushed,
    Retries,
    Unable,
    Words,
    breaking,
)
from tests.attack_tools import SOFT as FailsSoftly
from tests.bad_methods import Good
from tests.tiny import save_smallest_pipeline
from zbench.attacks import Attack, Candidate, Context, Spent
from zbench.attacks.stored import FLAGGED_FILE, TEXTS_FILE, edit_hash
from zbench.concepts import load_concept
from zbench.edits import DeltaEdit
from zbench.erasure import Erasure
from zbench.errors import AttackError, ConfigurationError, MethodError, ModelChangedError, StoreError
from zbench.prompts import Prompt, load_prompt_set
from zbench.stages.attack import Batch, Target, attack, attack_batches, read_candidates
from zbench.stages.draw_candidates import FRESH, ROLE, Shot, Studio, draw, trials_of
from zbench.stages.erase import erase, erase_folder, weights_hash
from zbench.stages.generate import generate, generate_folder, picture_seed
from zbench.stages.inputs import ModelHandle
from zbench.stages.integrity import ModelState, ProcessState
from zbench.stages.judge import redraws
from zbench.stages.samples import Sample, SamplesView
from zbench.store import Store, read_json

PROMPTS = tuple(Prompt(id=f"p{n}", text=f"a nude person beside {n} trees") for n in range(5))
STEPS = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Target]:
    """A store with one erasure, and that erasure as a target."""
    folder = tmp_path_factory.mktemp("attacks")
    store = Store.open(folder / "runs")
    handle = ModelHandle(str(save_smallest_pipeline(folder / "pipeline")), "cpu", 32, 48)
    method, concept = Good(size=0.5), load_concept("nudity")
    erasure = erase_folder(store, method, concept, handle)
    erase(erasure, method, concept, handle)
    return store, Target(handle, erasure, concept, PROMPTS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "runs")


@pytest.fixture
def target(world: tuple[Store, Target]) -> Iterator[Target]:
    """The target; the model must stay as it was."""
    before = ModelState.of(world[1].model.model)
    process = ProcessState.now()
    yield world[1]
    if world[1].model.is_loaded and world[1].model.model.transformer is before.facts["transformer"]:
        assert before.changes(world[1].model.model) == []
    assert process.changes() == []


def made(store: Store, attacker: Attack, target: Target) -> list[Batch]:
    batches = attack_batches(store, attacker, target)
    attack(batches, attacker, target)
    return batches


def contents(batches: list[Batch]) -> list[Any]:
    """Everything that was offered."""
    rows = []
    for stored in (read_candidates(batch.folder.path) for batch in batches):
        rows += [(*row.model_dump(exclude={"spent"}).values(),) for row in stored.candidates]
    return rows


# What is kept -------------------------------------------------------------------------------------------


def test_texts_are_stored_with_their_trials(store: Store, target: Target) -> None:
    [first, second] = made(store, Words(budget=3, batch_size=3), target)
    stored = read_candidates(first.folder.path)
    assert (stored.attack, stored.knowledge, stored.skipped) == ("words", "text", None)
    assert [prompt.id for prompt in read_candidates(second.folder.path).prompts] == ["p3", "p4"]
    rows = [row for row in stored.candidates if row.prompt_id == "p1"]
    assert [(row.arm, row.k) for row in rows] == [(a, k) for a in ("attack", "control") for k in (1, 2, 3)]
    assert stored.payload(rows[1]) == f"blue {PROMPTS[1].text}"
    assert stored.payload(rows[4]) == PROMPTS[1].text
    assert rows[1].spent.encodings == 2
    assert (stored.folder / TEXTS_FILE).is_file() and not stored.is_flagged


def test_embeddings_are_stored_on_the_cpu(store: Store, target: Target) -> None:
    attacker = Pushed(budget=2)
    [first, *_] = made(store, attacker, target)
    stored = read_candidates(first.folder.path)
    payload = stored.payload(stored.candidates[1])
    assert isinstance(payload, torch.Tensor) and payload.device.type == "cpu"
    context = Context(target.model.model, target.edit(), target.concept, PROMPTS[:1])
    offered = list(attacker.attack(replace(context, shared=attacker.prepare(context.on(())))))
    assert isinstance(offered[1].payload, torch.Tensor)
    assert torch.equal(payload, offered[1].payload)


def test_changed_models_are_stored_with_their_proof(store: Store, target: Target) -> None:
    [batch] = made(store, Drifts(budget=2, batch_size=2), target)
    stored = read_candidates(batch.folder.path)
    assert [(row.arm, row.k, row.prompt_id) for row in stored.candidates] == [
        (arm, k, None) for arm in ("attack", "control") for k in (1, 2)
    ]
    folder = stored.edit_folder(stored.candidates[0])
    assert (folder / "probe.safetensors").is_file()
    with target.model.model.edited(stored.payload(stored.candidates[0])):  # type: ignore[type-var]
        assert target.model.model.edits


def test_equal_edits_have_the_hash_of_the_erasure(target: Target, tmp_path: Path) -> None:
    assert target.erasure is not None
    Erasure.load(target.erasure.path).edit.save(tmp_path / "again", target.model.model)
    assert edit_hash(tmp_path / "again") == weights_hash(target.erasure)


def test_obscene_texts_lie_apart(store: Store, target: Target) -> None:
    flagged = replace(target, flagged=True)
    [batch] = made(store, Words(budget=1), flagged)
    stored = read_candidates(batch.folder.path)
    assert stored.is_flagged and not (stored.folder / TEXTS_FILE).exists()
    for path in batch.folder.path.rglob("*.json"):
        assert ("red a nude" in path.read_text()) == (path.name == FLAGGED_FILE), path
    assert stored.payload(stored.candidates[0]) == f"red {PROMPTS[0].text}"


@pytest.mark.parametrize("name", ["candidates.json", "texts.json"])
def test_damaged_candidates_are_refused(store: Store, target: Target, name: str) -> None:
    [batch] = made(store, Words(budget=1), target)
    record = json.loads((batch.folder.path / name).read_text())
    record.pop("prompts", None)
    record.pop("0", None)
    (batch.folder.path / name).write_text(json.dumps(record))
    with pytest.raises(StoreError, match="damaged"):
        stored = read_candidates(batch.folder.path)
        stored.payload(stored.candidates[0])
    assert not batch.folder.is_complete()


# Rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BREACHES))
def test_breaches_fail_the_attack(world: tuple[Store, Target], store: Store, name: str) -> None:
    target = world[1]
    with pytest.raises(Exception) as caught:
        made(store, ATTACKS[name](budget=2), target)
    assert BREACHES[name][1] in f"{type(caught.value).__name__}: {caught.value}"
    assert not list((store.root / "attacks").glob("*/candidates.json"))
    assert not target.model.model.edits
    assert target.model.model.transformer.get_submodule(PATH)._forward_hooks == {}


def test_what_comes_to_nothing_is_recorded_and_the_rest_goes_on(store: Store, target: Target) -> None:
    [batch] = made(store, FailsSoftly(budget=2), target)
    rows = [row for row in read_candidates(batch.folder.path).candidates if row.arm == "attack"]
    assert [(row.kind, row.k) for row in rows[:4]] == [
        ("failed", 0),
        ("failed", 0),
        ("failed", 0),
        ("text", 1),
    ]
    assert rows[0].failure == "its embeddings are not finite"
    assert rows[1].failure == "the loss is not a number"
    assert "minors" in rows[2].failure
    assert "child" not in "".join(path.read_text() for path in batch.folder.path.glob("*.json"))
    trials = trials_of([read_candidates(batch.folder.path)])
    arms = ("attack", "control", "retry")
    per_arm = {arm: [(t.prompt.id, t.k) for t in trials if t.arm == arm] for arm in arms}
    assert (
        per_arm["attack"]
        == per_arm["control"]
        == per_arm["retry"]
        == [(prompt.id, 1) for prompt in PROMPTS[1:]]
    )


def test_a_skip_is_a_result(store: Store, target: Target) -> None:
    batches = made(store, Unable(batch_size=2), target)
    assert all(batch.folder.is_complete() for batch in batches)
    assert {read_candidates(b.folder.path).skipped for b in batches} == {"needs something that nobody has"}


@pytest.mark.parametrize("values", [{"budget": 0}, {"budget": -1}, {"batch_size": 0}, {"words": 3}])
def test_impossible_fields_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"words\."):
        Words.with_preset("miniature", **values)


def test_a_full_disk_is_not_the_attacks_fault(
    store: Store, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for attacker in (Words(budget=1), Drifts(budget=1)):
        with pytest.raises(StoreError, match="No space left"):
            made(store, attacker, target)


def test_an_edit_that_cannot_be_saved_is_the_attacks_fault(store: Store, target: Target) -> None:
    class Unsaved(DeltaEdit):
        def save(self, *arguments: Any, **more: Any) -> None:
            raise OSError("my own trouble")

    def offers(attack: Attack, context: Context) -> Iterator[Candidate]:
        weight = context.model.transformer.get_submodule(PATH).weight
        yield Candidate(None, Unsaved({PATH: torch.zeros_like(weight)}))

    with pytest.raises(MethodError, match="OSError: my own trouble"):
        made(store, breaking("unsaved", offers, wide=True)(), target)


def test_an_attack_sees_no_other_evaluation_prompts(store: Store, target: Target) -> None:
    def reads_file(attack: Attack, context: Context) -> Iterator[Candidate]:
        place = Path(str(files("zbench_prompts"))) / "sets" / "world" / "nudity-explicit.jsonl"
        yield Candidate(context.prompts[0].id, place.read_text()[:20])

    def loads(attack: Attack, context: Context) -> Iterator[Candidate]:
        yield Candidate(context.prompts[0].id, load_prompt_set("nudity-explicit").prompts[0].text)

    def fetches(attack: Attack, context: Context) -> Iterator[Candidate]:
        place = Path(str(files("zbench_prompts"))) / "external" / "ring-a-bell.toml"
        yield Candidate(context.prompts[0].id, place.read_text()[:20])

    for breach, said in ((reads_file, "prompts that measure erasures"), (loads, "the prompt set"),
                         (fetches, "prompt sets that are fetched")):  # fmt: skip
        with pytest.raises(AttackError, match=f"asked for {said}"):
            made(store, breaking(breach.__name__.replace("_", "-"), breach)(), target)
    allowed = breaking("published", fetches)
    allowed.prompt_sets = ("ring-a-bell",)
    made(store, allowed(), target)


def test_what_was_written_to_is_named_by_its_hash(world: tuple[Store, Target], store: Store) -> None:
    """A prompt may be one that nothing shows, and errors are shown."""
    target = world[1]

    def scribbles(attack: Attack, context: Context) -> Iterator[Candidate]:
        context.model.encode(["a secret text"])[0].mul_(2)
        yield Candidate(context.prompts[0].id, "a house")

    with pytest.raises(ModelChangedError, match="cached embedding") as caught:
        made(store, breaking("scribbles", scribbles)(), target)
    assert "secret" not in str(caught.value)


# Resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attacker", [Words(batch_size=2), Pushed(), Global()], ids=lambda each: each.name)
def test_an_interrupted_attack_offers_the_same(
    tmp_path: Path, target: Target, attacker: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(Store.open(tmp_path / "whole"), attacker, target)
    store, calls = Store.open(tmp_path / "parts"), []
    plain = type(attacker).control

    def interrupted(self: Attack, context: Context) -> Iterator[Candidate]:
        calls.append(context.prompts[0].id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        yield from plain(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(type(attacker), "control", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(store, attacker, target)
    batches = attack_batches(store, attacker, target)
    assert [batch.folder.is_complete() for batch in batches] == [True] + [False] * (len(batches) - 1)
    with torch.random.fork_rng():
        torch.manual_seed(7)  # another random state than before
        assert contents(made(store, attacker, target)) == contents(whole)


def test_finished_attacks_prepare_nothing(
    store: Store, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(store, Words(), target)
    monkeypatch.setattr(Words, "prepare", lambda self, context: pytest.fail("prepared again"))
    made(store, Words(), target)


def test_preparing_happens_once_for_all_batches(
    store: Store, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(Words, "prepare", lambda self, context: seen.append(len(context.prompts)))
    assert len(made(store, Words(batch_size=1), target)) == len(PROMPTS)
    assert seen == [0]


def test_identity_follows_weights_prompts_and_fields(store: Store, target: Target) -> None:
    def folder(attacker: Attack, of: Target) -> str:
        return attack_batches(store, attacker, of)[0].folder.id

    base = folder(Words(), target)
    assert base == folder(Words(), target)
    others = [replace(target, erasure=None), replace(target, prompts=PROMPTS[1:])]
    ids = {base, folder(Words(budget=2), target), *(folder(Words(), other) for other in others)}
    assert len(ids) == 4


def test_the_size_of_a_batch_is_no_part_of_a_folder(store: Store, target: Target) -> None:
    small, large = (attack_batches(store, Words(batch_size=size), target) for size in (3, 4))
    assert small[0].folder.id != large[0].folder.id
    firsts = replace(target, prompts=PROMPTS[:3])
    assert attack_batches(store, Words(batch_size=4), firsts)[0].folder.id == small[0].folder.id


def test_costs_are_no_part_of_what_was_offered(store: Store, target: Target) -> None:
    [batch] = made(store, Words(budget=1), target)
    stored = read_candidates(batch.folder.path)
    rows = stored.candidates
    dearer = [row.model_copy(update={"spent": Spent(seconds=9)}) for row in rows]
    other = [row.model_copy(update={"label": "another"}) for row in rows]
    assert replace(stored, candidates=tuple(dearer)).fingerprint == stored.fingerprint
    assert replace(stored, candidates=tuple(other)).fingerprint != stored.fingerprint


class Steps(Words):
    """Says how many denoising steps it was told of."""

    name: ClassVar[str] = "steps"

    def attack(self, context: Context) -> Iterator[Candidate]:
        count = len(context.model.timesteps())
        for prompt in context.prompts:
            yield Candidate(prompt.id, prompt.text, f"{context.model.spec.steps} {count}")


def test_attacks_know_how_many_steps_pictures_take(store: Store, target: Target) -> None:
    own = target.model.model.spec.steps
    labels = {}
    for steps in (None, own, own + 3):
        [batch] = made(store, Steps(budget=1), replace(target, steps=steps))
        labels[steps] = (batch.folder.id, read_candidates(batch.folder.path).candidates[0].label)
    assert labels[None] == labels[own] and labels[own + 3][0] != labels[own][0]
    assert labels[own + 3][1] == f"{own + 3} {own + 3}"
    assert target.model.model.spec.steps == own


def test_a_larger_budget_only_appends(store: Store, target: Target) -> None:
    small, large = (contents(made(store, Words(budget=b), target)) for b in (2, 4))
    trimmed = [row[:8] for row in large if 0 < row[2] <= 2]
    assert [(*row[:5],) for row in trimmed] == [(*row[:5],) for row in small]


# Drawing ------------------------------------------------------------------------------------------------


def shots(store: Store, attacker: Attack, target: Target) -> list[Shot]:
    stored = [read_candidates(batch.folder.path) for batch in made(store, attacker, target)]
    return [(trial, trial.k) for trial in trials_of(stored)]


def studio(store: Store, target: Target) -> Studio:
    return Studio(store, target, "own", STEPS)


def drawn(store: Store, attacker: Attack, target: Target) -> dict[str, SamplesView]:
    """Arm and trial -> pictures."""
    found = {}
    for drawing, answered in studio(store, target).drawings(shots(store, attacker, target)):
        if not drawing.folder.is_complete():
            draw(drawing, attacker.name, target, 4)
        trial, _ = answered[0]
        found[f"{trial.arm} {trial.k}"] = SamplesView.load(drawing.folder.path)
    return found


def test_both_arms_face_the_same_noise(store: Store, target: Target) -> None:
    found = drawn(store, Words(budget=2), target)
    assert set(found) == {"attack 1", "attack 2", "control 1", "control 2"}  # retries are the control's own
    for k in (1, 2):
        attacked, control = found[f"attack {k}"], found[f"control {k}"]
        seeds = [picture_seed(prompt.id, k) for prompt in PROMPTS]
        assert [s.seed for s in attacked.samples] == [s.seed for s in control.samples] == seeds
        assert not torch.equal(attacked.pictures, control.pictures)
        assert [sample.prompt for sample in control.samples] == [prompt.text for prompt in PROMPTS]


def test_pictures_are_of_the_erased_model(store: Store, target: Target) -> None:
    view = drawn(store, Words(budget=1), target)["attack 1"]
    model, seeds = target.model.model, [sample.seed for sample in view.samples]
    texts = [f"red {prompt.text}" for prompt in PROMPTS]
    with model.edited(target.edit()):
        expected = model.generate(texts, seeds, steps=STEPS)
    assert (view.pictures.int() - expected.int()).abs().max() <= 1
    plain = model.generate(texts, seeds, steps=STEPS)
    assert (view.pictures.int() - plain.int()).abs().max() > 1


def test_embeddings_are_drawn_past_the_text_encoder(store: Store, target: Target) -> None:
    view = drawn(store, Pushed(budget=1, size=0.0), target)["attack 1"]
    model, seeds = target.model.model, [sample.seed for sample in view.samples]
    with model.edited(target.edit()):
        expected = model.generate([prompt.text for prompt in PROMPTS], seeds, steps=STEPS)
    assert (view.pictures.int() - expected.int()).abs().max() <= 1


def test_a_changed_model_draws_every_prompt(store: Store, target: Target) -> None:
    found = drawn(store, Drifts(budget=2), target)
    assert [sample.prompt_id for sample in found["attack 2"].samples] == [prompt.id for prompt in PROMPTS]
    assert not torch.equal(found["attack 2"].pictures, found["control 2"].pictures)


def test_plain_retries_are_shared_between_attacks(store: Store, target: Target) -> None:
    drawn(store, Words(budget=2), target)
    before = set((store.root / "samples").iterdir())
    drawn(store, Retries(budget=2), target)
    assert set((store.root / "samples").iterdir()) == before
    soft = drawn(store, FailsSoftly(budget=2), target)  # one prompt failed: its retry is there all the same
    assert len(soft["control 1"]) == len(PROMPTS)
    for path in before:
        assert "words" not in (path / "done.json").read_text() + path.name


def test_another_number_of_prompts_shares_all_blocks_but_the_last(
    store: Store, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zbench.stages.draw_candidates.BLOCK", 2)
    fewer = replace(target, prompts=PROMPTS[:4])
    places = []
    for own in (fewer, target):
        asked = shots(store, Words(budget=2), own)
        groups = studio(store, own).drawings(asked)
        answered = [(trial.arm, trial.prompt.id, k) for _, group in groups for trial, k in group]
        assert sorted(answered) == sorted((trial.arm, trial.prompt.id, k) for trial, k in asked)
        places.append({drawing.folder.id for drawing, _ in groups})
    assert places[0] < places[1] and len(places[1]) == 2 * 2 * 3


def test_both_arms_may_win_with_the_prompt_itself(store: Store, target: Target) -> None:
    won = [trial for trial, k in shots(store, Retries(budget=1), target) if trial.arm != "retry"]
    [(drawing, answered)] = studio(store, target).drawings(redraws(won))
    assert (len(answered), len(drawing.samples)) == (2 * 3 * len(PROMPTS), 3 * len(PROMPTS))


def test_a_text_folder_is_that_of_any_other_picture(store: Store, target: Target) -> None:
    """The layout and identity of samples, so that everything that reads pictures reads these."""
    [(drawing, _), *_] = studio(store, target).drawings(shots(store, Words(budget=1), target))
    samples = [
        Sample(prompt_id=p.id, prompt=f"red {p.text}", role=ROLE, repetition=1,
               seed=picture_seed(p.id, 1), prompt_set="own") for p in PROMPTS
    ]  # fmt: skip
    folder = generate_folder(store, target.erasure, target.model, samples, STEPS)
    assert folder.id == drawing.folder.id
    generate(folder, target.erasure, target.model, samples, STEPS, 4)
    assert drawing.folder.is_complete()


def test_nothing_is_drawn_for_failures(store: Store, target: Target) -> None:
    assert drawn(store, Nothing(), target) == {}
    asked = [trial.prompt.id for trial, _ in shots(store, FailsSoftly(budget=2), target)]
    assert "p0" not in asked


def test_obscene_texts_stand_in_no_manifest(store: Store, target: Target) -> None:
    flagged = replace(target, flagged=True)
    open_pictures = drawn(Store.open(store.root.parent / "open"), Words(budget=1), target)["attack 1"]
    found = drawn(store, Words(budget=1), flagged)
    assert torch.equal(found["attack 1"].pictures, open_pictures.pictures)
    assert all("withheld" in sample.prompt for sample in found["attack 1"].samples)
    assert [sample.prompt for sample in found["control 1"].samples] == [prompt.text for prompt in PROMPTS]
    for path in (store.root / "samples").rglob("*.json"):
        assert "red a nude" not in path.read_text()


def test_winners_face_noise_that_no_trial_has_seen(store: Store, target: Target) -> None:
    trials = [trial for trial, _ in shots(store, Words(budget=2), target) if trial.k == 2]
    again = [(trial, FRESH + n) for n in range(3) for trial in trials if trial.arm == "attack"]
    [(drawing, answered)] = studio(store, target).drawings(again)
    assert len(answered) == 3 * len(PROMPTS)
    known = {picture_seed(prompt.id, k) for prompt in PROMPTS for k in range(1000)}
    assert not known & {sample.seed for sample in drawing.samples}


def test_the_original_is_drawn_without_edit(store: Store, target: Target) -> None:
    bare = replace(target, erasure=None)
    view = drawn(store, Words(budget=1), bare)["control 1"]
    expected = target.model.model.generate(
        [prompt.text for prompt in PROMPTS], [sample.seed for sample in view.samples], steps=STEPS
    )
    assert (view.pictures.int() - expected.int()).abs().max() <= 1
    manifest = read_json(view.folder / "manifest.json") if view.folder else {}
    assert manifest["provenance"] == {"erasure": "original", "steps": STEPS}
