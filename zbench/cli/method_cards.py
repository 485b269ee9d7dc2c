"""What `zbench methods` prints: one line for each method, or the card of one with its fields and presets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.method import Method
    from zbench.registry import Listed

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_SECTION = re.compile(r"^(Attributes|Args|Raises|Returns):$")
_ENTRY = re.compile(r"^ {4}(\w+): (.*)$")


# The list -------------------------------------------------------------------------------------------------


def listing(methods: Sequence[Listed]) -> list[dict[str, Any]]:
    """One plain row for each method.

    Args:
        methods: From `zbench.registry.list_methods`.
    """
    return [_row(each) for each in methods]


def _row(listed: Listed) -> dict[str, Any]:
    card = listed.method.card.model_dump() if listed.method else {}
    known = {key: card.get(key) for key in ("title", "needs_training", "rows")}
    return {"name": listed.name, "origin": listed.origin, **known, "problem": listed.problem}


def listing_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as aligned lines."""
    width = max((len(row["name"]) for row in rows), default=0)
    titles = max((len(row["title"] or "") for row in rows), default=0)
    return [f"{row['name']:<{width}}  {_facts(row, titles)}".rstrip() for row in rows]


def _facts(row: Mapping[str, Any], width: int) -> str:
    if row["problem"] is not None:
        return f"cannot be used: {row['problem']}"
    if row["title"] is None:
        return f"from the package {row['origin']}: zbench methods {row['name']}"
    trained = "trained" if row["needs_training"] else "training-free"
    rows = "no" if row["rows"] == "none" else row["rows"]
    return f"{row['title']:<{width}}  {trained:<13}  {rows} rows"


# The card -------------------------------------------------------------------------------------------------


def card_of(method: type[Method]) -> dict[str, Any]:
    """Everything about a method as plain JSON: its card, its fields, its presets.

    Args:
        method: The class.
    """
    notes = field_notes(method)
    fields = {
        name: {
            "type": type_text(info.annotation, info.metadata),
            "default": None if info.is_required() else _plain(info.get_default(call_default_factory=True)),
            "required": info.is_required(),
            "description": notes.get(name, ""),
        }
        for name, info in method.model_fields.items()
    }
    presets = {name: {key: _plain(value) for key, value in of.items()} for name, of in method.presets.items()}
    return {"name": method.name, **method.card.model_dump(mode="json"), "fields": fields, "presets": presets}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def type_text(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """A type as a reader writes it, with the bounds of its values.

    Args:
        annotation: Of a field.
        bounds: What pydantic keeps beside it: objects with ``ge``, ``gt``, ``le`` or ``lt``.
    """
    if annotation is type(None):
        text = "none"
    elif get_origin(annotation) is Literal:
        text = " | ".join(str(choice) for choice in get_args(annotation))
    else:
        text = getattr(annotation, "__name__", "") if isinstance(annotation, type) else ""
        text = text if text and not get_args(annotation) else _long_type(annotation)
    limits = [f"{sign} {value:g}" for bound in bounds for name, sign in _BOUNDS.items()
              if (value := getattr(bound, name, None)) is not None]  # fmt: skip
    return ", ".join([text, *limits])


def _long_type(annotation: Any) -> str:
    """Unions and containers, choices spelt out."""
    parts = [type_text(part) for part in get_args(annotation) if part is not Ellipsis]
    if _is_union(annotation):
        return " | ".join(parts)
    return f"list of {' | '.join(parts)}" if get_origin(annotation) in (tuple, list) else str(annotation)


def _is_union(annotation: Any) -> bool:
    from types import UnionType
    from typing import Union

    return get_origin(annotation) in (Union, UnionType)


def field_notes(method: type[Method]) -> dict[str, str]:
    """Field -> what the docstring of its class says of it under ``Attributes:``; the nearest class wins."""
    notes: dict[str, str] = {}
    for kind in reversed(method.__mro__):
        notes.update(_attributes(vars(kind).get("__doc__") or ""))
    return notes


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    section, name, text = "", "", ""
    for line in [*inspect.cleandoc(docstring).splitlines(), "end"]:
        entry = _ENTRY.match(line)
        if name and (entry or not line.startswith("        ")):
            yield name, text
            name = ""
        if _SECTION.match(line):
            section = line
        elif entry and section == "Attributes:":
            name, text = entry.groups()
        elif name:
            text = f"{text} {line.strip()}"


# The card for readers -------------------------------------------------------------------------------------


def render_card(card: Mapping[str, Any]) -> RenderableType:
    """The card for a terminal: facts, then fields with the values of each preset side by side.

    Args:
        card: From `card_of`.
    """
    from rich.console import Group
    from rich.text import Text

    lines = [Text(line) for line in _fact_lines(card)]
    return Group(*lines, _field_table(card))


def _fact_lines(card: Mapping[str, Any]) -> Iterator[str]:
    paper = f"{card['paper']}, arXiv {card['arxiv']}" if card["arxiv"] else card["paper"]
    yield f"{card['name']}: {card['title']}"
    yield f"paper: {paper}"
    yield f"licence of the reference code: {card['reference_code_licence']}"
    yield f"changes: {card['weights']} ({card['rows']} rows)"
    yield f"needs training: {_yes(card['needs_training'])}; needs pictures: {_yes(card['needs_pictures'])}"
    for name in ("deviations", "notes"):
        if card[name]:
            yield f"{name}:"
            yield from (f"  - {item}" for item in card[name])


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _field_table(card: Mapping[str, Any]) -> RenderableType:
    """Values that a preset leaves at the default are dim."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="fields and presets", title_justify="left")
    for heading in ("field", "type", "default", *card["presets"], "meaning"):
        table.add_column(heading, overflow="fold")
    for name, field in card["fields"].items():
        default = "required" if field["required"] else shown(field["default"])
        values = [
            Text(shown(of[name])) if name in of else Text(default, "dim") for of in card["presets"].values()
        ]
        table.add_row(name, Text(field["type"]), Text(default), *values, Text(field["description"]))
    return table


def shown(value: Any) -> str:
    """A value as a reader writes it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
