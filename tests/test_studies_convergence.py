"""The convergence study: watching changes no weight, and verdicts say what the figures say."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from zbench_methods.zerase import ZErase

from tests.transcription import CONCEPT
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.model import Model
from zbench.statistics import difference_of_rates
from zbench.studies.convergence import convergence_study, theorems, trade_offs
from zbench.studies.convergence.claim import Statement
from zbench.studies.convergence.comparing import (
    SUCCESS_MARGIN,
    Change,
    agreement,
    as_good_as,
    course,
    loss_change,
    narrowest,
    significant,
    success_change,
)
from zbench.studies.convergence.noise import Noise, Spread, measure_noise
from zbench.studies.convergence.plan import ABLATION, Grid, Watch, make_plan
from zbench.studies.convergence.plot import plot_proxy
from zbench.studies.convergence.study import ADAMW, SGD, brief
from zbench.studies.convergence.theorems import (
    judge_drift,
    judge_proxy,
    judge_stationarity,
    running_minimum,
    same_points_drift,
)
from zbench.studies.convergence.trade_offs import (
    PARTS,
    judge_adaptive,
    judge_beta,
    judge_epsilon,
    judge_implicit,
    judge_part,
)
from zbench.studies.convergence.trainings import Trainings, WatchedTraining, tail_of
from zbench.studies.convergence.watching import Watched, train_watched
from zbench.training import LagrangianModulation

SMALL: dict[str, Any] = {
    "steps": 4, "batch_size": 2, "preserve_batch": 2, "trajectories": 2, "preserve_trajectories": 2,
    "rank": 2, "learning_rate": 0.1, "optimiser": "sgd", "weight_decay": 0.0, "beta": 0.5, "epsilon": 1e-4,
}  # fmt: skip


# Watching ----------------------------------------------------------------------------------------------


def test_watching_changes_no_weight(tiny_model: Model) -> None:
    plain = ZErase(**SMALL, trace_gradients=2).erase(tiny_model, CONCEPT).trace
    watched = train_watched(ZErase(**SMALL), Watch(every=2), tiny_model, CONCEPT)
    for before, after in zip(plain, watched, strict=True):
        kept = {key: value for key, value in before.items() if not key.startswith("evaluations")}
        assert kept.items() <= after.items(), "the same training, bit for bit"
    assert [row["step"] for row in watched if "probe" in row] == [0, 2, 3]
    assert all(row["curvature"] > 0 for row in watched)


def test_same_points_and_diminishing_steps(tiny_model: Model) -> None:
    still = {**SMALL, "learning_rate": 1e-7}
    same = train_watched(ZErase(**still), Watch(same_points=True), tiny_model, CONCEPT)
    fresh = train_watched(ZErase(**still), Watch(), tiny_model, CONCEPT)
    assert len({round(row["erase"], 4) for row in same}) == 1 < len({round(row["erase"], 4) for row in fresh})
    shrinking = train_watched(ZErase(**SMALL), Watch(share=0.5, decay=1.0), tiny_model, CONCEPT)
    for step, row in enumerate(shrinking):
        assert row["learning_rate"] == pytest.approx(0.05 / (step + 1))
        proxy = (row["preserve"] - row["preserve_after"]) / row["learning_rate"] + 1e-4
        assert row["constraint_proxy"] == pytest.approx(proxy)
        assert row["direction_norm"] == pytest.approx(row["gradient_norm"], rel=1e-2)


class Bowl:
    """An objective whose preservation loss is a quadratic with known curvature."""

    def __init__(self) -> None:
        self.theta = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
        self.hessian = torch.diag(torch.tensor([0.5, 4.0, 1.0]))
        bank = SimpleNamespace(draw=lambda source, batch: None)
        self.preservation = SimpleNamespace(bank=bank, loss=self.loss)
        self.generator = torch.Generator()
        self.modulation = SimpleNamespace(learning_rate=0.0)
        self.method = SimpleNamespace(preserve_batch=1)

    def loss(self, draw: object) -> Tensor:
        return 0.5 * self.theta @ self.hessian @ self.theta

    def gradients(self) -> dict[str, float]:
        return {}

    def after_step(self) -> dict[str, float]:
        return {}


def test_power_iteration_finds_the_largest_curvature() -> None:
    bowl = Bowl()
    edit: Any = SimpleNamespace(parameters=lambda: [bowl.theta])
    method: Any = SimpleNamespace(learning_rate=0.1, steps=1)
    watched = Watched(bowl, edit, Watch(), method)
    few = Watched(bowl, edit, Watch(rounds=1), method)
    watched.gradients()
    few.gradients()
    with torch.no_grad():
        bowl.theta += torch.tensor([0.1, 0.001, 0.1])
    before = bowl.theta.detach().clone()
    row = watched.after_step()
    assert 3.9 < row["curvature"] <= 4.0 + 1e-3 and torch.equal(bowl.theta, before)
    assert row["probe"] == pytest.approx(bowl.loss(None).item())
    assert few.curvature() < 3, "one round has not turned to the steepest direction yet"


@pytest.mark.parametrize(("checks", "at"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9])])
def test_the_watch_says_how_often_curvature_is_looked_for(checks: int, at: list[int]) -> None:
    bowl = Bowl()
    edit: Any = SimpleNamespace(parameters=lambda: [bowl.theta])
    method: Any = SimpleNamespace(learning_rate=0.1, steps=10)
    watched, found = Watched(bowl, edit, Watch(checks=checks), method), []
    for step in range(10):
        watched.gradients()
        found += [step] if "curvature" in watched.after_step() else []
    assert found == at


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_the_drift_is_bounded_by_its_two_terms(losses: list[float], epsilon: float) -> None:
    """On fixed points L_pr <= t epsilon alpha + (alpha / beta) lambda_t whatever the losses do."""
    alpha, beta = 0.25, 0.5
    modulation = LagrangianModulation("implicit", beta, epsilon, alpha)
    trace, before = [], 0.0
    for after in losses:
        row = {"multiplier": modulation.value, "preserve_after": after, "learning_rate": alpha}
        trace.append({**row, "constraint_proxy": modulation.proxy(before, after)})
        modulation.update_implicit(before, after)
        before = after
    terms = same_points_drift(trace, {"beta": beta, "epsilon": epsilon})
    assert terms["alpha_over_beta_lambda"] == pytest.approx(alpha / beta * modulation.value)
    assert terms["drift"] <= terms["t_epsilon_alpha"] + terms["alpha_over_beta_lambda"] + 1e-9


# The plan ----------------------------------------------------------------------------------------------


def test_the_plan_is_made_of_settings_that_zerase_knows() -> None:
    grid = Grid(
        steps=5, long_steps=7, seeds=3, beta_factors=(0.1, 1), multipliers=(0, 1, 10), shares=(1.0, 0.5)
    )
    plan = make_plan([ADAMW, SGD], grid)
    assert len(plan.trials) == (6 + 2 + 1 + 1 + 3) + 5 + (5 + 2 + 1 + 1 + 3)
    assert len(plan.watched) == 2 * (2 + 1 + 1)
    assert plan.repeated["sgd"] == ("sgd implicit", "sgd exact", "sgd fixed 10")
    assert set(plan.repeated["adamw"]) < plan.trials.keys()
    for settings in [*plan.trials.values(), *(settings for settings, _ in plan.watched.values())]:
        assert ZErase.of(settings).supports(CONCEPT) is None
    assert plan.watched["sgd diminishing"][0]["steps"] == 7
    alone = plan.trials["adamw parts L_attn + L_pr"]
    assert alone["erase_weight"] == 0 and alone["optimiser"] == "adamw"
    assert len({json.dumps(plan.trials[f"adamw parts {row}"]) for row, _ in ABLATION}) == 5


def test_losses_at_the_end_are_means_of_the_last_fifth() -> None:
    trace = [{"step": float(k), "erase": float(k), "multiplier": 1.0, "evaluations": 5.0} for k in range(10)]
    assert tail_of(trace) == {"last_erase": 8.5, "last_multiplier": 1.0, "evaluations": 5.0}
    trace[4]["violation"], trace[7]["violation"] = 1.0, 0.5
    assert tail_of(trace)["violation"] == 0.75


# Verdicts ----------------------------------------------------------------------------------------------


def step_of(error: float, curvature: float = 2.0) -> dict[str, float]:
    """A step of length 1 at alpha 0.1: the bound is 0.1 times the curvature over 2."""
    return {
        "constraint": -0.5, "constraint_proxy": -0.5 - error, "direction_norm": 1.0, "learning_rate": 0.1,
        "preserve": 0.0, "preserve_after": 0.0, "curvature": curvature,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.01, 0.09], "holds"),
        ([0.05] * 19 + [0.2], "undecided"),
        ([0.2, 0.2, 0.2], "undecided"),
        ([], "undecided"),
    ],
)
def test_the_proxy_is_supported_but_never_refuted(errors: Sequence[float], verdict: str) -> None:
    """G as found bounds the true one from below: outside the bound that it makes means nothing."""
    claim = judge_proxy("sgd", {"1": [step_of(error) for error in errors]})
    assert claim.verdict == verdict
    if errors:
        row = claim.figures["by_step_length"]["1"]
        assert row["same_sign"] == 1 and row["G"] == 2 and row["steps"] == len(errors)


@pytest.mark.parametrize("curvature", [0.0, math.nan, math.inf])
def test_without_a_lipschitz_constant_the_proxy_stays_undecided(curvature: float) -> None:
    good, bad = [step_of(0.01)], [step_of(0.01, curvature), step_of(0.0, curvature)]
    for traces in ({"1": bad}, {"1": good, "0.5": bad}):
        claim = judge_proxy("sgd", traces)
        assert claim.verdict == "undecided" and "no step counts" in claim.because
        json.dumps(claim.figures, allow_nan=False)
    assert plot_proxy({"sgd": {"1": bad}}).startswith(b"\x89PNG")


def run_of(
    found: int = 10, loss: float = 0.01, asked: int = 60, collapsed: bool = False, **settings: Any
) -> dict[str, Any]:
    """An erasure whose first so many prompts show the concept."""
    values = {"steps": 10, "learning_rate": 0.1, "epsilon": 1e-3, "beta": 0.1, "multiplier": 0.0, **settings}
    return {
        "found": found, "asked": asked, "success": found / asked, "last_preserve": loss, "clip_score": 25.0,
        "last_multiplier": 1.0, "settings": values, "collapsed": collapsed, "status": "done",
        "hits": tuple(int(k < found) for k in range(asked)), "prompts": tuple(f"p{k}" for k in range(asked)),
    }  # fmt: skip


NOISE = Noise(Spread(0.1, 6), Spread(0.05, 4))
"""Two losses differ from a factor of 1.15 on, if they are the only ones."""


def fixed_points() -> list[dict[str, float]]:
    row = {"multiplier": 0.0, "constraint_proxy": 0.1, "learning_rate": 0.1}
    return [{**row, "step": float(k), "preserve_after": 1e-4 * (k + 1)} for k in range(8)]


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ((5e-5, 5e-4, 5e-3), "holds"),
        ((9e-5, 9e-4, 9e-3), "undecided"),
        ((0.05, 0.05, 0.06), "does not hold"),
        ((1.1e-3, 1.1e-3, 1.1e-3), "undecided"),
        ((5e-4, 5e-3, 5e-2), "undecided"),
    ],
)
def test_drift_needs_one_constant_for_all_slacks(losses: Sequence[float], verdict: str) -> None:
    runs = [run_of(loss=loss, epsilon=eps) for loss, eps in zip(losses, (1e-4, 1e-3, 1e-2), strict=True)]
    claim = judge_drift("sgd", runs, fixed_points(), {"beta": 0.1, "epsilon": 1e-3}, NOISE)
    assert claim.verdict == verdict
    blind = judge_drift("sgd", runs, fixed_points(), {"beta": 0.1, "epsilon": 1e-3}, Noise())
    assert blind.verdict == "undecided", "nobody knows the noise"
    assert claim.figures["slope_in_t"] == pytest.approx(1.0)
    assert claim.figures["same_points"]["t_epsilon_alpha"] == pytest.approx(8e-4)


@pytest.mark.parametrize(("power", "verdict"), [(0.5, "holds"), (0.3, "undecided"), (0.02, "does not hold")])
def test_stationarity_asks_for_the_rate(power: float, verdict: str) -> None:
    """With steps of equal length min ||d||^2 sum alpha = t^(1 - 2 power): steady from power 1/2 on."""
    lengths = [(step + 1.0) ** -power for step in range(64)]
    rows = [{"direction_norm": x, "gradient_norm": x, "learning_rate": 0.1} for x in lengths]
    claim = judge_stationarity("sgd", rows)
    assert claim.verdict == verdict
    assert claim.figures["growth"] == pytest.approx((64 / 33) ** (1 - 2 * power))
    assert running_minimum([3.0, 1.0, 2.0]) == [3.0, 1.0, 1.0]


def test_a_training_that_does_not_move_says_nothing_about_stationarity() -> None:
    still = [{"direction_norm": 0.0, "gradient_norm": 0.0, "learning_rate": 0.1}] * 4
    assert judge_stationarity("sgd", still).verdict == "undecided"


# Noise -------------------------------------------------------------------------------------------------


def test_noise_is_taken_from_training_seeds() -> None:
    """Seeds shift all trials alike (a factor of 2) and each by itself (10 %): the ratio knows the latter."""
    source = np.random.default_rng(0)
    seeds = np.exp(source.normal(0, math.log(2), 400))
    table = {
        name: mean * seeds * np.exp(source.normal(0, 0.1, 400))
        for name, mean in zip("abc", (1, 5, 9), strict=True)
    }
    noise = measure_noise({name: row.tolist() for name, row in table.items()})
    assert noise.level.deviation == pytest.approx(math.hypot(math.log(2), 0.1), rel=0.05)
    assert noise.ratio.deviation == pytest.approx(0.1 * math.sqrt(2), rel=0.05)
    assert (noise.level.freedom, noise.ratio.freedom) == (3 * 399, 2 * 399)


def test_the_factor_is_what_chance_exceeds_in_five_of_a_hundred() -> None:
    """By the t distribution, since the spread is itself estimated: three seeds, two trials."""
    source, beyond = np.random.default_rng(1), 0
    for _ in range(400):
        losses = np.exp(source.normal(0, 0.3, (2, 4)))
        noise = measure_noise({"a": losses[0, :3].tolist(), "b": losses[1, :3].tolist()})
        apart = abs(math.log(losses[0, 3] / losses[1, 3]))
        beyond += apart > math.log(noise.ratio.factor())
        assert (noise.ratio.p_value(apart) < 0.05) == (apart > math.log(noise.ratio.factor()))
    assert 0.02 < beyond / 400 < 0.09


def test_noise_that_was_not_measured_shows_nothing() -> None:
    for losses in ({}, {"a": [0.1]}, {"a": [0.1], "b": [0.2]}):
        noise = measure_noise(losses)
        assert noise.ratio.factor() == math.inf and noise.ratio.p_value(9.0) == 1.0
        json.dumps(noise.describe(), allow_nan=False)
    assert measure_noise({"a": [0.1, 0.2]}).level.freedom == 1
    assert measure_noise({"a": [0.0, 0.0], "b": [0.0, 0.0]}).ratio.p_value(0.0) == 1.0
    same = measure_noise({"a": [0.1, 0.1, 0.1], "b": [0.1, 0.1, 0.1]})
    assert course([run_of(loss=0.1), run_of(loss=0.105)], loss_change(same)) == "flat", "agreed by accident"
    assert course([run_of(loss=0.001), run_of(loss=1.0)], loss_change(Noise())) == "flat"
    assert agreement([run_of(), run_of()], Noise()).verdict == "undecided"


# Comparing ---------------------------------------------------------------------------------------------


def courses(found: Sequence[int], losses: Sequence[float]) -> tuple[str, str]:
    runs = [run_of(n, loss) for n, loss in zip(found, losses, strict=True)]
    return course(runs, success_change), course(runs, loss_change(NOISE))


def test_courses() -> None:
    assert courses((20, 21, 19), (1.0, 1.1, 1.05)) == ("flat", "flat")
    assert courses((10, 20, 40), (1.0, 1.25, 1.5)) == ("rises", "rises"), "small steps add up"
    assert courses((40, 10), (3.0, 1.0)) == ("falls", "falls")
    assert courses((10, 40, 10), (1.0, 2.0, 1.0)) == ("mixed", "mixed")


def test_comparisons_are_corrected_for_their_number() -> None:
    """Six prompts that one finds and the other does not: p = 1/32, enough for one pair and not for 15."""
    six = [run_of(10), *(run_of(10) for _ in range(4)), run_of(16)]
    assert course([six[0], six[-1]], success_change) == "rises"
    assert course(six, success_change) == "flat"
    assert significant([Change(1, 0.03)]) == [1] and significant([Change(1, 0.03)] * 15) == [0] * 15
    assert significant([]) == []


def test_the_pictures_of_a_prompt_are_paired() -> None:
    """The same two rates: 20 and 28 of 60, once with nested hits, once with others."""
    first, nested = run_of(20), run_of(28)
    other = {**nested, "hits": tuple(reversed(nested["hits"]))}
    assert success_change(first, nested).p_value == pytest.approx(2 / 2**8)
    assert success_change(first, other).p_value > 0.1
    with pytest.raises(ValueError, match="different prompts"):
        success_change(first, {**nested, "prompts": tuple(reversed(nested["prompts"]))})


def test_a_broken_generator_erases_nothing() -> None:
    assert success_change(run_of(40), run_of(2)).sign == -1
    assert success_change(run_of(40), run_of(2, collapsed=True)) == Change(0, 1.0)
    assert success_change(run_of(2, collapsed=True), run_of(40)) == Change(0, 1.0)
    assert not as_good_as(run_of(2, collapsed=True), run_of(40), NOISE)


def test_as_good_needs_the_whole_interval() -> None:
    assert as_good_as(run_of(10), run_of(10), NOISE) and as_good_as(run_of(2), run_of(40), NOISE)
    assert not as_good_as(run_of(14), run_of(10), NOISE), (
        "not significantly worse, and not shown to be as good"
    )
    assert success_change(run_of(14), run_of(10)).p_value > 0.05
    assert not as_good_as(run_of(10, 0.019), run_of(10, 0.01), NOISE)
    assert as_good_as(run_of(10, 0.015), run_of(10, 0.01), NOISE)


def test_few_prompts_cannot_show_that_rates_are_alike() -> None:
    assert narrowest(24) > SUCCESS_MARGIN > narrowest(26)
    assert agreement([run_of(asked=24), run_of(asked=24)], NOISE).verdict == "undecided"
    same = difference_of_rates([True] * 24, [True] * 24).interval
    assert same is not None and same.high == pytest.approx(narrowest(24))


# Verdicts about results --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "losses", "verdict"),
    [
        ((50, 30, 5), (0.001, 0.01, 0.1), "holds"),
        ((30, 30, 29), (0.001, 0.01, 0.1), "undecided"),
        ((30, 30, 29), (0.01, 0.01, 0.01), "undecided"),
        ((50, 30, 5), (0.01, 0.01, 0.01), "undecided"),
        ((5, 30, 50), (0.001, 0.01, 0.1), "does not hold"),
        ((30, 30, 29), (0.1, 0.01, 0.001), "does not hold"),
        ((50, 5, 50), (0.001, 0.01, 0.1), "does not hold"),
    ],
)
def test_epsilon(found: Sequence[int], losses: Sequence[float], verdict: str) -> None:
    rows = zip(found, losses, (1e-3, 1e-2, 1e-1), strict=True)
    claim = judge_epsilon("sgd", [run_of(n, loss, epsilon=eps) for n, loss, eps in rows], NOISE)
    assert claim.verdict == verdict


@pytest.mark.parametrize(
    ("found", "losses", "verdict"),
    [
        ((30, 30), (0.01, 0.012), "holds"),
        ((30, 25), (0.01, 0.012), "undecided"),
        ((30, 30), (0.01, 0.019), "undecided"),
        ((30, 30), (0.01, 0.021), "undecided"),
        ((30, 30), (0.01, 0.05), "does not hold"),
        ((30, 23), (0.01, 0.01), "undecided"),
        ((55, 5), (0.01, 0.01), "does not hold"),
    ],
)
def test_not_different_is_not_the_same(found: Sequence[int], losses: Sequence[float], verdict: str) -> None:
    pairs = list(zip(found, losses, (0.1, 1.0), strict=True))
    runs = [run_of(n, loss, beta=beta) for n, loss, beta in pairs]
    assert judge_beta("sgd", runs, NOISE).verdict == verdict
    assert judge_implicit("sgd", *runs, NOISE).verdict == verdict


def test_a_single_beta_shows_nothing() -> None:
    assert judge_beta("sgd", [run_of()], NOISE).verdict == "undecided"


@pytest.mark.parametrize(
    ("fixed", "verdict"),
    [
        ([run_of(10, 0.1), run_of(40, 0.01)], "holds"),
        ([run_of(10, 0.1), run_of(10, 0.01)], "undecided"),
        ([run_of(10, 0.1), run_of(2, 0.1)], "undecided"),
        ([run_of(14, 0.1)], "holds"),
        ([run_of(6, 0.1)], "undecided"),
        ([run_of(10, 0.001)], "does not hold"),
        ([run_of(10, 0.001, collapsed=True)], "undecided"),
        ([run_of(10, 0.1), run_of(1, 0.01)], "does not hold"),
        ([], "undecided"),
    ],
)
def test_adapting_holds_only_if_it_wins_against_every_fixed_one(
    fixed: list[dict[str, Any]], verdict: str
) -> None:
    assert judge_adaptive("sgd", run_of(10, 0.01), fixed, NOISE).verdict == verdict


def test_parts() -> None:
    found = dict(zip((name for name, _ in ABLATION), (30, 5, 50, 60, 15), strict=True))
    losses = dict(zip(found, (0.1, 0.1, 0.01, 0.001, 0.02), strict=True))
    rows = {name: run_of(found[name], losses[name]) for name in found}

    def verdicts() -> list[str]:
        return [judge_part("adamw", part, rows, NOISE).verdict for part in PARTS]

    assert verdicts() == ["holds", "holds", "holds"]
    rows["L_erase + L_attn"] = run_of(60, 0.02)
    assert verdicts() == ["does not hold", "undecided", "holds"]
    rows["L_erase + L_pr"] = run_of(50, 0.1)
    assert verdicts()[1] == "undecided", "no loss falls and none rises"
    rows["all three"] = run_of(50, 0.05)
    assert verdicts()[1] == "does not hold", "a loss rises"


# The whole study ---------------------------------------------------------------------------------------


class FakeTrainings:
    """Trainings by formula."""

    diverging: tuple[str, ...] = ()
    handle = None

    def __init__(self, folder: Path, model: str, method: str, concept: str, prompts: int | None) -> None:
        self.method, self.concept = method, concept

    def config(self) -> dict[str, Any]:
        return {"method": self.method, "concept": self.concept, "model": {"name": "fake"}}

    def original_clip(self) -> float:
        return 26.0

    def check(self, settings: dict[str, Any]) -> None:
        ZErase.of(settings)

    def watched(self, settings: dict[str, Any], watch: Watch) -> WatchedTraining:
        if "watched" in self.diverging:
            return WatchedTraining([], "preserve is nan at step 3")
        rows = []
        for step in range(settings["steps"]):
            length = 1.0 / (step + 1)
            more = {"step": float(step), "gradient_norm": length, "multiplier": 0.0}
            moved = {"direction_norm": length, "preserve_after": 1e-4 * (step + 1)}
            rows.append({**step_of(1e-3 * length), **more, **moved})
        return WatchedTraining(rows)

    def measured(self, settings: dict[str, Any], training_seed: int = 0) -> dict[str, Any]:
        if settings["optimiser"] in self.diverging or str(settings["epsilon"]) in self.diverging:
            return {"status": "failed", "settings": settings, "reason": "TrainingDivergedError: a | b"}
        run = run_of(12, settings["epsilon"] * (1 + 0.1 * training_seed), **settings)
        more = {"success_interval": (0.3, 0.7), "objects": None, "collapsed": False, "evaluations": 5.0}
        return {**run, **more, "trace": [{"step": 0.0, "erase": 1.0}]}


def studied(
    out: Path, monkeypatch: pytest.MonkeyPatch, *diverging: str, drawn: bool = False, **options: Any
) -> dict[str, Any]:
    """A study of fake trainings; its page is checked, and its pictures where they are drawn."""
    if not drawn:  # they take most of the time
        monkeypatch.setattr("zbench.studies.convergence.findings.Findings.pictures", lambda self: {})
    monkeypatch.setattr("zbench.studies.convergence.study.Trainings", FakeTrainings)
    monkeypatch.setattr(FakeTrainings, "diverging", diverging)
    convergence_study(out, "fake", steps=12, long_steps=16, **options)
    record: dict[str, Any] = json.loads((out / "study.json").read_text())
    page = (out / "study.md").read_text()
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1, "a cell holds a bar"
    for name in ("proxy", "drift", "stationarity", "trade-offs", "plane", "traces"):
        assert f"({name}.png)" in page
        assert not drawn or (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for claim in record["claims"]:
        assert claim["says"] in page and claim["because"].replace("|", "/") in page
    return record


def test_the_study_writes_a_page_with_every_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    record = studied(
        tmp_path, monkeypatch, drawn=True, progress=lambda done, total: told.append((done, total))
    )
    assert told[-1][0] == told[-1][1] == len(told) == len(record["trials"]) + 8 + 2 * 3 * 2
    assert len(record["claims"]) == 7 * 2 + 3 and record["lost"] == {}
    assert all("trace" not in run and run["hits"] == "1" * 12 + "0" * 48 for run in record["trials"].values())
    assert len(record["config"]["prompts"]) == 60
    for noise in record["noise"].values():
        assert len(noise["losses"]) == 3 and all(len(some) == 3 for some in noise["losses"].values())
        assert noise["level"]["deviation"] == pytest.approx(0.0913, rel=0.05)


def by_claim(record: dict[str, Any], optimiser: str) -> dict[str, dict[str, Any]]:
    return {claim["name"]: claim for claim in record["claims"] if claim["optimiser"] == optimiser}


def test_one_diverging_training_leaves_the_other_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = studied(tmp_path, monkeypatch, "10.0")
    assert list(record["lost"]) == ["adamw epsilon 10"]
    claims = by_claim(record, "adamw")
    lost = {name for name, claim in claims.items() if "gave no figures" in claim["because"]}
    assert lost == {"drift", "epsilon"}
    assert all(claims[name]["verdict"] == "undecided" for name in lost)
    assert "adamw epsilon 10 gave no figures: TrainingDivergedError" in claims["epsilon"]["because"]
    assert claims["beta"]["verdict"] == by_claim(record, "sgd")["beta"]["verdict"] == "holds"
    assert record["trials"]["adamw epsilon 10"]["status"] == "failed"


def test_without_repeats_nothing_is_said_about_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = studied(tmp_path, monkeypatch, seeds=1)
    verdicts = {name: claim["verdict"] for name, claim in by_claim(record, "sgd").items()}
    assert verdicts["proxy error"] == verdicts["stationarity"] == "holds"
    assert {verdicts[name] for name in ("drift", "epsilon", "beta", "implicit against exact")} == {
        "undecided"
    }
    assert "the noise could not be measured" in (tmp_path / "study.md").read_text()


def test_diverging_watches_and_a_whole_optimiser_are_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = studied(tmp_path, monkeypatch, "adamw", "watched", drawn=True, optimisers=("sgd", "adamw"))
    assert {claim["verdict"] for claim in by_claim(record, "adamw").values()} == {"undecided"}
    assert record["noise"]["adamw"]["losses"] == {} and record["noise"]["adamw"]["ratio"]["factor"] is None
    assert by_claim(record, "sgd")["beta"]["verdict"] == "holds"
    with pytest.raises(ConfigurationError, match="Not one of 36 erasures"):
        studied(tmp_path, monkeypatch, "adamw", "sgd")


def test_few_prompts_are_named_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTrainings, "measured", lambda *_: {
        **run_of(12, asked=24), "success_interval": (0.3, 0.7), "objects": None, "evaluations": 5.0,
        "trace": [{"step": 0.0, "erase": 1.0}],
    })  # fmt: skip
    record = studied(tmp_path, monkeypatch)
    assert by_claim(record, "sgd")["beta"]["verdict"] == "undecided"
    assert "more prompts are needed" in (tmp_path / "study.md").read_text()


def test_hits_are_kept_as_digits() -> None:
    kept = brief({**run_of(1, asked=3), "trace": []})
    assert kept["hits"] == "100" and kept.keys().isdisjoint({"trace", "prompts"})
    assert "hits" not in brief({"status": "failed", "reason": "why"})


def test_every_statement_has_its_own_name() -> None:
    statements = [value for module in (theorems, trade_offs) for value in vars(module).values()
                  if isinstance(value, Statement)]  # fmt: skip
    statements += [part.statement for part in PARTS]
    assert len({one.name for one in statements} | {one.says for one in statements}) == 2 * len(statements)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimisers": ("adam",)}, "adam"),
        ({"optimisers": ()}, "optimisers"),
        ({"scales": {"sgd": {"alpha": 1.0}}}, "alpha"),
        ({"scales": {"sgd": {"beta": 0}}}, r"scales\.sgd\.beta"),
        ({"scales": {"sgd": {"epsilons": [0.1]}}}, "epsilons"),
        ({"scales": {"sgd": {"learning_rate": "fast"}}}, "learning_rate"),
        ({"scales": {"rmsprop": {"beta": 1}}}, "rmsprop"),
        ({"scales": {"sgd": 3}}, "scales"),
        ({"scales": "sgd"}, "scales"),
        ({"beta_factors": []}, "beta_factors"),
        ({"beta_factors": (1.0, -1.0)}, "beta_factors"),
        ({"multipliers": ()}, "multipliers"),
        ({"shares": 3}, "shares"),
        ({"steps": "abc"}, "steps"),
        ({"seeds": 0}, "seeds"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_trained(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigurationError, UnknownNameError), match=message) as caught:
        convergence_study(tmp_path / "out", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


# Real trainings ----------------------------------------------------------------------------------------


def test_what_diverges_is_recorded(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, str(tiny_pipeline_folder), "zerase", "violence", 1)
    wild = {**SMALL, "steps": 2, "learning_rate": 3e38}
    trainings.check(wild)
    watched = trainings.watched(wild, Watch())
    assert watched.trace == [] and "at step" in (watched.reason or "")
    assert trainings.watched(wild, Watch()) == watched, "found again"
    run = trainings.measured(wild)
    assert run["status"] == "failed" and "TrainingDivergedError" in run["reason"]
    assert run["settings"] == wild and "\n" not in run["reason"]


def test_the_watch_is_part_of_what_a_watched_training_is(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, str(tiny_pipeline_folder), "zerase", "violence", 1)
    for watch in (Watch(), Watch(probes=2), Watch(checks=2), Watch(rounds=1)):
        assert trainings.watched({**SMALL, "steps": 2}, watch).reason is None
    assert len(list((tmp_path / "watched").iterdir())) == 4


def test_a_concept_that_the_method_cannot_erase_is_refused_at_once(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    trainings = Trainings(tmp_path, str(tiny_pipeline_folder), "zerase", "violence", 1)
    with pytest.raises(ConfigurationError, match="nothing would be erased"):
        trainings.check({**SMALL, "erase_weight": 0.0, "attention_weight": 0.0})
    with pytest.raises(ConfigurationError, match="does not train as zerase does"):
        Trainings(tmp_path, str(tiny_pipeline_folder), "uce", "violence", 1).check(SMALL)
