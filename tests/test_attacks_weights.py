"""Attacks on the weights: adapters against the erased model, rounding, and the edit turned down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.test_edits_delta import deltas
from tests.test_edits_lora import filled, random_call
from tests.tiny import save_tiny_pipeline
from tests.transcription import CONCEPT
from zbench.attacks.base import Attack
from zbench.attacks.candidates import Candidate
from zbench.attacks.context import Context, context_for
from zbench.attacks.quantisation import Quantisation
from zbench.attacks.reflux import ReFlux
from zbench.attacks.relearning import Relearning
from zbench.attacks.scale import Scale
from zbench.attacks.toolkit.changed_models import AdapterAttack, Training, random_like
from zbench.attacks.toolkit.target_pictures import drawn_latents
from zbench.concepts import Concept
from zbench.edits import (
    ComposedEdit,
    DeltaEdit,
    Edit,
    LoraEdit,
    NegativePromptEdit,
    NoEdit,
    QuantisedEdit,
    TokenZeroingEdit,
    load_edit,
)
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model
from zbench.phrases import names_phrase
from zbench.prompts.sets import Prompt
from zbench.stages.integrity import ModelState
from zbench.training import seeds_for

PROMPTS = [Prompt(id=f"p{number}", text=text) for number, text in enumerate(CONCEPT.training_prompts)]
SMALL: dict[str, Any] = {
    "rank": 2,
    "budget": 2,
    "steps_per_candidate": 2,
    "pictures": 2,
    "training_batch": 2,
    "learning_rate": 1e-2,
}
TRAINED = (ReFlux, Relearning)


@pytest.fixture(scope="module")
def model(tiny_pipeline_folder: Path) -> Model:
    """One model for all of these tests."""
    return load_model(tiny_pipeline_folder, "cpu")


@pytest.fixture(autouse=True)
def _untouched(model: Model) -> Iterator[None]:
    """Every attack leaves the model, its hooks and the random state as they were."""
    before, state = ModelState.of(model), torch.get_rng_state()
    yield
    assert not before.changes(model) and torch.equal(torch.get_rng_state(), state)


def context(attack: Attack, model: Model, erasure: Edit, concept: Concept = CONCEPT) -> Context:
    return context_for(attack, model, erasure, concept, PROMPTS)


def adapter_of(candidate: Candidate) -> LoraEdit:
    payload = candidate.payload
    adapter = payload.edits[-1] if isinstance(payload, ComposedEdit) else payload
    assert isinstance(adapter, LoraEdit)
    return adapter


def factors(candidate: Candidate) -> dict[str, Tensor]:
    return adapter_of(candidate).tensors()


def equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def velocity(model: Model, edit: Edit) -> Tensor:
    with torch.no_grad(), model.edited(edit):
        return model.velocity(*random_call(model, (12, 20), [3, 50], 1))


def attacked(
    model: Model, erasure: Edit, kind: type[AdapterAttack] = ReFlux, **changes: Any
) -> list[Candidate]:
    attack = kind(**{**SMALL, **changes})
    return list(attack.attack(context(attack, model, erasure)))


# Adapters -------------------------------------------------------------------------------------------------


def loss_with(attack: AdapterAttack, prepared: Context, adapter: LoraEdit) -> float:
    """Mean over the draws that the training began with, so that only the adapter differs."""
    bank, figure = attack.bank(prepared), "loss" if isinstance(attack, ReFlux) else "flow"
    with prepared.erased() as model, model.edited(adapter):
        objective = attack.objective(prepared, adapter, bank)
        return sum(objective.gradients()[figure] for _ in range(6))


@pytest.mark.parametrize("kind", TRAINED)
def test_the_loss_falls(model: Model, kind: type[AdapterAttack]) -> None:
    attack = kind(**{**SMALL, "budget": 1, "steps_per_candidate": 20, "rank": 4})
    prepared = context(attack, model, DeltaEdit(deltas()))
    [checkpoint] = prepared.shared.checkpoints
    before = loss_with(attack, prepared, checkpoint.adapter.scaled(0.0))
    assert loss_with(attack, prepared, checkpoint.adapter) < 0.99 * before
    assert len(prepared.shared.trace) == 20


@pytest.mark.parametrize("kind", TRAINED)
def test_results_depend_on_the_erased_weights_and_on_the_seed_only(
    model: Model, kind: type[AdapterAttack]
) -> None:
    first, again = (attacked(model, DeltaEdit(deltas()), kind) for _ in range(2))
    assert [candidate.label for candidate in first] == ["step 2", "step 4"]
    assert all(equal(factors(a), factors(b)) for a, b in zip(first, again, strict=True))
    for other in (
        attacked(model, NoEdit(), kind),
        attacked(model, DeltaEdit(deltas()), kind, attack_seed=1),
    ):
        assert not equal(factors(first[-1]), factors(other[-1]))


@pytest.mark.parametrize("kind", TRAINED)
def test_a_bigger_budget_only_appends(model: Model, kind: type[AdapterAttack]) -> None:
    [one], two = (attacked(model, DeltaEdit(deltas()), kind, budget=budget) for budget in (1, 2))
    assert equal(factors(one), factors(two[0])) and not equal(factors(one), factors(two[1]))


def test_guards_stand_while_the_adapter_is_trained(model: Model) -> None:
    """A guard knows captions that it has seen as prompts: those of the original's pictures it has not."""
    guarded, free = (attacked(model, edit) for edit in (TokenZeroingEdit(CONCEPT.phrases), NoEdit()))
    assert not equal(factors(guarded[0]), factors(free[0]))


