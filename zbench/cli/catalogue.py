"""Listing commands: names without importing anything heavy; with a NAME, its card."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from zbench.cli.options import Plugins

PANEL = "Catalogue"

Name = Annotated[str | None, typer.Argument(help="Show the card of this one.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


def show_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json_module.dumps(value, indent=2, ensure_ascii=False))


def _show_names(names: Sequence[str], as_json: bool) -> None:
    if as_json:
        show_json(list(names))
    else:
        print("\n".join(names) if names else "none")


def show_groups(groups: Mapping[str, Sequence[str]], as_json: bool) -> None:
    """Prints names under the title of their group."""
    if as_json:
        show_json(groups)
        return
    for title, names in groups.items():
        print(f"{title}:")
        print("\n".join(f"  {name}" for name in names) or "  none")


def show_card(card: Mapping[str, Any], as_json: bool) -> None:
    """Prints a card: one `field: value` a line, lists item by item."""
    if as_json:
        show_json(card)
        return
    for field, value in card.items():
        if isinstance(value, list | tuple) and value:
            print(f"{field}:")
            print("\n".join(f"  - {item}" for item in value))
        elif isinstance(value, Mapping) and value:
            print(f"{field}:")
            print("\n".join(f"  {key}: {item}" for key, item in value.items()))
        else:
            print(f"{field}: {'–' if value in (None, '', [], (), {}) else value}")


def methods(name: Name = None, plugins: Plugins = None, json: AsJson = False) -> None:
    """Erasure methods that are installed, or defined in a file."""
    from zbench.cli import cards, method_cards
    from zbench.registry import list_methods, load_method

    if name is None:
        rows = method_cards.listing(list_methods(plugins or ()))
        if json:
            show_json(rows)
        else:
            print("\n".join(method_cards.listing_lines(rows)))
        return
    card = cards.card_of(load_method(name, plugins or ()))
    if json:
        show_json(card)
        return
    from rich.console import Console

    Console().print(method_cards.render_card(card))


def concepts(
    name: Name = None,
    domain: Annotated[str | None, typer.Option(help="world or photograph.  [world, then photograph]")] = None,
    json: AsJson = False,
) -> None:
    """Concepts that can be erased, by domain of models."""
    from zbench.concepts import concept_names, known_domains, load_concept
    from zbench.errors import UnknownNameError

    groups = {one: concept_names(one) for one in known_domains(domain)}
    if name is None:
        show_groups(groups, json)
        return
    home = next((one for one, names in groups.items() if name in names), None)
    if home is None:
        raise UnknownNameError.of("concept", name, {known for names in groups.values() for known in names})
    show_card({"domain": home, **load_concept(name, home).model_dump(mode="json")}, json)


def detectors(name: Name = None, json: AsJson = False) -> None:
    """Detectors that are installed."""
    from zbench.registry import detector_names, load_detector

    if name is None:
        _show_names(detector_names(), json)
        return
    show_card(load_detector(name).describe(), json)


def models(name: Name = None, json: AsJson = False) -> None:
    """Models that are known by name; any saved ZImagePipeline works by its folder."""
    from zbench.model import load_spec, model_names

    if name is None:
        _show_names(model_names(), json)
        return
    show_card(load_spec(name).model_dump(mode="json"), json)
