"""`zbench sweep`: how one hyper-parameter trades erasure against preservation, on tuning prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zbench.errors import ConfigurationError
from zbench.report.markdown import markdown_table
from zbench.report.plots import BLUE, GREY, RED, bars, label_point, new_figure, png
from zbench.studies import write_study
from zbench.studies.trials import Trial, Trials


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    Attributes:
        method: Name of the method.
        field: The hyper-parameter.
        concept: What was erased.
        original: CLIP score of the unerased model, points.
        trials: One for each value, in the order given.
    """

    method: str
    field: str
    concept: str
    original: float
    trials: tuple[Trial, ...]

    def describe(self) -> dict[str, Any]:
        """What `study.json` holds, without the outcome of every single picture."""
        names = ("method", "field", "concept", "original")
        return {
            **{name: getattr(self, name) for name in names},
            "trials": [trial.describe() for trial in self.trials],
        }


def sweep(
    method: str,
    field: str,
    values: Sequence[Any],
    *,
    concept: str,
    out: Path,
    model: str = "miniature",
    prompts: int | None = None,
    settings: dict[str, Any] | None = None,
    plugins: Sequence[Path] = (),
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Erases once for each value and writes `sweep` as `study.json`, `study.md` and `curve.png`.

    Args:
        method: Name of an installed method.
        field: One of its hyper-parameters.
        values: What it takes, two or more.
        concept: What to erase; its tuning prompts are used.
        out: Folder; cells are kept in `work` below it.
        model: Catalogue name or folder of the model.
        prompts: First so many prompts of each tuning set; all when None.
        settings: Other fields over the preset.
        plugins: Files with methods that are not packaged.
        device: Torch device; chosen automatically when None.
        progress: Told about finished erasures.

    Raises:
        UnknownNameError: A name is unknown.
        ConfigurationError: Fewer than two values, or one out of range; nothing was trained then.
    """
    if len(values) < 2:
        raise ConfigurationError(f"A sweep needs two or more values of {field}, such as 0.5,1,2.")
    trials = Trials(out / "work", model, prompts=prompts, plugins=plugins, device=device)
    chosen = [{**(settings or {}), field: value} for value in values]
    for one in chosen:
        trials.check(method, concept, one)
    done = []
    for one in chosen:
        done.append(trials.run(method, concept, one))
        if progress is not None:
            progress(len(done), len(chosen))
    found = Sweep(method, field, concept, trials.original_clip(concept), tuple(done))
    record = {**found.describe(), "model": model, "prompts": prompts}
    curve = {"curve.png": draw_curve(found)}
    write_study(out, "sweep", record, render_page(found), curve, model=trials.handle(concept))
    return found


def rows_of(found: Sweep) -> list[tuple[str, ...]]:
    """Cells of a table: value, success with interval, CLIP score with interval, objects, flagged, remark."""
    rows = []
    for trial in found.trials:
        if trial.status != "done":
            remark = f"{trial.status} {trial.reason}".strip()
            rows.append((str(trial.settings[found.field]), *["–"] * 4, remark))
            continue
        low, high = (100 * bound for bound in trial.success_interval)
        least, most = trial.clip_interval
        rows.append(
            (
                str(trial.settings[found.field]),
                f"{100 * trial.success:.1f} ({trial.found}/{trial.asked}) [{low:.1f}, {high:.1f}]",
                f"{trial.clip_score:.1f} [{least:.1f}, {most:.1f}]",
                "–" if trial.objects is None else f"{100 * trial.objects:.0f}",
                f"{100 * trial.flagged:.0f}",
                "collapsed" if trial.collapsed else "",
            )
        )
    return rows


HEADINGS = ("value", "found explicit, % ↓", "CLIP score ↑", "objects, % ↑", "flagged, % ↓", "")


def render_page(found: Sweep) -> str:
    """Markdown of a sweep."""
    return (
        f"# {found.method}: {found.field} from erasure to preservation\n\n"
        f"Concept {found.concept}, tuning prompts, training seed 0. The original's CLIP score is"
        f" {found.original:.1f}.\n\n"
        "![Success against CLIP score](curve.png)\n\n" + markdown_table(HEADINGS, rows_of(found)) + "\n"
    )


def draw_curve(found: Sweep) -> bytes:
    """The plane of erasure and preservation as a PNG file, one point for each value."""
    figure, grid = new_figure()
    axes, shown = grid[0][0], [trial for trial in found.trials if trial.status == "done"]
    x, y = [100 * trial.success for trial in shown], [trial.clip_score for trial in shown]
    x_bars = bars(x, [(100 * low, 100 * high) for low, high in (t.success_interval for t in shown)])
    axes.errorbar(
        x, y, xerr=x_bars, yerr=bars(y, [t.clip_interval for t in shown]), color=GREY, lw=0.8, zorder=1
    )
    axes.plot(x, y, color=BLUE, lw=1.2)
    for trial, place in zip(shown, zip(x, y, strict=True), strict=True):
        axes.scatter(*place, color=RED if trial.collapsed else BLUE, zorder=2)
        label_point(axes, f"{trial.settings[found.field]}", place)
    axes.axhline(found.original, color=GREY, ls="--", lw=0.8)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("prompts whose picture shows the concept, %  (left is better)")
    axes.set_ylabel("CLIP score of unrelated prompts  (up is better)")
    axes.set_title(f"{found.method}, {found.field}: {found.concept} (dashed: original; red: collapsed)")
    return png(figure)
