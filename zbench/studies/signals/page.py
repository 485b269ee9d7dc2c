"""The study's page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zbench.metrics.collapse.verdict import ABOVE_CHANCE
from zbench.report.markdown import markdown_table

Row = Mapping[str, Any]
PROMISED = 0.99
FALSE_FLAGS = 0.01
AT_CHANCE = 0.95


def render_page(record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        record: What `study.json` holds.
    """
    parts = (_introduction, _false_flags, _detection, _sets, _judged, _damage)
    return "\n\n".join(part(record) for part in parts) + "\n"


def _introduction(record: Mapping[str, Any]) -> str:
    config = record["config"]
    roles = ", ".join(f"{role} {count}" for role, count in config["calibration"].items())
    detector = config["detector"]
    return (
        "# Does the collapse detector notice a broken generator, and spare an intact one?\n\n"
        f"Protocol {config['protocol']}; calibrated on {config['thresholds']['calibrated_on']} pictures of"
        f" the original as in a run that erases {config['concept']} (prompts: {roles}). Objects are read by"
        f" `{detector['name']}` (file {detector['file_sha256'][:12]}), set signals by `{config['clip']}`."
        " Intervals are 95 %, clustered by prompt.\n\n"
        "*Tuning* rows are kinds of damage whose results were looked at while the rules were chosen, in some"
        " twenty settings and on two generators. *Validation* rows are kinds and seeds that were drawn up"
        " after the rules were fixed. Held-out pictures and directions of damage have seeds that were not"
        " looked at before either; their prompts and the ways of breaking are of the same sorts."
    )


def _false_flags(record: Mapping[str, Any]) -> str:
    rows = [(row["style"], *_rate(row), _rules(row)) for row in record["false_flags"]]
    total = [sum(row[key] for row in record["false_flags"]) for key in ("n", "N")]
    worst = max((_share(row) for row in record["false_flags"]), default=0.0)
    return (
        "## False flags: held-out pictures of the original\n\n"
        + markdown_table(("style", "flagged", "95 %", "rules"), rows)
        + f"\n\nAll together {total[0]} of {total[1]}; at most {FALSE_FLAGS:.0%} in every style:"
        f" {_yes(worst <= FALSE_FLAGS)}."
    )


def _detection(record: Mapping[str, Any]) -> str:
    rows = [
        (row["split"], row["group"], row["label"], *_rate(row), _promise(row), _rules(row))
        for row in record["detection"]
    ]
    return (
        "## Broken pictures: held-out pictures of all styles, broken on purpose\n\n"
        + markdown_table(("split", "group", "kind", "flagged", "95 %", "at least 99 %", "rules"), rows)
        + "\n\n"
        + _by_group(record["detection"])
        + "\n\nA grey picture has no colour to saturate, and a blurred one may be a style: the kinds without"
        " a promise are measured, not claimed."
    )


def _by_group(found: Sequence[Row]) -> str:
    """Promised kinds together: n of N by split and group."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in found:
        if row["promised"]:
            total = sums.setdefault((row["split"], row["group"]), [0, 0])
            total[0] += row["n"]
            total[1] += row["N"]
    rows = [
        (split, group, f"{n} of {total}", f"{100 * n / total:.2f} %", _yes(n / total >= PROMISED))
        for (split, group), (n, total) in sums.items()
    ]
    return markdown_table(("split", "group", "flagged", "share", "at least 99 %"), rows)


def _sets(record: Mapping[str, Any]) -> str:
    rows = [(row["split"], row["label"], *_rate(row), _promise(row)) for row in record["mode_collapse"]] + [
        ("validation", row["label"], *_rate(row), "none may be") for row in record["false_alarms"]
    ]
    return "## Sets that are all alike: called collapsed by their modes\n\n" + markdown_table(
        ("split", "set", "collapsed", "95 %", "at least 99 %"), rows
    )


def _judged(record: Mapping[str, Any]) -> str:
    return (
        "## Erased models, and models guided too strongly\n\n"
        + _models([*record["erased"], *record["over_guided"]])
        + "\n\nManifold precision is printed and has no rule: a CLIP that never saw noise may find noise"
        " among its pictures."
    )


def _damage(record: Mapping[str, Any]) -> str:
    at_chance = [row for row in record["damage"] if _share(row["objects"]) <= row["chance"] + ABOVE_CHANCE]
    flagged = sum(row["flagged"]["n"] for row in at_chance)
    drawn = sum(row["flagged"]["N"] for row in at_chance)
    share = flagged / drawn if drawn else 0.0
    return (
        "## Damage curve\n\nEvery weight matrix is perturbed by Gaussian noise of a share of its norm, in"
        f" {len({row['damage_seed'] for row in record['damage']})} directions.\n\n"
        "![damage curve](damage.png)\n\n"
        + _models(record["damage"])
        + f"\n\nWhere object accuracy is at most 5 points above chance ({len(at_chance)} models), {flagged}"
        f" of {drawn} pictures are flagged ({share:.1%}); at least {AT_CHANCE:.0%}:"
        f" {_yes(share >= AT_CHANCE) if drawn else 'no model fell so far'}."
    )


def _models(rows: Sequence[Row]) -> str:
    columns = ("model", "flagged", "95 %", "objects found", "modes", "precision (original's)", "verdict")
    return markdown_table(columns, [_model(row) for row in rows])


def _model(row: Row) -> tuple[str, ...]:
    modes, sets = row["sets"]["modes"], row["sets"]
    ratio = "–" if modes is None else f"{modes['value']:.2f} ({modes['low']:.2f} to {modes['high']:.2f})"
    precision = f"{_percent(sets['precision'])} ({_percent(sets['precision_original'])})"
    marks = [mark for mark in ("collapsed", "destroyed") if row[mark]]
    seed = f", direction {row['damage_seed']}" if "damage_seed" in row else ""
    found = f"{row['objects']['n']} of {row['objects']['N']}"
    return (
        row["hand"] + seed,
        *_rate(row["flagged"]),
        found,
        ratio,
        precision,
        ", ".join(marks) or "neither",
    )


def _rate(row: Row) -> tuple[str, str]:
    bounds = "" if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
    return f"{row['n']} of {row['N']} ({_percent(row)})", bounds


def _share(row: Row) -> float:
    return float(row["n"] / row["N"]) if row["N"] else 0.0


def _percent(row: Row) -> str:
    return f"{100 * _share(row):.1f} %"


def _promise(row: Row) -> str:
    return _yes(_share(row) >= PROMISED) if row["promised"] else "–"


def _yes(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _rules(row: Row) -> str:
    ordered = sorted(row["rules"].items(), key=lambda item: -item[1])
    return ", ".join(f"{rule} {count}" for rule, count in ordered[:4])
