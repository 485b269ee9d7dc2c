"""The study's pictures; where a training gave no figures, its panel stays empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.report.plots import BLUE, GREEN, GREY, RED, bars, new_figure, png
from zbench.studies.convergence.claim import Measured, Row
from zbench.studies.convergence.theorems import lipschitz, proxy_points, running_minimum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"adamw": BLUE, "sgd": RED}
SHADES = (BLUE, GREEN, RED, GREY)


def plot_proxy(traces: Mapping[str, Mapping[str, Sequence[Row]]]) -> bytes:
    """Error of the proxy against its bound, one panel for each optimiser, a diagonal where they are equal.

    Args:
        traces: Optimiser -> step length -> trace of a watched training.
    """
    figure, grid = new_figure(1, len(traces), size=(4.6 * len(traces), 4.0))
    for axes, (optimiser, by_length) in zip(grid[0], traces.items(), strict=True):
        for (label, trace), colour in zip(by_length.items(), SHADES, strict=False):
            constant = lipschitz(trace) or 0.0
            points = [(constant * p.half_square, p.error) for p in proxy_points(trace)]
            if shown := [point for point in points if min(point) > 0]:
                axes.scatter(*zip(*shown, strict=True), s=9, color=colour, label=label)
        if not axes.collections:
            axes.axis("off")
            continue
        _diagonal(axes)
        axes.set_title(f"{optimiser}: below the line the bound holds")
        axes.set_xlabel(r"bound $G \alpha / 2 \, \|d\|^2$")
        axes.set_ylabel(r"error $|\tilde{g} - g|$")
        axes.legend(title="share of the step length", fontsize=8)
    return png(figure)


def _diagonal(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    high = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=GREY, lw=0.8)


def plot_drift(
    runs: Mapping[str, Sequence[Measured]], watched: Mapping[str, tuple[Sequence[Row], Mapping[str, Any]]]
) -> bytes:
    """L_pr at the end against epsilon, and L_pr along one training beside what the claim allows.

    Args:
        runs: Optimiser -> erasures that differ in epsilon.
        watched: Optimiser -> trace and settings of the training on the same points.
    """
    figure, grid = new_figure(1, 1 + len(watched), size=(3.6 * (1 + len(watched)), 3.6))
    first = grid[0][0]
    for optimiser, some in runs.items():
        x = [run["settings"]["epsilon"] for run in some]
        colour = COLOURS.get(optimiser, GREY)
        first.plot(x, [run["last_preserve"] for run in some], marker="o", color=colour, label=optimiser)
        allowed = [
            run["settings"]["steps"] * run["settings"]["learning_rate"] * e
            for run, e in zip(some, x, strict=True)
        ]
        first.plot(x, allowed, color=colour, ls="--", lw=0.8, label=rf"$t\,\epsilon\,\alpha$, {optimiser}")
    _log_log(first, r"slack $\epsilon$", r"$L_{pr}$ at the end")
    first.legend(fontsize=8)
    for axes, (optimiser, (trace, settings)) in zip(grid[0][1:], watched.items(), strict=True):
        if not trace:
            axes.axis("off")
            continue
        steps = [row["step"] + 1 for row in trace]
        axes.plot(steps, [row["preserve_after"] for row in trace], color=BLUE, label=r"$L_{pr}$")
        axes.plot(steps, _allowed(trace, settings), color=GREY, ls="--", label=r"$t\,\epsilon\,\alpha$")
        _log_log(axes, "step", f"{optimiser}, same points in every step")
        axes.legend(fontsize=8)
    return png(figure)


def _allowed(trace: Sequence[Row], settings: Mapping[str, Any]) -> list[float]:
    total, found = 0.0, []
    for row in trace:
        total += row["learning_rate"] * settings["epsilon"]
        found.append(total)
    return found


def _log_log(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def plot_stationarity(traces: Mapping[str, Sequence[Row]]) -> bytes:
    """||d_t||, its running minimum, and the gradient's norm, as shares of the first.

    Args:
        traces: Optimiser -> trace of the training with diminishing steps.
    """
    figure, grid = new_figure(1, len(traces), size=(4.6 * len(traces), 3.4))
    for axes, (optimiser, trace) in zip(grid[0], traces.items(), strict=True):
        if not trace or not trace[0]["direction_norm"] or not trace[0]["gradient_norm"]:
            axes.axis("off")
            continue
        steps = [row["step"] + 1 for row in trace]
        lengths = [row["direction_norm"] / trace[0]["direction_norm"] for row in trace]
        axes.plot(steps, lengths, color=BLUE, alpha=0.35, lw=0.8)
        axes.plot(steps, running_minimum(lengths), color=BLUE, label=r"least $\|d_t\|$ so far")
        gradients = [row["gradient_norm"] / trace[0]["gradient_norm"] for row in trace]
        label = r"$\|\nabla L_{er} + \lambda \nabla L_{pr}\|$"
        axes.plot(steps, gradients, color=RED, alpha=0.6, lw=0.8, label=label)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("share of the first")
        axes.set_title(f"{optimiser}, diminishing steps")
        axes.legend(fontsize=8)
    return png(figure)


def plot_trade_offs(by_optimiser: Mapping[str, Mapping[str, Sequence[Measured]]]) -> bytes:
    """Success and L_pr against epsilon and beta.

    Args:
        by_optimiser: Optimiser -> field -> erasures in its order.
    """
    fields = list(next(iter(by_optimiser.values())))
    figure, grid = new_figure(
        len(by_optimiser), len(fields), size=(4.8 * len(fields), 3.0 * len(by_optimiser))
    )
    for line, (optimiser, by_field) in zip(grid, by_optimiser.items(), strict=True):
        for axes, (field, runs) in zip(line, by_field.items(), strict=True):
            _trade_off(axes, optimiser, field, runs)
    return png(figure)


def _trade_off(axes: Axes, optimiser: str, field: str, runs: Sequence[Measured]) -> None:
    if not runs:
        axes.axis("off")
        return
    x = [run["settings"][field] for run in runs]
    rates = [100 * run["success"] for run in runs]
    spans = bars(rates, [(100 * low, 100 * high) for low, high in (run["success_interval"] for run in runs)])
    axes.errorbar(x, rates, yerr=spans, color=RED, marker="o", ms=4, capsize=2)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("success, %", color=RED)
    axes.set_xscale("log")
    axes.set_xlabel(field)
    axes.set_title(optimiser)
    other = axes.twinx()
    other.plot(x, [run["last_preserve"] for run in runs], color=BLUE, marker="s", ms=4)
    _at_least(other, 4.0)
    other.set_ylabel(r"$L_{pr}$", color=BLUE)
    other.grid(False)


def _at_least(axes: Axes, factor: float) -> None:
    """A logarithmic axis that spans at least this factor, so that noise does not look like an effect."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < factor * low:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / factor**0.5, middle * factor**0.5)


def plot_plane(runs: Mapping[str, Measured]) -> bytes:
    """Ways to find lambda in the plane of success and L_pr, and the rows of the ablation.

    Args:
        runs: Name -> erasure.
    """
    figure, grid = new_figure(size=(6.4, 4.4))
    axes = grid[0][0]
    for name, run in runs.items():
        place = 100 * run["success"], max(run["last_preserve"], 1e-6)
        axes.scatter(*place, color=COLOURS.get(name.split()[0], GREY))
        axes.annotate(name, place, xytext=(5, 3), textcoords="offset points", fontsize=7)
    axes.set_yscale("log")
    axes.set_xlim(-3, 118)
    axes.set_xlabel("success, %  (left erases better)")
    axes.set_ylabel(r"$L_{pr}$ at the end  (down preserves better)")
    return png(figure)