def test_candidates_stand_on_the_erasure_and_of_the_original_alone(model: Model) -> None:
    erasure = DeltaEdit(deltas())
    for candidate in attacked(model, erasure):
        assert isinstance(candidate.payload, ComposedEdit) and candidate.payload.edits[0] is erasure
        assert candidate.prompt_id is None and candidate.kind == "edit"
    assert isinstance(attacked(model, NoEdit())[0].payload, LoraEdit)


def test_half_the_defence_as_the_release_has_it(model: Model) -> None:
    whole, half = (attacked(model, DeltaEdit(deltas()), defence_scale=scale) for scale in (1.0, 0.5))
    assert equal(factors(whole[0]), factors(half[0])), "the training is against the whole erasure"
    payload = half[0].payload
    assert isinstance(payload, ComposedEdit) and isinstance(payload.edits[0], DeltaEdit)
    assert all(
        torch.equal(payload.edits[0].deltas[path], 0.5 * delta.float()) for path, delta in deltas().items()
    )
    attack = ReFlux(**SMALL, defence_scale=0.5)
    reason = attack.supports(Context(model, TokenZeroingEdit(["nude"]), CONCEPT, ()))
    assert reason is not None and "defence_scale 0.5" in reason


@pytest.mark.parametrize("kind", TRAINED)
def test_controls_are_as_many_and_as_large_and_random(model: Model, kind: type[AdapterAttack]) -> None:
    attack = kind(**SMALL)
    prepared = context(attack, model, DeltaEdit(deltas()))
    pairs = list(zip(attack.attack(prepared), attack.control(prepared), strict=True))
    assert len(pairs) == 2
    for trained, random in pairs:
        one, other = adapter_of(trained), adapter_of(random)
        assert one.describe() == other.describe() and one.paths() == other.paths()
        for path in one.paths():
            left, right = one.update_at(path), other.update_at(path)
            assert left is not None and right is not None
            torch.testing.assert_close(left.norm(), right.norm())
            assert abs(torch.cosine_similarity(left.flatten(), right.flatten(), dim=0)) < 0.5
    assert not equal(factors(pairs[0][1]), factors(pairs[1][1]))


def test_a_random_twin_leaves_the_trained_adapter_alone(model: Model) -> None:
    trained = filled(LoraEdit(2), model)
    before = velocity(model, trained)
    random_like(trained, torch.Generator().manual_seed(0))
    assert torch.equal(velocity(model, trained), before)


def test_what_it_costs_grows_with_the_steps(model: Model) -> None:
    first, second = (candidate.spent for candidate in attacked(model, DeltaEdit(deltas())))
    # Two more steps: each one call of the erased model for the target, one forward, one backward.
    samples = SMALL["training_batch"]
    assert second.forwards - first.forwards == 4 * samples
    assert second.backwards - first.backwards == 2 * samples == first.backwards
    assert second.seconds > first.seconds > 0 and first.encodings == 4


def test_a_training_that_diverges_keeps_what_came_before(model: Model) -> None:
    attack = ReFlux(**{**SMALL, "steps_per_candidate": 1, "budget": 3, "learning_rate": 1e30})
    prepared = context(attack, model, DeltaEdit(deltas()))
    *kept, failed = attack.attack(prepared)
    assert failed.kind == "failed" and "diverged" in failed.failure and failed.prompt_id is None
    assert len(kept) == len(prepared.shared.checkpoints) < 3
    assert len(list(attack.control(prepared))) == len(kept)


