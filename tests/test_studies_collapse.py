"""What makes naive fine-tuning collapse: conventions, plan, effects, words, and a small run of the whole."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zbench import training
from zbench.concepts import Concept
from zbench.edits import LoraEdit
from zbench.errors import UnknownNameError
from zbench.model import Model, load_model
from zbench.studies import load_study, study_options
from zbench.studies.collapse import collapse_study
from zbench.studies.collapse.conventions import Convention
from zbench.studies.collapse.effects import effects, scale_effect
from zbench.studies.collapse.page import render_page
from zbench.studies.collapse.plan import FACTORS, Planned, Run, label_of, make_plan
from zbench.studies.collapse.runs import Runs
from zbench.studies.collapse.sheet import SHOWN, SIDE, Line, draw_sheet, strip
from zbench.studies.collapse.training import Bench
from zbench.studies.collapse.verdicts import conclusions
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
    assert trained.diverged is not None and "diverged" in trained.diverged
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


# Effects and words ----------------------------------------------------------------------------------------


def settings_of(planned: list[Planned]) -> list[dict[str, Any]]:
    return [one.run.describe() for one in planned if one.group == "factorial"]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=5, max_size=5), st.integers(0, 1000))
def test_effects_are_differences_of_means(truth: list[float], seed: int) -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    noise = np.random.default_rng(seed).normal(0, 0.01, len(levels))
    values = [
        0.5
        + sum(t * (row[f] == FACTORS[f][1]) for t, f in zip(truth, FACTORS, strict=False))
        + float(noise[place])
        for place, row in enumerate(levels)
    ]
    found = {term["term"]: term for term in effects(levels, values)}
    assert set(found) >= set(FACTORS) and "rows x time" in found and len(found) == 10
    for factor, (_, suspected) in FACTORS.items():
        high = [v for v, row in zip(values, levels, strict=True) if row[factor] == suspected]
        low = [v for v, row in zip(values, levels, strict=True) if row[factor] != suspected]
        assert found[factor]["estimate"] == pytest.approx(np.mean(high) - np.mean(low), abs=1e-9)
        assert found[factor]["low"] < found[factor]["estimate"] < found[factor]["high"]


def test_an_interaction_is_found_where_it_is() -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    values = [float(row["rows"] == "all" and row["time"] == "released") for row in levels]
    values[0] += 0.01
    found = {term["term"]: term for term in effects(levels, values)}
    assert found["rows x time"]["estimate"] == pytest.approx(0.5, abs=0.01)
    assert found["rows x time"]["low"] > 0.4 and abs(found["preservation"]["estimate"]) < 0.01


def test_equal_runs_have_no_interval() -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    assert all(term["low"] is None and term["estimate"] == 0 for term in effects(levels, [0.25] * 16))
    assert scale_effect([0.0, 0.1], [0.5, 0.6])["low"] is None
    assert scale_effect([0.0, 0.1, 0.0], [0.5, 0.7, 0.6])["low"] > 0


def rate(n: int, total: int = 30) -> dict[str, Any]:
    return {"n": n, "N": total, "low": 0.0, "high": 1.0}


def reading(flagged: int, objects: int) -> dict[str, Any]:
    return {
        "found": {"car": {**rate(3, 20), "hits": [1] * 3 + [0] * 17}},
        "flagged": rate(flagged), "objects": rate(objects),
        "collapsed": flagged > 5, "destroyed": objects < 5, "reasons": [], "notes": [],
    }  # fmt: skip


def record(breaks: Any) -> dict[str, Any]:
    """A study in which `breaks(run, scale)` says which runs break."""
    rows = []
    for place, one in enumerate(make_plan(5e-3, 60, 2.0, 15.0, (), 1)):
        readings = {
            key: reading(20 if breaks(one.run, key) else place % 2, 28 - place % 3) for key in ("1", "15")
        }
        about = {"group": one.group, "label": one.label, "run": one.run.describe(), "diverged": None}
        rows.append({**about, "readings": readings, "first": {"erase": 3.0}, "last": {"erase": 1.0}})
    factorial = [row for row in rows if row["group"] == "factorial"]
    levels = [row["run"] for row in factorial]
    found: dict[str, Any] = {}
    for name in ("flagged", "objects", "success"):
        values = {
            key: [
                (r["readings"][key]["found"]["car"] if name == "success" else r["readings"][key][name])["n"]
                / 30
                for r in factorial
            ]
            for key in ("1", "15")
        }
        by_scale = {key: effects(levels, value) for key, value in values.items()}
        found[name] = {"by_scale": by_scale, "scale": scale_effect(values["1"], values["15"])}
    config = {
        "model": "m", "concept": "car", "protocol": "p v1", "explicit": 20, "unrelated": 30, "calibration": 9,
        "training": {"batch_size": 4, "trajectories": 16}, "released_scale": 15.0, "eta": 2.0,
        "steps": 60, "learning_rate": 5e-3,
    }  # fmt: skip
    original = {"reading": reading(0, 29), "again": reading(0, 29), "parameters": 2_000_000}
    return {"config": config, "original": original, "runs": rows, "effects": found}


def test_the_words_follow_the_figures() -> None:
    intact = " ".join(conclusions(record(lambda run, scale: False)))
    assert "0 of the 16" in intact and "No factor makes naive fine-tuning collapse here" in intact
    rows = conclusions(record(lambda run, scale: run.rows == "all" and scale == "1"))
    assert "8 of the 16" in rows[0] and "rows text 0 of 8, all 8 of 8" in rows[0]
    shared = next(row for row in rows if row.startswith("The paper's explanation"))
    assert "all rows nothing preserved collapsed" in shared and "text rows preserved neither" in shared
    assert "adapters on all rows instead of text rows" in rows[1]
    strong = conclusions(record(lambda run, scale: scale == "15"))
    assert "16 of the 16" in " ".join(strong) and "Multiplying the same trained adapters by 15" in strong[-2]


def test_the_page_shows_every_run_and_promises_nothing_about_the_large_model() -> None:
    found = record(lambda run, scale: run.rows == "all")
    page = render_page(found)
    for row in found["runs"]:
        assert page.count(f"| {row['label']} |") == 1
    assert "6,154,908,736" in page and "is not cleared" in page and "2,000,000" in page
    assert "sheet.png" in page and "scales.png" in page and "nan" not in page.lower().split()


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


class StubReader:
    """Reads nothing; counts how often it was asked."""

    def __init__(self, model: Model) -> None:
        self.model = type("Handle", (), {"model": model})()
        self.asked: list[LoraEdit | None] = []

    def identity(self) -> dict[str, Any]:
        return {"stub": 1}

    def read(self, edit: LoraEdit | None) -> Reading:
        self.asked.append(edit)
        return Reading(reading(0, 30), torch.zeros(2, 3, 32, 32, dtype=torch.uint8))

    def again(self) -> dict[str, Any]:
        return reading(0, 30)


def test_a_finished_run_is_not_run_again(model: Model, tmp_path: Path) -> None:
    options = {"batch_size": 2, "preserve_batch": 2, "trajectories": 2}
    reader: Any = StubReader(model)
    runs = Runs(tmp_path, reader, CONCEPT, options)
    one = Planned("factorial", "naive", NAIVE, (1.0, 15.0))
    first, original = runs.run(one), runs.original()
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


def test_options_of_the_study(tmp_path: Path) -> None:
    assert load_study("collapse") is collapse_study
    assert {"concept", "learning_rate", "steps", "released_scale"} <= set(study_options(collapse_study))
    with pytest.raises(UnknownNameError, match="no-such-concept"):
        collapse_study(tmp_path, concept="no-such-concept")
