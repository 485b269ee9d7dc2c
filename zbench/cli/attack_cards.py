"""`zbench attacks`: one line for each attack, or the card of one with its fields, presets and control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.cli import cards
from zbench.cli.catalogue import AsJson, Name, show_json
from zbench.errors import ZbenchError

if TYPE_CHECKING:
    from zbench.attacks import Attack

KNOWLEDGE = {
    "text": "types prompts, and nothing else",
    "encoder": "has the text encoder, and no other part of the model",
    "model": "has the erased transformer with its gradients",
    "weights": "changes the erased model itself",
}
"""What the attacker of each kind has, from the weakest to the strongest."""

_LISTED = ("title", "knowledge", "paper", "arxiv")


def attacks(name: Name = None, json: AsJson = False) -> None:
    """Attacks that try to bring an erased concept back."""
    if name is None:
        rows = listing()
        if json:
            show_json(rows)
        else:
            print("\n".join(listing_lines(rows)))
        return
    card = card_of(_known(name))
    if json:
        show_json(card)
        return
    from rich.console import Console

    Console().print(cards.render(fact_lines(card), card))


def _known(name: str) -> type[Attack]:
    """The class of an attack; replays are one too, though runs name them by what is replayed."""
    from zbench.attacks.replay import Replay
    from zbench.registry import load_attack

    return Replay if name.removesuffix(":") == Replay.name else load_attack(name)


def listing() -> list[dict[str, Any]]:
    """One plain row for each attack: zbench's own with what their cards say, other packages' by name only.

    Nothing breaks the listing: what cannot be imported is listed with its problem.
    """
    from zbench.registry import attack_names, own_attack_names

    own = own_attack_names()
    rows = [_row(name) if name in own else _named(name, own=False) for name in attack_names()]
    weakest_first = list(KNOWLEDGE)
    return sorted(rows, key=lambda row: weakest_first.index(row["knowledge"]) if row["knowledge"] else 9)


def _row(name: str) -> dict[str, Any]:
    from zbench.registry import load_attack

    try:
        card = load_attack(name).card.model_dump()
    except ZbenchError as error:
        return _named(name, problem=str(error))
    return {**_named(name), **{key: card[key] for key in _LISTED}}


def _named(name: str, own: bool = True, problem: str | None = None) -> dict[str, Any]:
    return {"name": name, **dict.fromkeys(_LISTED), "own": own, "problem": problem}


def listing_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as aligned lines: name, what the attacker has, title, paper."""
    if not rows:
        return ["none"]
    names, titles = (max(len(row[key] or "") for row in rows) for key in ("name", "title"))
    return [f"{row['name']:<{names}}  {_facts(row, titles)}" for row in rows]


def _facts(row: Mapping[str, Any], width: int) -> str:
    if row["problem"] is not None:
        return f"cannot be used: {row['problem']}"
    if row["title"] is None:
        return f"from another package: zbench attacks {row['name']}"
    paper = f"{row['paper']}, arXiv {row['arxiv']}" if row["arxiv"] else row["paper"]
    return f"{row['knowledge']:<7}  {row['title']:<{width}}  {paper}"


def card_of(attack: type[Attack]) -> dict[str, Any]:
    """Everything about an attack as plain JSON: its card, its fields, its presets, and its kind of candidate.

    Args:
        attack: The class.
    """
    return {**cards.card_of(attack), "model_wide": attack.model_wide}


def fact_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of a table should know, line by line.

    Args:
        card: From `card_of`.
    """
    yield from cards.opening_lines(card)
    yield f"the attacker: {KNOWLEDGE[card['knowledge']]} ({card['knowledge']})"
    yield f"control: {card['control']}"
    if card["model_wide"]:
        yield "candidates: changed models, each drawn for every prompt"
    yield from cards.remark_lines(card)