def test_an_erasure_fresh_from_training_takes_no_gradients(model: Model) -> None:
    erasure = filled(LoraEdit(2), model)
    attacked(model, erasure)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in erasure.parameters())


class WithoutGradients(NegativePromptEdit):
    """A guard that cuts the graph."""

    kind = "test-without-gradients"

    def guide(self, velocity: Tensor, *rest: Any) -> Tensor:
        return super().guide(velocity, *rest).detach()


@pytest.mark.parametrize("kind", TRAINED)
def test_no_gradients_no_training(model: Model, kind: type[AdapterAttack]) -> None:
    guard = WithoutGradients(model.encode(["nude"])[0], 1.0)
    assert "gradients" in (kind().supports(Context(model, guard, CONCEPT, ())) or "")
    assert kind().supports(Context(model, NoEdit(), CONCEPT, ())) is None


def test_nothing_to_minimise(model: Model) -> None:
    attack = ReFlux(velocity_weight=0, attention_weight=0, flow_weight=0)
    assert "all 0" in (attack.supports(Context(model, NoEdit(), CONCEPT, ())) or "")


def test_attention_alone_is_drawn_to_the_concept(model: Model) -> None:
    attack = ReFlux(**{**SMALL, "steps_per_candidate": 20, "budget": 1}, velocity_weight=0, flow_weight=0)
    trace = context(attack, model, NoEdit()).shared.trace
    assert sum(row["attention"] for row in trace[-5:]) > 1.05 * sum(row["attention"] for row in trace[:5])


# Relearning never sees the concept ------------------------------------------------------------------------


