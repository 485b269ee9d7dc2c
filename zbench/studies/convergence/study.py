"""The study itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zbench.errors import ConfigurationError
from zbench.report.trace_plot import plot_traces
from zbench.studies import Progress, make_folder, write_study
from zbench.studies.convergence import plot, theorems, trade_offs
from zbench.studies.convergence.bench import Bench, Row
from zbench.studies.convergence.claim import Claim
from zbench.studies.convergence.page import render_page
from zbench.studies.convergence.plan import ABLATION, Optimiser, Plan, Scale, make_plan, trial_name

ADAMW = Scale("adamw", 1e-3, 0.1, 1e-3, (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0))
"""The paper's alpha, beta and epsilon."""

SGD = Scale("sgd", 0.2, 1.0, 1e-3, (1e-4, 1e-3, 1e-2, 1e-1, 1.0))
"""The theorems' optimiser; alpha as large as training stands, beta such that lambda moves within it."""

BETA_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
MULTIPLIERS = (0.0, 1.0, 10.0)
SHARES = (1.0, 0.25)


def convergence_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    method: str = "zerase",
    concept: str = "violence",
    prompts: int = 24,
    steps: int = 40,
    long_steps: int = 120,
    optimisers: Sequence[str] = ("adamw", "sgd"),
    scales: Mapping[str, Mapping[str, Any]] | None = None,
    beta_factors: Sequence[float] = BETA_FACTORS,
    multipliers: Sequence[float] = MULTIPLIERS,
    shares: Sequence[float] = SHARES,
    work: str | None = None,
) -> dict[str, Any]:
    """Tries the paper's claims by experiment.

    Args:
        out: Folder of the results: `study.json`, `study.md` and pictures.
        model: Catalogue name or folder.
        progress: Told about finished trainings.
        method: Z-Erase, or a method that trains as it does.
        concept: A tuning concept; only its tuning prompts are used.
        prompts: First so many of each tuning set.
        steps: Optimiser steps of most trainings.
        long_steps: Of the one with diminishing steps.
        optimisers: Which are tried; the first one also gets the ablation.
        scales: Optimiser -> fields of `Scale` that shall differ from the study's, for another model.
        beta_factors: Multiples of beta.
        multipliers: Fixed lambdas.
        shares: Learning rates at which the proxy is watched, as shares of the usual one.
        work: Run folder; `work` under `out` when None. Trainings in it are not done again.

    Returns:
        What `study.json` holds.

    Raises:
        ConfigurationError: An option is out of range, or an erasure failed.
        StoreError: A folder cannot be used.
    """
    make_folder(out)
    chosen = [_scale(name, (scales or {}).get(name, {})) for name in optimisers]
    plan = make_plan(
        chosen, steps=steps, long_steps=long_steps, beta_factors=beta_factors, multipliers=multipliers,
        shares=shares,
    )  # fmt: skip
    bench = Bench(Path(work) if work else out / "work", model, method, concept, prompts)
    done = _Done(plan, bench, progress)
    found = _Findings(plan, chosen, done.trials, done.watched, beta_factors, multipliers, shares)
    config = {**bench.config(), "steps": steps, "long_steps": long_steps, "asked": done.asked}
    record = {
        "config": {**config, "scales": [asdict(scale) for scale in chosen]},
        "original_clip": bench.original_clip(),
        "claims": [asdict(claim) for claim in found.claims()],
        "trials": {name: without_trace(run) for name, run in done.trials.items()},
        **found.groups(),
    }
    write_study(out, "convergence", record, render_page(record), found.pictures())
    return record


def _scale(name: str, changed: Mapping[str, Any]) -> Scale:
    """The scale of an optimiser.

    Raises:
        ConfigurationError: No such optimiser or field.
    """
    known = {scale.optimiser: scale for scale in (ADAMW, SGD)}
    if name not in known:
        raise ConfigurationError(f"optimisers: {name!r} is none of {', '.join(known)}.")
    try:
        return Scale(**{**asdict(known[name]), **changed})
    except TypeError as error:
        raise ConfigurationError(
            f"scales.{name}: {error}; fields are those of {asdict(known[name])}."
        ) from error


def without_trace(run: Mapping[str, Any]) -> dict[str, Any]:
    """A measured erasure for `study.json`; its trace lies in the run folder."""
    return {key: value for key, value in run.items() if key != "trace"}


class _Done:
    """Everything of the plan, done."""

    def __init__(self, plan: Plan, bench: Bench, progress: Progress | None) -> None:
        self._total, self._count, self._progress = len(plan.trials) + len(plan.watched), 0, progress
        for settings in plan.trials.values():
            bench.check(settings)
        self.watched = {name: self._one(bench.watched(*how)) for name, how in plan.watched.items()}
        self.trials = {name: self._one(bench.measured(settings)) for name, settings in plan.trials.items()}

    def _one(self, result: Any) -> Any:
        self._count += 1
        if self._progress is not None:
            self._progress(self._count, self._total)
        return result

    @property
    def asked(self) -> int:
        """Tuning prompts that name the concept."""
        return int(next(iter(self.trials.values()))["asked"])


