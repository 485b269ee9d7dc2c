"""What the finished trainings say: claims, groups for tables, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from zbench.report.trace_plot import plot_traces
from zbench.studies.convergence import plot, theorems, trade_offs
from zbench.studies.convergence.claim import Claim, Measured, Statement
from zbench.studies.convergence.noise import Noise, measure_noise
from zbench.studies.convergence.plan import ABLATION, Grid, Optimiser, Plan, Scale, trial_name
from zbench.studies.convergence.trainings import Row, WatchedTraining

LOST = "reason"
"""A measured erasure without figures says here why."""


@dataclass
class Done:
    """Everything of a plan, done.

    Attributes:
        trials: Name -> measured erasure, or why there are no figures.
        repeats: Name -> the same erasure for each further training seed.
        watched: Name -> watched training.
    """

    trials: dict[str, dict[str, Any]] = field(default_factory=dict)
    repeats: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    watched: dict[str, WatchedTraining] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, str]:
        """Trials and watched trainings that gave no figures, and why."""
        trials = {name: run[LOST] for name, run in self.trials.items() if LOST in run}
        watched = {name: one.reason for name, one in self.watched.items() if one.reason is not None}
        return {**trials, **watched}

    def measured(self) -> list[dict[str, Any]]:
        """Trials that gave figures."""
        return [run for run in self.trials.values() if LOST not in run]

    def noise(self, names: Sequence[str]) -> Noise:
        """Of L_pr, from some trials and their repeats; those of which one gave no figures are left out."""
        runs = {name: [self.trials[name], *self.repeats.get(name, [])] for name in names}
        whole = {name: some for name, some in runs.items() if not any(LOST in run for run in some)}
        return measure_noise({name: [run["last_preserve"] for run in some] for name, some in whole.items()})


class Findings:
    """What the finished trainings say.

    Args:
        plan: What was trained.
        done: What came of it.
        scales: One for each optimiser, the one with the ablation first.
        grid: What was tried with each.
    """

    def __init__(self, plan: Plan, done: Done, scales: Sequence[Scale], grid: Grid) -> None:
        self._plan, self._done, self._lost = plan, done, done.lost
        self._optimisers: list[Optimiser] = [scale.optimiser for scale in scales]
        self.noise = {name: done.noise(names) for name, names in plan.repeated.items()}
        self._names = {scale.optimiser: _names(scale, grid) for scale in scales}

    # Verdicts ------------------------------------------------------------------------------------------

    def claims(self) -> list[Claim]:
        """All verdicts, claim by claim."""
        every = [self._theorems(name) + self._results(name) for name in self._optimisers]
        return [claim for same in zip(*every, strict=True) for claim in same] + self._parts()

    def _theorems(self, name: Optimiser) -> list[Claim]:
        shares, slacks = self._names[name]["shares"], self._names[name]["epsilon"]
        same, long = trial_name(name, "same points"), trial_name(name, "diminishing")
        noise, settings = self.noise[name], self._plan.watched[same][0]
        return [
            self._claim(theorems.PROXY, name, shares,
                        lambda: theorems.judge_proxy(name, self._proxies(name))),
            self._claim(theorems.DRIFT, name, [*slacks, same],
                        lambda: theorems.judge_drift(
                            name, self._runs(slacks), self._trace(same), settings, noise)),
            self._claim(theorems.STATIONARITY, name, [long],
                        lambda: theorems.judge_stationarity(name, self._trace(long))),
        ]  # fmt: skip

    def _results(self, name: Optimiser) -> list[Claim]:
        group, noise = self._names[name], self.noise[name]
        implicit, exact = trial_name(name, "implicit"), trial_name(name, "exact")
        one, other = self._done.trials[implicit], self._done.trials[exact]
        return [
            self._claim(trade_offs.EPSILON, name, group["epsilon"],
                        lambda: trade_offs.judge_epsilon(name, self._runs(group["epsilon"]), noise)),
            self._claim(trade_offs.BETA, name, group["beta"],
                        lambda: trade_offs.judge_beta(name, self._runs(group["beta"]), noise)),
            self._claim(trade_offs.IMPLICIT, name, [implicit, exact],
                        lambda: trade_offs.judge_implicit(name, one, other, noise)),
            self._claim(trade_offs.ADAPTIVE, name, [implicit, *group["fixed"]],
                        lambda: trade_offs.judge_adaptive(name, one, self._runs(group["fixed"]), noise)),
        ]  # fmt: skip

    def _parts(self) -> list[Claim]:
        name, rows = self._optimisers[0], self._ablation()
        runs = {row: self._done.trials[trial] for row, trial in rows.items()}
        claims = []
        for part in trade_offs.PARTS:
            needed = [rows[row] for pair in part.pairs for row in pair]
            judge = partial(trade_offs.judge_part, name, part, runs, self.noise[name])
            claims.append(self._claim(part.statement, name, needed, judge))
        return claims

    def _claim(
        self, statement: Statement, optimiser: str, needed: Sequence[str], judge: Callable[[], Claim]
    ) -> Claim:
        """The verdict, or undecided where a training that it needs gave no figures."""
        lost = {name: self._lost[name] for name in needed if name in self._lost}
        return statement.without(optimiser, lost) if lost else judge()

    # Tables and pictures -------------------------------------------------------------------------------

    def groups(self) -> dict[str, Any]:
        """Which trials stand together in the page's tables."""
        fields = ("epsilon", "beta")
        return {
            "trade_offs": {name: {field: by[field] for field in fields} for name, by in self._names.items()},
            "multipliers": [trial for name in self._names for trial in self._ways(name)],
            "ablation": self._ablation(),
        }

    def pictures(self) -> dict[str, bytes]:
        """The study's pictures by file name; trainings without figures are missing in them."""
        names = self._optimisers
        groups = self.groups()
        plane = self._whole([*groups["multipliers"], *groups["ablation"].values()])
        slacks: dict[str, Sequence[Measured]] = {
            name: self._runs(self._whole(self._names[name]["epsilon"])) for name in names
        }
        return {
            "proxy.png": plot.plot_proxy({name: self._proxies(name) for name in names}),
            "drift.png": plot.plot_drift(slacks, {name: self._fixed_points(name) for name in names}),
            "stationarity.png": plot.plot_stationarity(
                {name: self._trace(trial_name(name, "diminishing")) for name in names}
            ),
            "trade-offs.png": plot.plot_trade_offs(
                {
                    name: {field: self._runs(self._whole(some)) for field, some in by.items()}
                    for name, by in groups["trade_offs"].items()
                }
            ),
            "plane.png": plot.plot_plane({name: self._done.trials[name] for name in plane}),
            "traces.png": plot_traces(
                {name: self._done.trials[name]["trace"] for name in self._whole(self._ways(names[0]))},
                "Ways to find lambda",
            ),
        }

    def _ablation(self) -> dict[str, str]:
        """Row of the ablation table -> trial."""
        return {row: trial_name(self._optimisers[0], "parts", row) for row, _ in ABLATION}

    def _ways(self, name: Optimiser) -> list[str]:
        return [trial_name(name, "implicit"), trial_name(name, "exact"), *self._names[name]["fixed"]]

    def _whole(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._lost]

    def _runs(self, names: Sequence[str]) -> list[Measured]:
        return [self._done.trials[name] for name in names]

    def _trace(self, name: str) -> list[Row]:
        return self._done.watched[name].trace

    def _proxies(self, name: Optimiser) -> dict[str, list[Row]]:
        return {trial.rpartition(" ")[2]: self._trace(trial) for trial in self._names[name]["shares"]}

    def _fixed_points(self, name: Optimiser) -> tuple[list[Row], Mapping[str, Any]]:
        same = trial_name(name, "same points")
        return self._trace(same), self._plan.watched[same][0]


def _names(scale: Scale, grid: Grid) -> dict[str, list[str]]:
    """Trials and watched trainings of an optimiser that belong together, in their order."""
    name = scale.optimiser
    return {
        "epsilon": [trial_name(name, "epsilon", value) for value in sorted(scale.epsilons)],
        "beta": [trial_name(name, "beta", factor * scale.beta) for factor in sorted(grid.beta_factors)],
        "fixed": [trial_name(name, "fixed", value) for value in grid.multipliers],
        "shares": [trial_name(name, "steps of", share) for share in grid.shares],
    }
