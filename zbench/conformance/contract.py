"""Checks of what a method says, returns, reads and leaves behind."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zbench.concepts import Concept, concept_names, load_concept
from zbench.conformance.results import Outcome, failed, judged, passed, skipped
from zbench.errors import ConfigurationError, ZbenchError
from zbench.stages.erase import refusal
from zbench.stages.watching import forbidden

if TYPE_CHECKING:
    from zbench.conformance.subject import Subject

SLACK_BYTES = 1 << 16
"""Tensors that may be left behind: a few small ones are cached by the libraries."""

_SHOWN = 3


# What it says ---------------------------------------------------------------------------------------------


def fields(subject: Subject) -> Outcome:
    """Presets build, and all fields survive JSON."""
    kind = type(subject.method)
    problems = [problem for preset in kind.presets if (problem := _preset_problem(kind, preset))]
    again = kind.of(json.loads(json.dumps(subject.method.model_dump(mode="json"), allow_nan=False)))
    if again != subject.method:
        changed = [
            name for name in kind.model_fields if getattr(again, name) != getattr(subject.method, name)
        ]
        problems.append(f"{', '.join(changed)}: another value after a round trip through JSON")
    return judged(problems, f"{len(kind.model_fields)} fields, presets {', '.join(kind.presets) or 'none'}")


def _preset_problem(kind: Any, preset: str) -> str | None:
    try:
        kind.with_preset(preset)
    except (Exception, SystemExit) as error:
        return f"the preset {preset!r} makes no method: {error}"
    return None


def unsupported(subject: Subject) -> Outcome:
    """A concept that `supports` refuses is refused by `erase` in one clear line, before any work."""
    for concept in _candidates(subject):
        reason = refusal(subject.method, concept)
        if reason is not None:
            return _refused(subject, concept, reason)
    return skipped("it supports every concept that was tried")


def _candidates(subject: Subject) -> Iterator[Concept]:
    """Concepts that some methods cannot erase: nowhere named, its own anchor, and those of the catalogue."""
    concept = subject.concept
    yield concept.model_copy(update={"name": "unnamed", "phrases": ("zqxwv",)})
    yield concept.model_copy(update={"name": "its-own-anchor", "anchor_prompts": concept.training_prompts})
    domain = subject.bench.handle.spec.domain
    yield from (load_concept(name, domain) for name in concept_names(domain))


def _refused(subject: Subject, concept: Concept, reason: str) -> Outcome:
    model = subject.model
    before, what = model.counter.forwards, f"{concept.name!r} ({reason})"
    try:
        subject.method.erase(model, concept)
    except ConfigurationError as error:
        problems = [] if model.counter.forwards == before else ["it worked before it refused"]
        problems += ["its message is longer than a line"] if "\n" in str(error) else []
        return judged(problems, f"refuses {what}")
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__} instead of a ConfigurationError for {what}: call `require_support`"
        return replace(failed(said), trace=traceback.format_exc())
    return failed(f"`erase` takes {what}, which `supports` refuses: call `require_support`")


# What it returns ------------------------------------------------------------------------------------------


def returns(subject: Subject) -> Outcome:
    """A whole erasure: detached edit, right names, finite weights, its settings, a cost and a plain trace."""
    trial = subject.first
    if trial.erasure is None:
        name = "" if isinstance(trial.error, ZbenchError) else f"{type(trial.error).__name__}: "
        return replace(failed(f"{name}{trial.error}".splitlines()[0]), trace=trial.trace)
    erasure, problems = trial.erasure, []
    if erasure.hyperparameters != subject.method.model_dump(mode="json"):
        problems.append("its hyperparameters are not the method's fields (`self.model_dump(mode='json')`)")
    counted = erasure.cost.model_dump(include={"seconds", "forwards", "backwards", "steps"})
    return judged(problems, f"an edit on the {erasure.edit.seam} seam", **counted)


def same_seed(subject: Subject) -> Outcome:
    """The same training seed gives the same weights, bit for bit, as they are saved."""
    first, again = subject.saved(subject.erasure), subject.again
    if again.erasure is None:
        return failed(f"the second erasure failed: {again.error}")
    second = subject.saved(again.erasure)
    other = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    return judged([f"{name} differs between two runs" for name in other], f"{len(first)} files agree")


def other_seed(subject: Subject) -> Outcome:
    """Another training seed gives another edit, where training is random."""
    kept, model = subject.leftovers, subject.model
    distance = float((kept.effect - subject.effect(subject.erasure, model)).abs().max())
    if not subject.method.card.needs_training:
        return skipped("it does not train", largest_difference=distance)
    if distance == 0:
        return failed("two training seeds give the same velocities", largest_difference=distance)
    return passed("velocities differ", largest_difference=distance)


# What it reads and leaves behind --------------------------------------------------------------------------


def blind(subject: Subject) -> Outcome:
    """No prompts but the concept's, and no weights of detectors or of the CLIP that scores, are read."""
    watch = subject.first.watch
    problems = [f"it read {what}" for what in forbidden(watch)]
    return judged(problems, "it read none of them", files_read=len(set(watch.read)))


def no_files(subject: Subject) -> Outcome:
    """No file is written: what an erasure is lies in what it returns."""
    written = list(dict.fromkeys(subject.first.watch.written))
    return judged([f"it wrote {path}" for path in written[:_SHOWN]], "nothing was written")


def settings(subject: Subject) -> Outcome:
    """Global random states and torch's settings are as before."""
    changed = subject.first.settings
    return judged([f"changed: {', '.join(changed)}"] if changed else [], "all as before")


def memory(subject: Subject) -> Outcome:
    """Nothing of an erasure stays in memory once it is let go."""
    kept = subject.leftovers
    figures = {"bytes_left": kept.nbytes, "bytes_of_edit": kept.of_edit}
    problems = ["the edit is still alive after the erasure was let go"] if kept.alive else []
    if kept.nbytes > SLACK_BYTES:
        problems.append(f"{kept.nbytes:,} bytes of tensors stay behind (at most {SLACK_BYTES:,})")
    return judged(problems, f"{max(kept.nbytes, 0):,} bytes left", **figures)