class _Findings:
    """What the finished trainings say."""

    def __init__(
        self,
        plan: Plan,
        scales: Sequence[Scale],
        trials: Mapping[str, dict[str, Any]],
        watched: Mapping[str, list[Row]],
        beta_factors: Sequence[float],
        multipliers: Sequence[float],
        shares: Sequence[float],
    ) -> None:
        self._plan, self._scales, self._trials, self._watched = plan, scales, trials, watched
        self._names = {
            scale.optimiser: {
                "epsilon": [
                    trial_name(scale.optimiser, "epsilon", value) for value in sorted(scale.epsilons)
                ],
                "beta": [trial_name(scale.optimiser, "beta", f * scale.beta) for f in sorted(beta_factors)],
                "fixed": [trial_name(scale.optimiser, "fixed", value) for value in multipliers],
                "shares": [trial_name(scale.optimiser, "steps of", share) for share in shares],
            }
            for scale in scales
        }

    def claims(self) -> list[Claim]:
        """All verdicts, claim by claim."""
        every = [self._claims_of(scale.optimiser) for scale in self._scales]
        ordered = [claim for same in zip(*every, strict=True) for claim in same]
        first = self._scales[0].optimiser
        return [
            *ordered,
            *trade_offs.judge_parts(first, {row: self._run(first, "parts", row) for row, _ in ABLATION}),
        ]

    def _claims_of(self, name: Optimiser) -> list[Claim]:
        same = trial_name(name, "same points")
        implicit = self._run(name, "implicit")
        return [
            theorems.judge_proxy(name, self._proxies(name)),
            theorems.judge_drift(
                name, self._runs(name, "epsilon"), self._watched[same], self._plan.watched[same][0]
            ),
            theorems.judge_stationarity(name, self._watched[trial_name(name, "diminishing")]),
            trade_offs.judge_epsilon(name, self._runs(name, "epsilon")),
            trade_offs.judge_beta(name, self._runs(name, "beta")),
            trade_offs.judge_implicit(name, implicit, self._run(name, "exact")),
            trade_offs.judge_adaptive(name, implicit, self._runs(name, "fixed")),
        ]

    def groups(self) -> dict[str, Any]:
        """Which trials stand together in the page's tables."""
        fields = ("epsilon", "beta")
        return {
            "trade_offs": {name: {field: by[field] for field in fields} for name, by in self._names.items()},
            "multipliers": [trial for name in self._names for trial in self._ways(name)],
            "ablation": {row: trial_name(self._scales[0].optimiser, "parts", row) for row, _ in ABLATION},
        }

    def pictures(self) -> dict[str, bytes]:
        """The study's pictures by file name."""
        names = list(self._names)
        groups = self.groups()
        plane = [*groups["multipliers"], *groups["ablation"].values()]
        first = self._ways(names[0])
        return {
            "proxy.png": plot.plot_proxy({name: self._proxies(name) for name in names}),
            "drift.png": plot.plot_drift(
                {name: self._runs(name, "epsilon") for name in names},
                {name: self._fixed_points(name) for name in names},
            ),
            "stationarity.png": plot.plot_stationarity(
                {name: self._watched[trial_name(name, "diminishing")] for name in self._optimisers()}
            ),
            "trade-offs.png": plot.plot_trade_offs(
                {name: {field: self._runs(name, field) for field in ("epsilon", "beta")} for name in names}
            ),
            "plane.png": plot.plot_plane({name: self._trials[name] for name in plane}),
            "traces.png": plot_traces(
                {name: self._trials[name]["trace"] for name in first}, "Ways to find lambda"
            ),
        }

    def _optimisers(self) -> list[Optimiser]:
        return [scale.optimiser for scale in self._scales]

    def _ways(self, name: Optimiser) -> list[str]:
        return [trial_name(name, "implicit"), trial_name(name, "exact"), *self._names[name]["fixed"]]

    def _run(self, name: Optimiser, what: str, value: str = "") -> dict[str, Any]:
        return self._trials[trial_name(name, what, value)]

    def _runs(self, name: Optimiser, group: str) -> list[dict[str, Any]]:
        return [self._trials[trial] for trial in self._names[name][group]]

    def _proxies(self, name: Optimiser) -> dict[str, list[Row]]:
        return {trial.rpartition(" ")[2]: self._watched[trial] for trial in self._names[name]["shares"]}

    def _fixed_points(self, name: Optimiser) -> tuple[list[Row], Mapping[str, Any]]:
        same = trial_name(name, "same points")
        return self._watched[same], self._plan.watched[same][0]
