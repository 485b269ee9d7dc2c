"""What two results say differently, by the names of figures and of everything else that a file states.

Beside figures stand ``outcomes/NAME``, ``verdict``, ``spec`` and the like: whatever changes in a file, it
changes under one of these names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.results.schema import PublishedResult

TOLERANCE = 1e-4
"""Difference of a figure, relative to the larger of its size and 1, that another machine may make."""

FACT = "is"
"""The one key of what is stated beside figures."""

_ROUNDED = frozenset({"value", "low", "high", "effective_N", "values"})
"""Parts of figures and outcomes that machines compute a little differently."""

_OWN_NAMES = frozenset({"detectors", "instruments", "model", "prompts", "protocol", "checkout", "release"})
"""Parts of the provenance that are told of under a name of their own."""

Content = dict[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Something that two results say differently.

    Attributes:
        name: Of a figure, ``ATTACK/NAME`` for an attack's, or of what else a file states.
        old: A figure or outcomes as plain data, else under the key `FACT`; None where it was not there.
        new: Likewise.
    """

    name: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None


def measured(result: PublishedResult) -> Content:
    """What came out: figures and outcomes of the cell and of its attacks, and the verdict."""
    cell = result.result
    found: Content = {figure["name"]: figure for figure in cell.figures}
    found |= {f"{record.label}/{f['name']}": f for record in cell.attacks for f in record.figures}
    found |= {f"outcomes/{name}": each.model_dump(mode="json") for name, each in result.outcomes.items()}
    return found | {"verdict": {FACT: cell.verdict}}


def stated(result: PublishedResult) -> Content:
    """Everything that a file states."""
    cell, facts = result.result, result.result.provenance
    plain = result.model_dump(
        mode="json", exclude={"result", "outcomes", "kind", "schema_version", "prompts"}
    )
    spent = cell.model_dump(
        mode="json", include={"spec", "stages", "status", "shown", "cost", "seconds", "error"}
    )
    machine = {name: value for name, value in facts.items() if name not in _OWN_NAMES}
    told = {
        **plain,
        **spent,
        "model": {**plain["model"], "provenance": facts.get("model")},
        "prompts": [{role: f.model_dump() for role, f in result.prompts.items()}, facts.get("prompts")],
        "release": {**plain["release"], "checkout": facts.get("checkout"), "release": facts.get("release")},
        "detectors": facts.get("detectors"),
        "instruments": facts.get("instruments"),
        "protocol": facts.get("protocol"),
        "machine": machine,
    }
    told |= {f"{a.label}/record": a.model_dump(mode="json", exclude={"figures"}) for a in cell.attacks}
    return measured(result) | {name: {FACT: value} for name, value in told.items()}


def differences(
    old: Content, new: Content, tolerance: float = TOLERANCE, names: Iterable[str] | None = None
) -> Iterator[Difference]:
    """What is said differently, by name.

    Args:
        old: See `measured` and `stated`.
        new: Likewise.
        tolerance: Of values and bounds, relative to the larger of their size and 1.
        names: What is compared; everything when None.
    """
    for name in sorted({*old, *new} if names is None else names):
        before, after = old.get(name), new.get(name)
        if before is None or after is None or not _alike(before, after, tolerance):
            yield Difference(name, *_narrowed(before, after))


def measured_otherwise(old: PublishedResult, new: PublishedResult) -> list[Difference]:
    """What came out of a result that another one, which stands for it, says differently or not at all."""
    content = measured(old)
    return list(differences(content, measured(new), names=content))


def _alike(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> bool:
    if old.keys() != new.keys():
        return False
    return all(
        _close(old[key], new[key], tolerance) if key in _ROUNDED else old[key] == new[key] for key in old
    )


def _close(old: Any, new: Any, tolerance: float) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_close, old, new, [tolerance] * len(old)))
    if old is None or new is None:
        return old is new
    return abs(old - new) <= tolerance * max(abs(old), abs(new), 1.0) and math.isfinite(old - new)


def _narrowed(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Of facts only what differs: a spec has many fields."""
    if old is None or new is None or FACT not in old or FACT not in new:
        return old, new
    before, after = _apart(old[FACT], new[FACT])
    return {FACT: before}, {FACT: after}


def _apart(old: Any, new: Any) -> tuple[Any, Any]:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return old, new
    nothing = object()
    keys = [key for key in {**old, **new} if old.get(key, nothing) != new.get(key, nothing)]
    pairs = {key: _apart(old.get(key), new.get(key)) for key in keys}
    return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
