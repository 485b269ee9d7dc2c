"""The convergence study: watching changes no weight, and verdicts say what the figures say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from zbench_methods.zerase import ZErase

from tests.transcription import CONCEPT
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.studies.convergence import convergence_study
from zbench.studies.convergence.bench import tail_of
from zbench.studies.convergence.plan import ABLATION, Watch, make_plan
from zbench.studies.convergence.study import ADAMW, SGD
from zbench.studies.convergence.theorems import (
    judge_drift,
    judge_proxy,
    judge_stationarity,
    running_minimum,
    same_points_drift,
)
from zbench.studies.convergence.trade_offs import (
    as_good_as,
    course,
    differs,
    judge_adaptive,
    judge_beta,
    judge_epsilon,
    judge_implicit,
    judge_parts,
)
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
    watched.gradients()
    with torch.no_grad():
        bowl.theta += torch.tensor([0.1, 0.001, 0.1])
    before = bowl.theta.detach().clone()
    row = watched.after_step()
    assert 3.9 < row["curvature"] <= 4.0 + 1e-3 and torch.equal(bowl.theta, before)
    assert row["probe"] == pytest.approx(bowl.loss(None).item())


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
    plan = make_plan(
        [ADAMW, SGD],
        steps=5,
        long_steps=7,
        beta_factors=(0.1, 1.0),
        multipliers=(0.0, 1.0),
        shares=(1.0, 0.5),
    )
    assert len(plan.trials) == (6 + 2 + 1 + 1 + 2) + 5 + (5 + 2 + 1 + 1 + 2)
    assert len(plan.watched) == 2 * (2 + 1 + 1)
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
        ([0.05, 0.2], "does not hold"),
        ([], "undecided"),
    ],
)
def test_the_proxy_is_judged_step_by_step(errors: Sequence[float], verdict: str) -> None:
    claim = judge_proxy("sgd", {"1": [step_of(error) for error in errors]})
    assert claim.verdict == verdict
    if errors:
        row = claim.figures["by_step_length"]["1"]
        assert row["same_sign"] == 1 and row["G"] == 2 and row["steps"] == len(errors)


def run_of(found: int = 10, loss: float = 0.01, asked: int = 24, **settings: Any) -> dict[str, Any]:
    values = {"steps": 10, "learning_rate": 0.1, "epsilon": 1e-3, "beta": 0.1, "multiplier": 0.0, **settings}
    return {
        "found": found, "asked": asked, "success": found / asked, "last_preserve": loss, "clip_score": 25.0,
        "last_multiplier": 1.0, "settings": values,
    }  # fmt: skip


def fixed_points() -> list[dict[str, float]]:
    row = {"multiplier": 0.0, "constraint_proxy": 0.1, "learning_rate": 0.1}
    return [{**row, "step": float(k), "preserve_after": 1e-4 * (k + 1)} for k in range(8)]


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [((1e-4, 1e-3, 1e-2), "holds"), ((0.05, 0.05, 0.06), "does not hold"), ((5e-4, 5e-3, 5e-2), "undecided")],
)
def test_drift_needs_one_constant_for_all_slacks(losses: Sequence[float], verdict: str) -> None:
    runs = [run_of(loss=loss, epsilon=eps) for loss, eps in zip(losses, (1e-4, 1e-3, 1e-2), strict=True)]
    claim = judge_drift("sgd", runs, fixed_points(), {"beta": 0.1, "epsilon": 1e-3})
    assert claim.verdict == verdict
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


def test_courses() -> None:
    assert course([1.0, 1.1, 1.05], 0.15) == "flat"
    assert course([1.0, 1.1, 1.2, 1.3], 0.15) == "rises", "small steps add up"
    assert course([3.0, 1.0], 0.15) == "falls"
    assert course([1.0, 2.0, 1.0], 0.15) == "mixed"


def test_success_rates_differ_only_beyond_noise() -> None:
    assert differs(run_of(0), run_of(10)) and not differs(run_of(9), run_of(12))
    assert as_good_as(run_of(12, 0.011), run_of(10, 0.01)) and not as_good_as(
        run_of(10, 0.02), run_of(10, 0.01)
    )


@pytest.mark.parametrize(
    ("found", "losses", "verdict"),
    [
        ((20, 12, 2), (0.001, 0.01, 0.1), "holds"),
        ((12, 12, 11), (0.001, 0.01, 0.1), "undecided"),
        ((12, 12, 11), (0.01, 0.01, 0.01), "does not hold"),
        ((2, 12, 20), (0.001, 0.01, 0.1), "does not hold"),
    ],
)
def test_epsilon(found: Sequence[int], losses: Sequence[float], verdict: str) -> None:
    rows = zip(found, losses, (1e-3, 1e-2, 1e-1), strict=True)
    assert judge_epsilon("sgd", [run_of(n, loss, epsilon=eps) for n, loss, eps in rows]).verdict == verdict


@pytest.mark.parametrize(
    ("found", "losses", "verdict"),
    [
        ((12, 11), (0.01, 0.012), "holds"),
        ((12, 11), (0.01, 0.02), "undecided"),
        ((12, 11), (0.01, 0.05), "does not hold"),
        ((24, 2), (0.01, 0.01), "does not hold"),
    ],
)
def test_beta(found: Sequence[int], losses: Sequence[float], verdict: str) -> None:
    rows = zip(found, losses, (0.1, 1.0), strict=True)
    assert judge_beta("sgd", [run_of(n, loss, beta=beta) for n, loss, beta in rows]).verdict == verdict


def test_ways_to_find_lambda() -> None:
    assert judge_implicit("sgd", run_of(10, 0.01), run_of(11, 0.012)).verdict == "holds"
    assert judge_implicit("sgd", run_of(10, 0.01), run_of(11, 0.02)).verdict == "undecided"
    assert judge_implicit("sgd", run_of(0, 0.01), run_of(20, 0.01)).verdict == "does not hold"
    assert judge_adaptive("sgd", run_of(10, 0.01), [run_of(10, 0.1), run_of(22, 0.01)]).verdict == "holds"
    assert judge_adaptive("sgd", run_of(10, 0.01), [run_of(10, 0.01)]).verdict == "undecided"
    assert judge_adaptive("sgd", run_of(10, 0.01), [run_of(10, 0.001)]).verdict == "does not hold"


def test_parts() -> None:
    found = dict(zip((name for name, _ in ABLATION), (14, 2, 20, 24, 6), strict=True))
    losses = dict(zip(found, (0.1, 0.1, 0.01, 0.001, 0.02), strict=True))
    rows = {name: run_of(found[name], losses[name]) for name in found}
    assert [claim.verdict for claim in judge_parts("adamw", rows)] == ["holds", "holds", "holds"]
    rows["L_erase + L_attn"] = run_of(24, 0.01)
    assert [claim.verdict for claim in judge_parts("adamw", rows)] == ["does not hold", "undecided", "holds"]


# The whole study ---------------------------------------------------------------------------------------


class FakeBench:
    """Trainings by formula."""

    def __init__(self, folder: Path, model: str, method: str, concept: str, prompts: int | None) -> None:
        self.method, self.concept, self.checked = method, concept, 0

    def config(self) -> dict[str, Any]:
        return {"method": self.method, "concept": self.concept, "model": {"name": "fake"}}

    def original_clip(self) -> float:
        return 26.0

    def check(self, settings: dict[str, Any]) -> None:
        ZErase.of(settings)

    def watched(self, settings: dict[str, Any], watch: Watch) -> list[dict[str, float]]:
        rows = []
        for step in range(settings["steps"]):
            length = 1.0 / (step + 1)
            more = {"step": float(step), "gradient_norm": length, "multiplier": 0.0}
            rows.append(
                {
                    **step_of(1e-3 * length),
                    **more,
                    "direction_norm": length,
                    "preserve_after": 1e-4 * (step + 1),
                }
            )
        return rows

    def measured(self, settings: dict[str, Any]) -> dict[str, Any]:
        run = run_of(12, settings["epsilon"], **settings)
        more = {"success_interval": (0.3, 0.7), "objects": None, "collapsed": False, "evaluations": 5.0}
        return {**run, **more, "trace": [{"step": 0.0, "erase": 1.0}]}


def test_the_study_writes_a_page_with_every_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zbench.studies.convergence.study.Bench", FakeBench)
    told: list[tuple[int, int]] = []
    convergence_study(
        tmp_path, "fake", lambda done, total: told.append((done, total)), steps=12, long_steps=16
    )
    record = json.loads((tmp_path / "study.json").read_text())
    assert told[-1][0] == told[-1][1] == len(told) == len(record["trials"]) + 8
    assert len(record["claims"]) == 7 * 2 + 3
    page = (tmp_path / "study.md").read_text()
    for claim in record["claims"]:
        assert claim["says"] in page and claim["because"] in page
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1, "a cell holds a bar"
    for name in ("proxy", "drift", "stationarity", "trade-offs", "plane", "traces"):
        assert f"({name}.png)" in page and (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert all("trace" not in run for run in record["trials"].values())


def test_wrong_options_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="adam"):
        convergence_study(tmp_path, optimisers=("adam",))
    with pytest.raises(ConfigurationError, match="alpha"):
        convergence_study(tmp_path, scales={"sgd": {"alpha": 1.0}})