def watch_encoding(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that is encoded from now on, until the patch is undone."""
    asked: list[str] = []
    encode: Callable[[Sequence[str]], list[Tensor]] = model.encode

    def watched(prompts: Sequence[str]) -> list[Tensor]:
        asked.extend(prompts)
        return encode(prompts)

    monkeypatch.setattr(model, "encode", watched)
    return asked


def test_no_training_prompt_names_the_concept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = CONCEPT.model_copy(
        update={"preserve_prompts": ("a nude person in the rain", *CONCEPT.preserve_prompts, "a NAKED tree")}
    )
    asked = watch_encoding(model, monkeypatch)
    attack = Relearning(**{**SMALL, "pictures": 7})
    bare = Context(model, DeltaEdit(deltas()), mixed, tuple(PROMPTS))
    attack.prepare(bare)
    monkeypatch.undo()
    assert set(asked) == set(CONCEPT.preserve_prompts)
    assert not any(names_phrase(text, phrase) for text in asked for phrase in mixed.phrases)
    assert len(attack.prompts_of(bare)) == 7
    only = mixed.model_copy(update={"preserve_prompts": ("a nude tree",)})
    assert "unrelated" in (attack.supports(Context(model, NoEdit(), only, ())) or "")


def test_reflux_sees_training_prompts_only(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = watch_encoding(model, monkeypatch)
    attack = ReFlux(**SMALL, reference="anchor")
    attack.prepare(Context(model, NoEdit(), CONCEPT, ()))
    monkeypatch.undo()
    assert set(asked) == {*CONCEPT.training_prompts, *CONCEPT.anchor_prompts}


# Rounded and turned down ----------------------------------------------------------------------------------


def test_quantised_in_both_formats(model: Model) -> None:
    erasure, attack = DeltaEdit(deltas()), Quantisation()
    prepared = context(attack, model, erasure)
    eight, four = attack.attack(prepared)
    assert (eight.label, four.label) == ("int8", "int4")
    assert isinstance(eight.payload, QuantisedEdit) and isinstance(four.payload, QuantisedEdit)
    assert (eight.payload.bits, eight.payload.group) == (8, None)
    assert (four.payload.bits, four.payload.group) == (4, 64)
    assert [c.label for c in Quantisation(budget=1).attack(prepared)] == ["int8"]
    assert attack.supports(prepared) is None
    assert attack.supports(context(attack, model, NoEdit())) is None
    assert "unknown" in (attack.supports(context(attack, model, QuantisedEdit(erasure))) or "")


def test_scaled_to_one_draws_the_erasures_pictures(model: Model) -> None:
    erasure, attack = filled(LoraEdit(2, alpha=3.0), model), Scale()
    prepared = context(attack, model, erasure)
    assert attack.supports(prepared) is None
    pictures = []
    candidates = list(attack.attack(prepared))
    assert [candidate.label for candidate in candidates] == ["strength 0.5", "strength 0.75", "strength 1"]
    for edit in (erasure, *(candidate.payload for candidate in candidates)):
        assert isinstance(edit, Edit)
        with model.edited(edit):
            pictures.append(model.generate([PROMPTS[0].text], [3]))
    assert torch.equal(pictures[0], pictures[3])
    assert not torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[1], pictures[2])


def test_no_strength_no_scale(model: Model) -> None:
    for edit in (NoEdit(), TokenZeroingEdit(["nude"])):
        assert "strength" in (Scale().supports(context(Scale(), model, edit)) or "")


@pytest.mark.parametrize(
    ("attack", "count"), [(Scale(), 3), (Scale(budget=9), 3), (Scale(budget=1), 1), (Quantisation(), 2)]
)
def test_controls_are_as_many_retries(model: Model, attack: Attack, count: int) -> None:
    prepared = context(attack, model, DeltaEdit(deltas()))
    assert len(list(attack.attack(prepared))) == count
    retries = list(attack.control(prepared))
    assert len(retries) == count * len(PROMPTS)
    assert [c.payload for c in retries if c.prompt_id == "p1"] == [PROMPTS[1].text] * count


# All of them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ReFlux, Relearning, Quantisation, Scale])
def test_payloads_of_both_arms_come_back_whole(model: Model, tmp_path: Path, kind: type[Attack]) -> None:
    attack = kind(**(SMALL if kind in TRAINED else {}))
    erasure = ComposedEdit([DeltaEdit(deltas()), TokenZeroingEdit(["nude"])])
    prepared = context(attack, model, erasure)
    payloads = [c.payload for arm in (attack.attack, attack.control) for c in arm(prepared)]
    for number, payload in enumerate(payload for payload in payloads if isinstance(payload, Edit)):
        payload.save(tmp_path / str(number), model)
        assert torch.equal(velocity(model, load_edit(tmp_path / str(number))), velocity(model, payload))


@pytest.mark.parametrize("kind", [ReFlux, Relearning, Quantisation, Scale])
def test_presets_cards_and_bad_values(kind: type[Attack]) -> None:
    assert kind.model_wide and kind.card.knowledge == "weights"
    for preset in kind.presets:
        assert kind.with_preset(preset).identity()["attack"] == kind.name
    for wrong in ({"budget": 0}, {"budget": -1}):
        with pytest.raises(ConfigurationError, match="budget"):
            kind.with_preset("miniature", **wrong)


def test_a_training_without_checkpoints_offers_nothing(model: Model) -> None:
    empty = Context(model, NoEdit(), CONCEPT, tuple(PROMPTS), shared=Training(failure="not a number"))
    [failed] = ReFlux().attack(empty)
    assert failed.kind == "failed" and not list(ReFlux().control(empty))


@pytest.mark.parametrize("kind", TRAINED)
def test_pictures_to_train_on_are_drawn_with_the_models_guidance(
    tmp_path: Path, kind: type[AdapterAttack]
) -> None:
    """Without it a model that needs guidance shows little of a concept, and an attack learns little of it."""
    guided = load_model(save_tiny_pipeline(tmp_path / "guided", guidance_scale=3.0), "cpu")
    attack = kind(**SMALL)
    prepared = Context(guided, NoEdit(), CONCEPT, ())
    bank = attack.bank(prepared)
    seeds = seeds_for(attack.name, prepared.seed("pictures"), len(bank.prompts))
    run = guided.trajectory(guided.encode(bank.prompts), seeds)
    expected = drawn_latents(guided, bank.prompts, seeds)
    torch.testing.assert_close(bank.latents, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(bank.latents, run.latents[-1].float(), rtol=1e-2, atol=1e-2)


def test_pictures_are_drawn_in_batches(model: Model) -> None:
    """All at once they would not fit beside a large model."""
    before = model.counter.forwards, model.counter.forward_samples
    drawn_latents(model, ["a", "b", "c"], [1, 2, 3], batch_size=2)
    calls, samples = model.counter.forwards - before[0], model.counter.forward_samples - before[1]
    assert calls == 2 * model.spec.steps and samples == 3 * model.spec.steps
