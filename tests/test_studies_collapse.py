"""What makes naive fine-tuning collapse: conventions, trainings, plan, what is kept of runs."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zbench import training
from zbench.concepts import Concept
from zbench.edits import LoraEdit
from zbench.errors import UnknownNameError
from zbench.model import Model, load_model
from zbench.studies import load_study, study_options
from zbench.studies.collapse import collapse_study, runs
from zbench.studies.collapse import training as fine_tuning
from zbench.studies.collapse.conventions import Convention
from zbench.studies.collapse.plan import Planned, Run, label_of, make_plan
from zbench.studies.collapse.runs import Runs
from zbench.studies.collapse.sheet import SHOWN, SIDE, Line, draw_sheet, strip
from zbench.studies.collapse.study import _sheet
from zbench.studies.collapse.training import Bench
from zbench.studies.reading import Reading

CONCEPT = Concept(
    name="car",
    family="entity",
    phrases=("red car",),
    training_prompts=("a red car beside a house", "the red car"),
    anchor="a house",
    anchor_prompts=("a house", "the house"),
    preserve_prompts=("an apple and a tree in the rain", "a beach"),
)


@pytest.fixture(scope="module")
def model(tiny_pipeline_folder: Path) -> Model:
    """One size is enough here: what depends on it is the toolkit's."""
    return load_model(tiny_pipeline_folder, "cpu", height=48, width=80)


def bench(model: Model, **changes: Any) -> Bench:
    options = {"batch_size": 2, "preserve_batch": 2, "trajectories": 3} | changes
    return Bench(model, CONCEPT, **options)


# Conventions ----------------------------------------------------------------------------------------------


def seen_times(model: Model, convention: Convention) -> torch.Tensor:
    """What reaches the transformer for t = 1000, 250."""
    seen: list[torch.Tensor] = []
    times = torch.tensor([1000.0, 250.0])
    with torch.no_grad(), convention.applied(model):
        spy = model.transformer.t_embedder.register_forward_pre_hook(
            lambda module, args: seen.append(args[0])
        )
        model.velocity(model.noise([1, 2]), times, model.encode(["a beach", "the red car"]))
        spy.remove()
    return seen[0] / model.transformer.t_scale


def test_the_released_time_is_t_itself_and_goes_away_again(model: Model) -> None:
    right, released = Convention(), Convention(time="released")
    before = seen_times(model, right)
    torch.testing.assert_close(before, torch.tensor([0.0, 0.75]))
    torch.testing.assert_close(seen_times(model, released), torch.tensor([1000.0, 250.0]))
    torch.testing.assert_close(seen_times(model, right), before, rtol=0, atol=0)


def test_released_embeddings_are_raw_padded_and_from_the_last_layer(model: Model) -> None:
    pipeline: Any = model.pipeline
    length = model.spec.max_sequence_length // 2
    embeddings = Convention(embeddings="released").encode(model, ["a beach", "", "a beach"])
    assert [tuple(e.shape) for e in embeddings] == [(length, pipeline.text_encoder.config.hidden_size)] * 3
    assert torch.equal(embeddings[0], embeddings[2]) and all(e.isfinite().all() for e in embeddings)
    tokens = pipeline.tokenizer(["a beach"], return_tensors="pt")
    with torch.no_grad():
        last = pipeline.text_encoder(**tokens).last_hidden_state[0]
    torch.testing.assert_close(embeddings[0][: len(last)], last, rtol=1e-4, atol=1e-5)
    right = Convention().encode(model, ["a beach"])[0]
    assert torch.equal(right, model.encode(["a beach"])[0]) and len(right) > len(last)


def test_noise_latents_know_nothing_of_the_time_beside_them(model: Model) -> None:
    points = bench(model, trajectories=8).points("erase", Convention(latents="noise"))
    latents = points.bank.latents
    assert latents[-1].std().item() == pytest.approx(1.0, abs=0.1)
    first, last = latents[0].flatten(), latents[-1].flatten()
    assert abs(torch.corrcoef(torch.stack([first, last]))[0, 1].item()) < 0.1


