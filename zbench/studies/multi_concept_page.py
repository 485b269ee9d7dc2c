"""The page of the study of several concepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zbench.report.markdown import markdown_table
from zbench.statistics import Rate
from zbench.studies.paired import correct, paired_means, paired_rates, significant

Row = Mapping[str, Any]


FIGURES = {"members": "members found, points", "kept": "kept found, points", "clip": "CLIP"}
"""What two ways are compared by; each is a family of tests."""


def comparisons(record: Row) -> list[dict[str, Any]]:
    """Paired comparisons of what was added up with the joint training of equal length, and of the weights.

    Args:
        record: `config` and `arms` of the study.

    Returns:
        One row for each pair of ways: ``method``, ``first``, ``second`` and, under the names of `FIGURES`,
        what `zbench.studies.paired` says of first minus second, Holm-corrected over all pairs of all methods.
    """
    found = [
        {"method": first["method"], "first": first["label"], "second": second["label"]}
        | _compared(record["config"], first["reading"], second["reading"])
        for first, second in _pairs(record["arms"])
    ]
    for name in FIGURES:
        correct(row[name] for row in found)
    return found


def render_page(record: Row) -> str:
    """Markdown: what each way of erasing does, and paired comparisons.

    Args:
        record: What `study.json` holds.
    """
    parts = (_introduction, _arms, _members, _diverged, _comparisons, _settings)
    return "\n\n".join(text for part in parts if (text := part(record))) + "\n"


def _introduction(record: Row) -> str:
    config = record["config"]
    return (
        "# Several concepts: adding up updates, or one joint training?\n\n"
        f"Model {config['model']}; erased together: {', '.join(config['members'])}; to be kept:"
        f" {', '.join(config['kept'])}. {config['explicit']} prompts of each and"
        f" {config['unrelated']} unrelated ones, all of the tuning split; one training seed, so that"
        " differences speak of these erasures, not of the methods. *Added up* is one LoRA whose"
        " update is exactly the weighted sum of the members' products B A (ranks concatenated). Intervals are"
        " 95 %."
    )


def _arms(record: Row) -> str:
    config = record["config"]
    rows = [("", *_line(config, record["original"], "original"))]
    rows += [(arm["method"], *_line(config, arm, arm["label"])) for arm in record["arms"]]
    header = (
        "method", "way", "members found", "95 %", "kept found", "95 %", "objects", "CLIP", "flagged",
        "verdict", "training s",
    )  # fmt: skip
    return (
        "## What each way does\n\nLower is better for members, higher for the kept, for unrelated objects and"
        " for the CLIP score of unrelated prompts.\n\n" + markdown_table(header, rows)
    )


def _line(config: Row, arm: Row, label: str) -> tuple[str, ...]:
    reading = arm["reading"]
    if reading is None:
        return (label, *["–"] * 7, "diverged", "–")
    members, kept = (_pooled(reading, config[key]) for key in ("members", "kept"))
    marks = [name for name in ("collapsed", "destroyed") if reading[name]]
    return (
        label, *_rate(members), *_rate(kept), _count(reading["objects"]), f"{reading['clip']['mean']:.2f}",
        _count(reading["flagged"]), " and ".join(marks) or "neither", f"{arm['seconds']:.0f}",
    )  # fmt: skip


def _members(record: Row) -> str:
    names = [*record["config"]["members"], *record["config"]["kept"]]
    rows = [("", "original", *_each(record["original"]["reading"], names))]
    rows += [(arm["method"], arm["label"], *_each(arm["reading"], names)) for arm in record["arms"]]
    return "## Each member and each kept concept\n\n" + markdown_table(("method", "way", *names), rows)


def _each(reading: Row | None, names: Sequence[str]) -> list[str]:
    return ["–" if reading is None else _count(reading["found"][name]) for name in names]


def _diverged(record: Row) -> str:
    lines = [
        f"- {arm['method']}, {arm['label']}: {arm['diverged']}"
        for arm in record["arms"]
        if arm["reading"] is None
    ]
    return "## Without figures\n\nA training diverged.\n\n" + "\n".join(lines) if lines else ""


# Comparisons ----------------------------------------------------------------------------------------------


def _pairs(arms: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Every sum with the joint training of equal length, and every other weight with the average."""
    for method in dict.fromkeys(arm["method"] for arm in arms):
        average, *others, joint = _ways(arms, method)
        for arm in (average, *others):
            yield from _both(arm, joint)
        for arm in others:
            yield from _both(arm, average)


