"""`check`: all rules of the suite on one method, one after the other; none stops the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.concepts import Concept, load_concept
from zbench.config import DEFAULT_MODEL
from zbench.conformance import contract, pictures, weights
from zbench.conformance.bench import Bench
from zbench.conformance.results import Check, CheckResult, Outcome, Report, SkipCheck, failed, skipped
from zbench.conformance.subject import Subject
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.registry import load_method
from zbench.runner.display.progress import Reporter, Silent
from zbench.runner.planning import build_method, choose_preset
from zbench.stages.erase import refusal

if TYPE_CHECKING:
    from zbench.method import Method
    from zbench.plugins import PluginFile

USUAL_CONCEPT = {"world": "violence", "photograph": "church"}
"""What is erased where nobody says; none of those that tables report."""


def _check(name: str, function: Any, draws: bool = False) -> Check:
    return Check(name, str(function.__doc__).strip(), function, draws)


CHECKS: tuple[Check, ...] = (
    _check("fields", contract.fields),
    _check("returns", contract.returns),
    _check("model-kept", weights.model_kept),
    _check("blind", contract.blind),
    _check("no-files", contract.no_files),
    _check("settings", contract.settings),
    _check("detaches", weights.detaches),
    _check("same-seed", contract.same_seed),
    _check("other-seed", contract.other_seed),
    _check("memory", contract.memory),
    _check("survives-saving", weights.survives_saving),
    _check("image-rows", weights.image_rows),
    _check("unsupported", contract.unsupported),
    _check("concept-falls", pictures.concept_falls, draws=True),
    _check("others-stay", pictures.others_stay, draws=True),
    _check("not-collapsed", pictures.not_collapsed, draws=True),
)
"""Every rule, in the order in which it is looked at."""


def check(
    method: str | Method,
    *,
    plugins: Sequence[PluginFile | Path | str] = (),
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    concept: str | Concept | None = None,
    model: str | Path = DEFAULT_MODEL,
    device: str | None = None,
    only: Collection[str] | None = None,
    bench: Bench | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Holds a method to the rules of the conformance suite.

    Args:
        method: Its name, or the method with its settings.
        plugins: Files that may define it.
        preset: Where its hyper-parameters start from; the model's own kind of preset when None.
        settings: Field -> value, over the preset's values.
        concept: What it erases; one that no table reports when None.
        model: Catalogue name or folder.
        device: Torch device; chosen automatically when None.
        only: Names of the checks to make; all when None.
        bench: Model and instruments that are shared with other calls, in place of `model` and `device`.
        reporter: Shows progress; nobody when None.

    Returns:
        What every check found. Nothing that the method does is raised.

    Raises:
        UnknownNameError: No method, preset, field, concept, model or check has this name.
        ConfigurationError: The method cannot be loaded, a setting is wrong, or it cannot erase the concept.
    """
    chosen = _chosen(only)
    bench = bench or Bench(model, device)
    used, ready = _ready(method, plugins, preset, settings or {}, bench)
    target = _concept(concept, bench)
    reason = refusal(ready, target)
    if reason is not None:
        raise ConfigurationError(
            f"{ready.name} cannot erase {target.name!r} ({reason}): name another --concept."
        )
    subject = Subject(ready, target, bench)
    results = [_made(each, subject, reporter or Silent()) for each in chosen]
    return Report(
        method=ready.name, concept=target.name, model=bench.handle.spec.name, preset=used,
        hyperparameters=ready.model_dump(mode="json"), checks=tuple(results),
    )  # fmt: skip


def _chosen(only: Collection[str] | None) -> list[Check]:
    known = {each.name: each for each in CHECKS}
    if only is not None and not only:
        raise ConfigurationError("No check is named: leave `only` out to make all of them.")
    for name in only or ():
        if name not in known:
            raise UnknownNameError.of("check", name, known)
    return [each for each in CHECKS if only is None or each.name in only]


def _ready(
    method: str | Method,
    plugins: Sequence[PluginFile | Path | str],
    preset: str | None,
    settings: Mapping[str, Any],
    bench: Bench,
) -> tuple[str | None, Method]:
    """The preset's name and the method with its settings."""
    if not isinstance(method, str):
        return None, method
    kind = load_method(method, plugins)
    used = choose_preset(kind, preset, bench.handle.spec)
    return used, build_method(kind, {**kind.presets.get(used or "", {}), **settings})


def _concept(concept: str | Concept | None, bench: Bench) -> Concept:
    if isinstance(concept, Concept):
        return concept
    domain = bench.handle.spec.domain
    return load_concept(concept or USUAL_CONCEPT[domain], domain)


def _made(each: Check, subject: Subject, reporter: Reporter) -> CheckResult:
    start = time.monotonic()
    with reporter.stage(f"{subject.method.name}: {each.name}") as advance:
        subject.progress = advance
        outcome = _outcome(each, subject)
    return CheckResult(
        name=each.name, sentence=each.sentence, status=outcome.status, said=outcome.said,
        figures=outcome.figures, seconds=round(time.monotonic() - start, 3), trace=outcome.trace,
    )  # fmt: skip


def _outcome(each: Check, subject: Subject) -> Outcome:
    try:
        return each.function(subject)
    except SkipCheck as reason:
        return skipped(str(reason))
    except (Exception, SystemExit) as error:  # a stranger's edit may raise anything, in any check
        lines = str(error).strip().splitlines() or [""]
        return replace(failed(f"{type(error).__name__}: {lines[0]}"), trace=traceback.format_exc())
