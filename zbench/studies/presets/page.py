"""The page of the preset search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render_page(record: Mapping[str, Any]) -> str:
    """Markdown: the rule, what was chosen, and every configuration that was tried.

    Args:
        record: As `presets_study` writes it.
    """
    methods: Mapping[str, Any] = record["methods"]
    count = sum(len(found["tried"]) for found in methods.values())
    seconds = sum(found["seconds"] for found in methods.values())
    lines = [
        "# Which presets were chosen, and how",
        "",
        f"Model {record['model']}; concepts {', '.join(record['concepts'])}, which no table reports; the"
        f" first {record['prompts']} prompts of each tuning set; training seed 0.",
        "",
        f"The same rule for every method. {record['rule']}",
        "",
        f"{count} configurations of {len(methods)} methods; {seconds / 60:.0f} minutes of training in all"
        " (drawing and scoring not counted).",
        "",
        "## Chosen",
        "",
        "| method | chosen | success, % | loss of CLIP score | training, s |",
        "|---|---|---|---|---|",
        *(_chosen(name, found, len(record["concepts"])) for name, found in methods.items()),
    ]
    for name, found in methods.items():
        lines += ["", f"## {name}", "", *_table(found, record["concepts"])]
    return "\n".join(lines) + "\n"


def _chosen(name: str, found: Mapping[str, Any], concepts: int) -> str:
    if found["chosen"] is None:
        return f"| {name} | none gave figures | – | – | – |"
    row = found["tried"][found["chosen"]]
    return (
        f"| {name} | {_settings(row)} | {100 * row['success']:.1f} | {row['clip_loss']:.2f} |"
        f" {row['seconds'] / concepts:.1f} |"
    )


def _table(found: Mapping[str, Any], concepts: list[str]) -> list[str]:
    heads = "".join(f" {name}: found | CLIP | objects, % | flagged, % |" for name in concepts)
    lines = [
        f"| configuration |{heads} success, % | loss of CLIP score | |",
        "|---|" + "---|" * (4 * len(concepts) + 3),
    ]
    for index, row in enumerate(found["tried"]):
        mark = "chosen" if index == found["chosen"] else "collapsed" if row["collapsed"] else ""
        cells = "".join(_trial(trial) for trial in row["trials"])
        if row["success"] is None:
            lines.append(f"| {_settings(row)} |{cells} – | – | {mark} |")
        else:
            lines.append(
                f"| {_settings(row)} |{cells} {100 * row['success']:.1f} | {row['clip_loss']:.2f} | {mark} |"
            )
    return lines


def _trial(trial: Mapping[str, Any]) -> str:
    if trial["status"] != "done":
        return f" {trial['status']} | – | – | – |"
    objects = "–" if trial["objects"] is None else f"{100 * trial['objects']:.0f}"
    return (
        f" {trial['found']}/{trial['asked']} | {trial['clip_score']:.1f} | {objects} |"
        f" {100 * trial['flagged']:.0f} |"
    )


def _settings(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{field} {value}" for field, value in row["settings"].items()) or "as the preset"
