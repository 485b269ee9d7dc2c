"""What `zbench methods` prints: one line for each method, or the card of one with its fields and presets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.cli import cards

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.registry import Listed


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


def render_card(card: Mapping[str, Any]) -> RenderableType:
    """The card for a terminal.

    Args:
        card: From `zbench.cli.cards.card_of`.
    """
    return cards.render(_fact_lines(card), card)


def _fact_lines(card: Mapping[str, Any]) -> Iterator[str]:
    yield from cards.opening_lines(card)
    yield f"licence of the reference code: {card['reference_code_licence']}"
    yield f"changes: {card['weights']} ({card['rows']} rows)"
    yield f"needs training: {_yes(card['needs_training'])}; needs pictures: {_yes(card['needs_pictures'])}"
    yield from cards.remark_lines(card)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