@pytest.mark.parametrize("convention", [Convention(), Convention("released", "noise", "released")])
def test_targets_are_the_frozen_models_in_the_same_convention(model: Model, convention: Convention) -> None:
    points = bench(model).points("erase", convention)
    draw = points.bank.at(torch.tensor([2, 0]), torch.tensor([1, 3]))
    empty = convention.encode(model, [""])[0]
    with torch.no_grad(), convention.applied(model):
        concept = model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        plain = model.velocity(draw.latents, draw.timesteps, [empty, empty])
    torch.testing.assert_close(draw.velocities, concept, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(points.empty.at(draw), plain, rtol=1e-4, atol=1e-4)


def test_points_are_prepared_once_and_trajectories_shared(model: Model) -> None:
    shared = bench(model)
    right = shared.points("erase", Convention())
    assert shared.points("erase", Convention()) is right
    wrong = shared.points("erase", Convention(time="released"))
    assert wrong.bank.latents is right.bank.latents
    assert not torch.equal(wrong.bank.velocities, right.bank.velocities)
    kept = shared.points("preserve", Convention())
    assert kept.bank.prompts != right.bank.prompts


# Training -------------------------------------------------------------------------------------------------

NAIVE = Run(steps=2, learning_rate=1e-2)


def first_gradient(model: Model, run: Run) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Figures and gradients of the first step, as the study takes it."""
    kept: list[list[torch.Tensor]] = []
    one, once = bench(model), replace(run, steps=1, learning_rate=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        step = torch.optim.AdamW.step

        def watched(self: Any, *args: Any) -> Any:
            kept.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
            return step(self, *args)

        patch.setattr(torch.optim.AdamW, "step", watched)
        trained = one.train(once)
    return trained.trace[0], kept[0]


@pytest.mark.parametrize("convention", [Convention(), Convention("released", "noise")])
@pytest.mark.parametrize("preservation", [False, True])
def test_the_loss_is_the_equation_on_the_drawn_points(
    model: Model, convention: Convention, preservation: bool
) -> None:
    """||v - (v0_empty - eta (v0_concept - v0_empty))||^2 and L_pr, recomputed from plain calls at B = 0."""
    run = replace(NAIVE, time=convention.time, latents=convention.latents, preservation=preservation)
    figures, gradients = first_gradient(model, run)
    one, generator = bench(model), training.generator(run.seed)
    draw = one.points("erase", convention).bank.draw(generator, 2)
    empty = model.encode([""])[0]
    with torch.no_grad(), convention.applied(model):
        concept = model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        plain = model.velocity(draw.latents, draw.timesteps, [empty] * 2)
    expected = (3.0 * (concept - plain)).square().mean().item()
    assert figures["erase"] == pytest.approx(expected, rel=1e-4)
    assert ("preserve" in figures) is preservation
    if preservation:
        assert figures["preserve"] == pytest.approx(0.0, abs=1e-8)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_same_settings_same_weights_and_the_model_is_left_alone(model: Model) -> None:
    run = replace(NAIVE, preservation=True, time="released", rows="text")
    first, again = (bench(model).train(run).edit.parameters() for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    other = bench(model).train(replace(run, seed=1)).edit.parameters()
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert not model.edits


def test_every_factor_changes_the_training(model: Model) -> None:
    shared = bench(model)
    changes: list[dict[str, Any]] = [{"rows": "text"}, {"preservation": True}]
    changes += [{"time": "released"}, {"latents": "noise"}, {"embeddings": "released"}, {"attention": True}]
    changes += [{"eta": 1.0}, {"reference": "anchor"}, {"top_layers": 1}, {"targets": ("to_q",)}]
    naive = shared.train(NAIVE).edit
    for change in changes:
        found = shared.train(replace(NAIVE, **change)).edit
        mine, theirs = naive.tensors(), found.tensors()
        same = set(mine) == set(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert not same, change


def test_top_layers_are_the_highest_of_the_localisation(model: Model) -> None:
    from zbench.training.localisation import dominant_layers, localisation_scores

    shared = bench(model)
    ranking = dominant_layers(localisation_scores(model, CONCEPT, batch_size=2), 3)
    assert shared.layers(NAIVE) is None
    assert shared.layers(replace(NAIVE, top_layers=1)) == [ranking[0]]
    assert shared.layers(replace(NAIVE, top_layers=3)) == [0, 1, 2]


def test_what_diverges_is_kept_as_it_was(model: Model) -> None:
    shared = bench(model)
    points = shared.points("erase", Convention())
    points.bank.velocities = points.bank.velocities * float("nan")
    trained = shared.train(NAIVE)
    assert trained.diverged is not None and "diverged" in trained.diverged and trained.trace == []
    assert all(parameter.isfinite().all() for parameter in trained.edit.parameters())
    assert not model.edits


# Plan -----------------------------------------------------------------------------------------------------


def test_the_plan_is_a_full_factorial_and_contrasts_around_naive() -> None:
    planned = make_plan(5e-3, 60, 2.0, 15.0, (2.0, 25.0), 1)
    factorial = [one for one in planned if one.group == "factorial"]
    assert len({one.run for one in factorial}) == len(factorial) == 16
    naive = Run(learning_rate=5e-3, steps=60)
    assert naive in [one.run for one in factorial] and label_of(naive).startswith("all rows, not preserved")
    others = [one for one in planned if one.group != "factorial"]
    assert len({one.run for one in planned}) == len(planned)
    assert {one.group for one in others} >= {"learning rate", "steps", "loss", "layers", "embeddings"}
    rates = {one.run.learning_rate for one in others}
    assert len(rates) == 3 and max(one.run.steps for one in others) == 180
    assert all({1.0, 15.0} <= set(one.scales) for one in planned)
    curves = [one for one in planned if len(one.scales) > 2]
    assert sorted(one.run.rows for one in curves) == ["all", "text"]


def test_more_training_seeds_replicate_the_factorial() -> None:
    planned = make_plan(5e-3, 60, 2.0, 15.0, (), 3)
    assert sum(one.group == "factorial" for one in planned) == 48
    assert len({one.run for one in planned}) == len(planned)


# Runs and pictures ----------------------------------------------------------------------------------------


def test_the_sheet_has_a_line_for_every_run() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (9, 3, 32, 48), generator=generator, dtype=torch.uint8)
    one = strip(pictures)
    with Image.open(io.BytesIO(one)) as image:
        assert image.size[0] >= SHOWN * SIDE and image.size[1] == SIDE
    with Image.open(io.BytesIO(draw_sheet(("x1", "x15"), [Line("original", (one, None))] * 5))) as image:
        assert image.size[1] > 5 * SIDE
        assert np.asarray(image.convert("RGB")).std() > 10


INTACT = {"flagged": {"n": 0, "N": 30}, "collapsed": False, "destroyed": False}


class StubReader:
    """Reads nothing; counts how often it was asked."""

    def __init__(self, model: Model) -> None:
        self.model = type("Handle", (), {"model": model})()
        self.asked: list[LoraEdit | None] = []

    def identity(self) -> dict[str, Any]:
        return {"stub": 1}

    def read(self, edit: LoraEdit | None) -> Reading:
        self.asked.append(edit)
        return Reading(dict(INTACT), torch.zeros(2, 3, 32, 32, dtype=torch.uint8))

    def again(self) -> dict[str, Any]:
        return dict(INTACT)


def test_a_finished_run_is_not_run_again(model: Model, tmp_path: Path) -> None:
    options = {"batch_size": 2, "preserve_batch": 2, "trajectories": 2}
    reader: Any = StubReader(model)
    begun = Runs(tmp_path, reader, CONCEPT, options)
    one = Planned("factorial", "naive", NAIVE, (1.0, 15.0))
    first, original = begun.run(one), begun.original()
    assert len(reader.asked) == 3 and set(first["readings"]) == {"1", "15"}
    weak, strong = reader.asked[0].tensors(), reader.asked[1].tensors()
    for name in weak:
        factor = 15.0 if "lora_B" in name else 1.0
        torch.testing.assert_close(strong[name], factor * weak[name])
    again = Runs(tmp_path, reader, CONCEPT, options)
    assert again.run(one) == json.loads(json.dumps(first)) and len(reader.asked) == 3
    assert (
        again.original()["parameters"]
        == original["parameters"]
        == sum(p.numel() for p in model.transformer.parameters())
    )
    assert all(data is not None for data in again.strips(one, (1.0, 15.0)))
    again.run(replace(one, run=replace(NAIVE, seed=5)))
    assert len(reader.asked) == 5
    for path in tmp_path.glob("run-*.json"):
        path.write_text("{ truncated")
    Runs(tmp_path, reader, CONCEPT, options).run(one)
    assert len(reader.asked) == 7


def diverging(model: Model, folder: Path, run: Run) -> tuple[Runs, Planned]:
    reader: Any = StubReader(model)
    found = Runs(folder, reader, CONCEPT, {"batch_size": 2, "preserve_batch": 2, "trajectories": 2})
    return found, Planned("learning rate", "a rate far too high", run, (1.0, 15.0))


def test_a_run_that_diverges_is_kept_and_shown(model: Model, tmp_path: Path) -> None:
    found, one = diverging(model, tmp_path, replace(NAIVE, steps=5, learning_rate=1e30))
    kept = found.run(one)
    assert "diverged" in kept["diverged"] and kept["steps"] < 5
    assert len(found.reader.asked) == 2 and set(kept["readings"]) == {"1", "15"}
    assert all(np.isfinite(value) for row in (kept["first"], kept["last"]) for value in row.values())
    assert Runs(tmp_path, found.reader, CONCEPT, found.training).run(one) == json.loads(json.dumps(kept))
    with Image.open(io.BytesIO(_sheet(found, [one], [{"run": one.run.describe(), **kept}], 15.0))) as image:
        assert image.size[1] > SIDE
    assert len(found.reader.asked) == 2


def test_a_run_without_one_finite_step_is_kept(model: Model, tmp_path: Path) -> None:
    found, one = diverging(model, tmp_path, NAIVE)
    found._bench = bench(model, trajectories=2)
    points = found._bench.points("erase", Convention())
    points.bank.velocities = points.bank.velocities * float("nan")
    kept = found.run(one)
    assert kept["steps"] == 0 and kept["first"] == kept["last"] == {}
    assert "erase is nan at step 0" in kept["diverged"] and len(list(tmp_path.glob("run-*.json"))) == 1


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(fine_tuning, "RANK", 4), (fine_tuning, "PRESERVE_WEIGHT", 0.5), (runs, "TOOLKIT_VERSION", 99)],
)
def test_other_constants_are_other_runs(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any
) -> None:
    found, one = diverging(model, tmp_path, NAIVE)
    before, original = found._config(one), found._config(None)
    monkeypatch.setattr(module, name, value)
    assert found._config(one) != before and found._config(None) == original


def test_options_of_the_study(tmp_path: Path) -> None:
    assert load_study("collapse") is collapse_study
    assert {"concept", "learning_rate", "steps", "released_scale"} <= set(study_options(collapse_study))
    with pytest.raises(UnknownNameError, match="no-such-concept"):
        collapse_study(tmp_path, concept="no-such-concept")
