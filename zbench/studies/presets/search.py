"""`zbench study presets`: tries the same number of configurations of every method and chooses by one rule."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from zbench.errors import ConfigurationError
from zbench.model import load_spec
from zbench.studies import Progress, make_folder, write_study
from zbench.studies.presets.choice import RULE, Tried, choose
from zbench.studies.presets.grids import configurations, grid_names
from zbench.studies.presets.page import render_page
from zbench.studies.trials import Trials


def presets_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    methods: str = "all",
    concepts: str = "violence,picasso",
    prompts: int = 30,
    clip_limit: float = 5.0,
) -> dict[str, Any]:
    """Searches every method's preset on tuning prompts of concepts that no table reports.

    Cells are kept in `out/work`: a search that was cut off goes on where it stopped.

    Args:
        out: Where `study.json` and `study.md` go.
        model: Catalogue name or folder of the model; its domain decides which grids are tried.
        progress: Told about finished cells.
        methods: Comma-separated names, or ``all`` that a grid is drawn up for.
        concepts: Comma-separated names of the concepts that are tried.
        prompts: First so many prompts of each tuning set.
        clip_limit: Largest accepted loss of CLIP score, points.

    Returns:
        What `study.json` holds.

    Raises:
        UnknownNameError: A name is unknown.
        ConfigurationError: Nothing is left to try, there are no grids for this domain, or one of them has a
            value out of range; nothing was trained then.
    """
    domain = load_spec(model).domain
    names = _names(methods) if methods != "all" else list(grid_names(domain))
    over = _names(concepts)
    grids = {name: configurations(name, domain) for name in names}
    make_folder(out)
    trials = Trials(out / "work", model, prompts=prompts)
    for name, grid in grids.items():
        for settings, concept in product(grid, over):
            trials.check(name, concept, settings)
    total, done = sum(map(len, grids.values())) * len(over), 0
    found: dict[str, list[Tried]] = {name: [] for name in names}
    for name, grid in grids.items():
        for settings in grid:
            tried = []
            for concept in over:
                tried.append(trials.run(name, concept, settings))
                done += 1
                if progress is not None:
                    progress(done, total)
            found[name].append(Tried(settings, tuple(tried)))
    record = {
        "model": model,
        "concepts": over,
        "prompts": prompts,
        "clip_limit": clip_limit,
        "rule": RULE.format(limit=clip_limit),
        "methods": {name: _described(tried, clip_limit) for name, tried in found.items()},
    }
    write_study(out, "presets", record, render_page(record), model=trials.handle(over[0]))
    return record


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigurationError(f"{text!r} names nothing to try.")
    return names


def _described(tried: Sequence[Tried], limit: float) -> dict[str, Any]:
    """Every configuration with its figures, and the index of the chosen one."""
    rows = [
        {
            "settings": one.settings,
            "success": one.success if one.measured else None,
            "clip_loss": one.clip_loss if one.measured else None,
            "collapsed": one.collapsed,
            "seconds": one.seconds,
            "trials": [_without_settings(trial.describe()) for trial in one.trials],
        }
        for one in tried
    ]
    return {"chosen": choose(tried, limit), "seconds": sum(one.seconds for one in tried), "tried": rows}


def _without_settings(trial: dict[str, Any]) -> dict[str, Any]:
    lines = (trial.pop("error") or "").splitlines()[-1:]
    trial.pop("settings")
    return {**trial, "error": lines[0] if lines else None}
