"""The study itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from zbench.errors import ConfigurationError
from zbench.studies import Progress, make_folder, write_study
from zbench.studies.convergence.comparing import LOSS_MARGIN, SUCCESS_MARGIN, narrowest
from zbench.studies.convergence.findings import Done, Findings
from zbench.studies.convergence.page import render_page
from zbench.studies.convergence.plan import Grid, Plan, Scale, make_plan
from zbench.studies.convergence.trainings import Trainings
from zbench.validation import validated

ADAMW = Scale(
    optimiser="adamw",
    learning_rate=1e-3,
    beta=0.1,
    epsilon=1e-3,
    epsilons=(1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
)
"""The paper's alpha, beta and epsilon."""

SGD = Scale(
    optimiser="sgd", learning_rate=0.2, beta=1.0, epsilon=1e-3, epsilons=(1e-4, 1e-3, 1e-2, 1e-1, 1.0)
)
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
    prompts: int = 60,
    steps: int = 40,
    long_steps: int = 120,
    seeds: int = 3,
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
        prompts: First so many of each tuning set. Below 26 no two success rates can be shown to be
            alike, however well they agree.
        steps: Optimiser steps of most trainings.
        long_steps: Of the one with diminishing steps.
        seeds: Training seeds from which the noise of L_pr is measured; with one it stays unknown, and every
            claim about L_pr undecided.
        optimisers: Which are tried; the first one also gets the ablation.
        scales: Optimiser -> fields of `Scale` that shall differ from the study's, for another model.
        beta_factors: Multiples of beta.
        multipliers: Fixed lambdas.
        shares: Learning rates at which the proxy is watched, as shares of the usual one.
        work: Run folder; `work` under `out` when None. Trainings in it are not done again.

    Returns:
        What `study.json` holds.

    Raises:
        ConfigurationError: An option is out of range, or not one erasure could be measured.
        UnknownNameError: A name is unknown.
        StoreError: A folder cannot be used.
    """
    chosen = _scales(optimisers, scales or {})
    grid = validated(
        Grid,
        {
            "steps": steps, "long_steps": long_steps, "seeds": seeds, "beta_factors": beta_factors,
            "multipliers": multipliers, "shares": shares,
        },
    )  # fmt: skip
    plan = make_plan(chosen, grid)
    make_folder(out)
    trainings = Trainings(Path(work) if work else out / "work", model, method, concept, prompts)
    done = _do(plan, trainings, grid.seeds, progress)
    found = Findings(plan, done, chosen, grid)
    record = {
        "config": {
            **trainings.config(), **grid.model_dump(mode="json"),
            "scales": [scale.model_dump(mode="json") for scale in chosen], **_asked(done),
        },
        "original_clip": trainings.original_clip(),
        "claims": [asdict(claim) for claim in found.claims()],
        "noise": {name: noise.describe() for name, noise in found.noise.items()},
        "trials": {name: brief(run) for name, run in done.trials.items()},
        "lost": done.lost,
        **found.groups(),
    }  # fmt: skip
    write_study(out, "convergence", record, render_page(record), found.pictures(), model=trainings.handle)
    return record


def _scales(optimisers: Sequence[str], changed: Mapping[str, Mapping[str, Any]]) -> list[Scale]:
    """The scales of some optimisers, each once.

    Raises:
        ConfigurationError: None is named, or one is unknown; or the changes are for none of them.
        UnknownNameError: A change names no field.
    """
    names = list(dict.fromkeys([optimisers] if isinstance(optimisers, str) else optimisers))
    if not names:
        raise ConfigurationError("optimisers: name at least one.")
    if not isinstance(changed, Mapping) or not changed.keys() <= set(names):
        raise ConfigurationError(f"scales: give fields for {' or '.join(names)} (got {changed!r}).")
    return [_scale(name, changed.get(name, {})) for name in names]


def _scale(name: str, changed: Mapping[str, Any]) -> Scale:
    """The scale of an optimiser.

    Raises:
        ConfigurationError: No such optimiser, or a value is out of range.
        UnknownNameError: No such field.
    """
    known = {scale.optimiser: scale for scale in (ADAMW, SGD)}
    if name not in known:
        raise ConfigurationError(f"optimisers: {name!r} is none of {', '.join(known)}.")
    if not isinstance(changed, Mapping):
        raise ConfigurationError(f"scales.{name}: give fields with values (got {changed!r}).")
    return validated(Scale, {**known[name].model_dump(), **changed}, prefix=f"scales.{name}.")


def _do(plan: Plan, trainings: Trainings, seeds: int, progress: Progress | None) -> Done:
    """Does everything of a plan; what diverges is recorded.

    Raises:
        ConfigurationError: Not one erasure could be measured.
    """
    for settings in plan.trials.values():
        trainings.check(settings)
    done = Done()
    repeated = [name for names in plan.repeated.values() for name in names]
    tell = _telling(len(plan.watched) + len(plan.trials) + (seeds - 1) * len(repeated), progress)
    for name, how in plan.watched.items():
        done.watched[name] = tell(trainings.watched(*how))
    for name, settings in plan.trials.items():
        done.trials[name] = tell(trainings.measured(settings))
    for name in repeated:
        done.repeats[name] = [tell(trainings.measured(plan.trials[name], seed)) for seed in range(1, seeds)]
    if not done.measured():
        reason = next(iter(done.lost.values()))
        raise ConfigurationError(f"Not one of {len(plan.trials)} erasures could be measured. First: {reason}")
    return done


def _telling(total: int, progress: Progress | None) -> Callable[[Any], Any]:
    """Passes results on and tells how many there were."""
    numbers = count(1)

    def passed(result: Any) -> Any:
        number = next(numbers)
        if progress is not None:
            progress(number, total)
        return result

    return passed


def _asked(done: Done) -> dict[str, Any]:
    """The pictures by which success was measured, and how close two rates can be shown to be with them."""
    first = done.measured()[0]
    margins = {"success": SUCCESS_MARGIN, "L_pr": LOSS_MARGIN, "narrowest": narrowest(first["asked"])}
    return {"asked": first["asked"], "prompts": list(first["prompts"]), "margins": margins}


def brief(run: Mapping[str, Any]) -> dict[str, Any]:
    """A measured erasure for `study.json`: its trace lies in the run folder, its hits become digits."""
    kept = {key: value for key, value in run.items() if key not in ("trace", "prompts", "hits")}
    return {**kept, **({"hits": "".join(map(str, run["hits"]))} if "hits" in run else {})}
