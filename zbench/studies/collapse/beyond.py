"""What the study can and cannot say about the model that the paper is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zbench.studies.collapse.plan import naive_of
from zbench.studies.collapse.verdicts import broken

Row = Mapping[str, Any]

PAPER = 6_154_908_736
"""Parameters of the transformer that the paper's observation is about."""


def beyond(record: Row) -> str:
    """What can and cannot be said about the model that the paper is about."""
    parameters = record["original"]["parameters"]
    if parameters == PAPER:
        return "This is a transformer of the size that the paper's observation is about."
    states = [broken(reading) for row in record["runs"] for reading in row["readings"].values()]
    parts = [
        f"The paper's observation is about Z-Image-Turbo, whose transformer has {PAPER:,} parameters; the one"
        f" measured here has {parameters:,}.",
        *(_candidates() if any(states) else ()),
        *(_not_cleared() if not all(states) else ()),
        _naive_here(naive_of(record["runs"])),
        "The same command answers for the large model: `zbench study collapse --model z-image-turbo`.",
    ]
    return " ".join(parts)


def _candidates() -> list[str]:
    return [
        "What breaks this model is shown to break a single-stream transformer in a model of this size, and is"
        " a candidate in the large one."
    ]


def _not_cleared() -> list[str]:
    return [
        "What does not break this one is not cleared: depth, number format, length of training and the"
        " richness of the pictures differ, and a collapse may need all of them."
    ]


def _naive_here(naive: Row) -> str:
    if naive["diverged"]:
        return "The naive run diverged here, which says nothing about the paper's pictures."
    if broken(naive["readings"]["1"]):
        return (
            "That the naive run breaks here shows that it can in a model of this size, not that the paper's"
            " pictures broke for the same reason."
        )
    return (
        "Nor does the intact naive run here say that the paper's pictures did not collapse: it says that"
        " in a model of this size shared projections alone are not enough."
    )
