"""The file form of a published result: JSON whose lines a person can compare.

Keys are sorted and every figure, outcome, picture and series stands on a line of its own, so that a change
of one figure is a change of one line. Equal results give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zbench.results.schema import FIGURE_DEFAULTS
from zbench.store import canonical_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from zbench.results.schema import PublishedResult

EACH = "[]"
"""Stands for the items of a list in a path."""

_OPENED = frozenset(
    {
        (),
        ("concept",),
        ("gallery",),
        ("gallery", "pictures"),
        ("method",),
        ("method", "card"),
        ("method", "card", "deviations"),
        ("method", "card", "notes"),
        ("method", "fields"),
        ("model",),
        ("outcomes",),
        ("prompts",),
        ("result",),
        ("result", "attacks"),
        ("result", "attacks", EACH),
        ("result", "attacks", EACH, "figures"),
        ("result", "figures"),
        ("result", "provenance"),
        ("result", "spec"),
        ("result", "spec", "attacks"),
        ("result", "stages"),
        ("trace",),
        ("trace", "series"),
    }
)
"""Paths of what is spread over several lines."""


def to_text(result: PublishedResult) -> str:
    """The content of a result's file; what figures, outcomes and pictures do not have is left out."""
    record = result.model_dump(mode="json", exclude={"outcomes": True, "gallery": {"pictures"}})
    record["outcomes"] = {name: _plain(each) for name, each in result.outcomes.items()}
    for part in (record["result"], *record["result"].get("attacks", ())):
        part["figures"] = [_sparse(figure) for figure in part["figures"]]
    record["gallery"]["pictures"] = [_plain(each) for each in result.gallery.pictures]
    return pretty(record)


def _sparse(figure: dict[str, Any]) -> dict[str, Any]:
    """A figure without its empty fields; reading fills them in again."""
    nothing = object()
    return {name: value for name, value in figure.items() if value != FIGURE_DEFAULTS.get(name, nothing)}


def _plain(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json", exclude_defaults=True)


def pretty(value: Any) -> str:
    """JSON with the parts of a published result on lines of their own, a line end after the last one.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    return "".join(_written(value, (), "")) + "\n"


def _written(value: Any, path: tuple[str, ...], indent: str) -> Iterator[str]:
    if path not in _OPENED or not value or not isinstance(value, dict | list):
        yield canonical_json(value)
        return
    inner = f"{indent} "
    items = [(EACH, each) for each in value] if isinstance(value, list) else sorted(value.items())
    opening, closing = "[]" if isinstance(value, list) else "{}"
    yield opening
    for number, (key, each) in enumerate(items):
        name = "" if isinstance(value, list) else f"{json.dumps(key, ensure_ascii=False)}: "
        yield f"{',' if number else ''}\n{inner}{name}"
        yield from _written(each, (*path, key), inner)
    yield f"\n{indent}{closing}"
