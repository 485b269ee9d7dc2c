"""Every run that differs from the naive one, beside it: the same prompts and seeds, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from zbench.studies.collapse.effects import RESPONSES
from zbench.studies.collapse.plan import changes, level_name, naive_of
from zbench.studies.paired import correct, paired_rates

Row = Mapping[str, Any]

KINDS = {1: "single", 2: "several"}


def compared_with_naive(rows: Sequence[Row], concept: str, scales: Sequence[str]) -> list[dict[str, Any]]:
    """Paired comparisons with the naive run.

    A family of tests is one figure, at both strengths, over all single changes; or over all runs that change
    several settings at once.

    Args:
        rows: The study's `runs`.
        concept: Whose success rate is meant.
        scales: Strengths at which all runs were drawn.

    Returns:
        One row for each run, strength and figure: ``label``, ``kind`` (``single`` or ``several`` changes),
        ``scale``, ``response``, and what `zbench.studies.paired` says of that run minus the naive one.
    """
    naive, found = naive_of(rows), []
    for row, scale, name in product(rows, dict.fromkeys(scales), RESPONSES):
        if kind := kind_of(row, naive):
            ours, theirs = (_hits(one["readings"][scale], concept, name) for one in (row, naive))
            about = {"label": change_label(row, naive), "kind": kind, "scale": scale, "response": name}
            found.append({**about, **paired_rates(ours, theirs)})
    for kind, name in product(KINDS.values(), RESPONSES):
        correct(one for one in found if (one["kind"], one["response"]) == (kind, name))
    return found


def kind_of(row: Row, naive: Row) -> str | None:
    """``single`` or ``several``: how many settings a run changes; None for other seeds and combinations.

    Runs of the factorial that differ from the naive one in several factors are read off the effects instead.
    """
    changed = len(changes(row["run"], naive["run"]))
    if not changed or row["run"]["seed"] != naive["run"]["seed"]:
        return None
    if row["group"] == "factorial" and changed > 1:
        return None
    return KINDS[min(changed, 2)]


def change_label(row: Row, naive: Row) -> str:
    """What a run changes, in words; a run of the factorial by its level."""
    if row["group"] != "factorial":
        return str(row["label"])
    return ", ".join(f"{name} {level_name(row['run'][name])}" for name in changes(row["run"], naive["run"]))


def _hits(reading: Row, concept: str, name: str) -> list[bool]:
    every = {
        "flagged": reading["flags"],
        "objects": reading["object_hits"],
        "success": reading["found"][concept]["hits"],
    }
    return [bool(hit) for hit in every[name]]