def _ways(arms: Sequence[Row], method: str) -> list[Row]:
    """The sums of a method, the average first, and its longest joint training."""
    ours = [arm for arm in arms if arm["method"] == method]
    return [*(arm for arm in ours if arm["kind"] == "added"), [a for a in ours if a["kind"] == "joint"][-1]]


def _both(first: Row, second: Row) -> Iterator[tuple[Row, Row]]:
    if first["reading"] is not None and second["reading"] is not None:
        yield first, second


def _compared(config: Row, first: Row, second: Row) -> dict[str, Any]:
    return {
        **{
            key: paired_rates(*(_hits(each, config[key]) for each in (first, second)))
            for key in ("members", "kept")
        },
        "clip": paired_means(first["clip"]["values"], second["clip"]["values"]),
    }


def _comparisons(record: Row) -> str:
    found = record["comparisons"]
    rows = [(row["method"], f"{row['first']} minus {row['second']}", *_cells(row)) for row in found]
    header = ["method", "difference"]
    for title in FIGURES.values():
        header += [title, "p"]
    methods = dict.fromkeys(arm["method"] for arm in record["arms"])
    return (
        "## Compared on the same prompts and seeds\n\nPaired differences with 95 % intervals, which are not"
        " corrected; p by McNemar's exact test, of CLIP by sign flips, Holm-corrected over all pairs of all"
        " methods, one figure at a time; bold below 0.05.\n\n"
        + markdown_table(header, rows)
        + "\n\n"
        + "\n".join(_verdict(record, method) for method in methods)
    )


def _cells(row: Row) -> list[str]:
    cells = []
    for name in FIGURES:
        test, factor = row[name], 1 if name == "clip" else 100
        text = _difference(test, factor)
        p_value = "–" if test["adjusted"] is None else f"{test['adjusted']:.2g}"
        cells += [f"**{text}**" if significant(test) else text, p_value]
    return cells


def _verdict(record: Row, method: str) -> str:
    """One sentence: which of the two leaves less of the members."""
    average, *_, joint = _ways(record["arms"], method)
    pair = (method, average["label"], joint["label"])
    row = next((r for r in record["comparisons"] if (r["method"], r["first"], r["second"]) == pair), None)
    start = f"- **{method}**: averaging (weight 1 / N) and one joint training of equal length"
    if row is None:
        return f"{start} cannot be compared: a training diverged."
    names = record["config"]["members"]
    ours, theirs = (_pooled(arm["reading"], names) for arm in (average, joint))
    figures = f"{_percent(ours)} against {_percent(theirs)} found"
    if not significant(row["members"]):
        said = "cannot be told apart in what they leave of the members, which does not make them equal"
        return f"{start} {said}: {figures}."
    less = "more" if row["members"]["value"] > 0 else "less"
    return (
        f"- **{method}**: averaging (weight 1 / N) leaves {less} of the members than one joint training of"
        f" equal length: {figures}."
    )


def _settings(record: Row) -> str:
    lines = [
        f"- {method}: " + ", ".join(f"{field} {value}" for field, value in fields.items())
        for method, fields in record["config"]["hyperparameters"].items()
    ]
    return "## Hyper-parameters\n\n" + "\n".join(lines)


def _hits(reading: Row, names: Sequence[str]) -> list[bool]:
    return [bool(hit) for name in names for hit in reading["found"][name]["hits"]]


def _pooled(reading: Row, names: Sequence[str]) -> Rate:
    return Rate.of(_hits(reading, names))


def _rate(rate: Rate) -> tuple[str, str]:
    bounds = rate.interval()
    spread = "–" if bounds is None else f"{100 * bounds.low:.0f} to {100 * bounds.high:.0f} %"
    return f"{rate.successes}/{rate.total}", spread


def _difference(test: Row, factor: float) -> str:
    if test["value"] is None:
        return "–"
    text = f"{factor * test['value']:+.1f}"
    if test["low"] is None:
        return text
    return f"{text} ({factor * test['low']:+.1f} to {factor * test['high']:+.1f})"


def _percent(rate: Rate) -> str:
    return "none" if rate.value is None else f"{100 * rate.value:.0f} %"


def _count(row: Row) -> str:
    return f"{row['n']}/{row['N']}"
