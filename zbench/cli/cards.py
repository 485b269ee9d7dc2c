"""Cards of methods and attacks: fields with their bounds and meaning, values of each preset side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from zbench.docstrings import field_notes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.attacks import Attack
    from zbench.method import Method

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def card_of(kind: type[Method] | type[Attack]) -> dict[str, Any]:
    """Everything about a method or an attack as plain JSON: its card, its fields, its presets.

    Args:
        kind: The class.
    """
    notes = field_notes(kind)
    fields = {
        name: {
            "type": type_text(info.annotation, info.metadata),
            "default": None if info.is_required() else _plain(info.get_default(call_default_factory=True)),
            "required": info.is_required(),
            "description": notes.get(name, ""),
        }
        for name, info in kind.model_fields.items()
    }
    presets = {name: {key: _plain(value) for key, value in of.items()} for name, of in kind.presets.items()}
    return {"name": kind.name, **kind.card.model_dump(mode="json"), "fields": fields, "presets": presets}


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


# For readers ----------------------------------------------------------------------------------------------


def render(facts: Iterable[str], card: Mapping[str, Any]) -> RenderableType:
    """A card for a terminal: its facts, then fields with the values of each preset side by side.

    Args:
        facts: Lines.
        card: From `card_of`.
    """
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(line) for line in facts), _field_table(card))


def opening_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """Name, title and paper."""
    yield f"{card['name']}: {card['title']}"
    yield f"paper: {card['paper']}, arXiv {card['arxiv']}" if card["arxiv"] else f"paper: {card['paper']}"


def remark_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """Deviations from the paper, and notes."""
    for name in ("deviations", "notes"):
        if card[name]:
            yield f"{name}:"
            yield from (f"  - {item}" for item in card[name])


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
