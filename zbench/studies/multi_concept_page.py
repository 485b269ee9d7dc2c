"""The page of the study of several concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zbench.report.markdown import markdown_table
from zbench.statistics import Difference, Rate, difference_of_means, difference_of_rates, mcnemar_exact

Row = Mapping[str, Any]


def render_page(record: Row) -> str:
    """Markdown: what each way of erasing does, and paired comparisons.

    Args:
        record: What `study.json` holds.
    """
    parts = (_introduction, _arms, _members, _comparisons, _settings)
    return "\n\n".join(part(record) for part in parts) + "\n"


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
    members, kept = (_pooled(reading, config[key]) for key in ("members", "kept"))
    marks = [name for name in ("collapsed", "destroyed") if reading[name]]
    return (
        label, *_rate(members), *_rate(kept), _count(reading["objects"]), f"{reading['clip']['mean']:.2f}",
        _count(reading["flagged"]), " and ".join(marks) or "neither", f"{arm['seconds']:.0f}",
    )  # fmt: skip


def _members(record: Row) -> str:
    config = record["config"]
    names = [*config["members"], *config["kept"]]
    rows = [("", "original", *(_count(record["original"]["reading"]["found"][name]) for name in names))]
    rows += [
        (arm["method"], arm["label"], *(_count(arm["reading"]["found"][name]) for name in names))
        for arm in record["arms"]
    ]
    return "## Each member and each kept concept\n\n" + markdown_table(("method", "way", *names), rows)


def _comparisons(record: Row) -> str:
    config, rows, sentences = record["config"], list[tuple[str, ...]](), list[str]()
    for method in dict.fromkeys(arm["method"] for arm in record["arms"]):
        arms = [arm for arm in record["arms"] if arm["method"] == method]
        added = [arm for arm in arms if arm["kind"] == "added"]
        joint = [arm for arm in arms if arm["kind"] == "joint"][-1]
        for arm in added:
            rows.append((method, f"{arm['label']} minus {joint['label']}", *_compared(config, arm, joint)))
        for arm in added[1:]:
            rows.append(
                (method, f"{arm['label']} minus {added[0]['label']}", *_compared(config, arm, added[0]))
            )
        sentences.append(_verdict(config, method, added[0], joint))
    header = ("method", "difference", "members found, points", "p", "kept found, points", "p", "CLIP")
    return (
        "## Compared on the same prompts and seeds\n\nPaired differences; p by McNemar's exact test, not"
        " corrected for the number of comparisons.\n\n"
        + markdown_table(header, rows)
        + "\n\n"
        + "\n".join(sentences)
    )


def _compared(config: Row, first: Row, second: Row) -> tuple[str, ...]:
    cells: list[str] = []
    for names in (config["members"], config["kept"]):
        ours, theirs = _hits(first["reading"], names), _hits(second["reading"], names)
        test = mcnemar_exact(ours, theirs)
        cells += [_difference(difference_of_rates(ours, theirs), 100), f"{test.p_value:.2g}"]
    clip = difference_of_means(first["reading"]["clip"]["values"], second["reading"]["clip"]["values"])
    return (*cells, _difference(clip, 1))


def _verdict(config: Row, method: str, average: Row, joint: Row) -> str:
    """One sentence: which of the two leaves less of the members."""
    names = config["members"]
    ours, theirs = _hits(average["reading"], names), _hits(joint["reading"], names)
    interval = difference_of_rates(ours, theirs).interval
    assert interval is not None
    less = "more of the members than" if interval.low > 0 else "less of the members than"
    if interval.low <= 0 <= interval.high:
        less = "as much of the members, as far as these counts tell, as"
    return (
        f"- **{method}**: averaging (weight 1 / N) leaves {less} one joint training of equal length:"
        f" {_percent(sum(ours), len(ours))} against {_percent(sum(theirs), len(theirs))} found."
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


def _difference(found: Difference, factor: float) -> str:
    text = f"{factor * found.value:+.1f}"
    if found.interval is None:
        return text
    return f"{text} ({factor * found.interval.low:+.1f} to {factor * found.interval.high:+.1f})"


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.0f} %" if total else "none"


def _count(row: Row) -> str:
    return f"{row['n']}/{row['N']}"
