"""What the figures say, in words; nothing here is written by hand about any particular outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zbench.studies.collapse.changed import change_label, kind_of
from zbench.studies.collapse.plan import FACTORS, level_name, naive_of
from zbench.studies.paired import significant

Row = Mapping[str, Any]

WORDS = {
    "rows": "adapters on all rows instead of text rows",
    "preservation": "no preservation loss",
    "time": "the release's time input",
    "latents": "pure noise for latents",
}
UNITS = {"flagged": "flagged unrelated pictures", "objects": "unrelated objects found"}
"""The figures that tell of a broken model."""


EXPLAINED = {
    (True, False): "naive fine-tuning breaks with all rows and not with text rows, as the explanation has it",
    (True, True): "naive fine-tuning breaks with either rows: sharing the projections is not what it takes",
    (False, True): "naive fine-tuning breaks with text rows and not with all, against the explanation",
    (False, False): "in a model of this size shared projections alone do not break naive fine-tuning",
}
"""Whether it breaks on all rows, and on text rows -> what that says."""


def broken(reading: Row) -> bool:
    """Whether the verdict on a reading is collapsed or destroyed."""
    return bool(reading["collapsed"] or reading["destroyed"])


def damaged(reading: Row, record: Row) -> bool:
    """Whether less than half of the unrelated objects that the original shows is left."""
    found, before = reading["objects"], record["original"]["reading"]["objects"]
    return bool(2 * found["n"] * before["N"] < before["n"] * found["N"])


def mark(reading: Row) -> str:
    """The verdict in a word or two."""
    marks = [name for name in ("collapsed", "destroyed") if reading[name]]
    return " and ".join(marks) or "neither"


def strengths(record: Row) -> list[str]:
    """The strengths at which every run was drawn, as readings name them."""
    return list(dict.fromkeys(("1", f"{record['config']['released_scale']:g}")))


def conclusions(record: Row) -> list[str]:
    """One sentence or two for each question that the study asks."""
    found: list[str] = []
    for scale in strengths(record):
        found += [_at(record, scale), _moved(record, scale)]
    parts = (_seeds, _shared, _strength, _single, _several, _diverged)
    return [*found, *(sentence for part in parts for sentence in part(record))]


# The factorial --------------------------------------------------------------------------------------------


def _at(record: Row, scale: str) -> str:
    rows = _factorial(record)
    bad = [row for row in rows if broken(row["readings"][scale])]
    others = [row for row in rows if not broken(row["readings"][scale])]
    lost = [row for row in others if row["diverged"]]
    counts = f"{len(bad)} of the {len(rows)} fine-tunings of the factorial"
    said = f"**Strength {scale}**: {counts} break the model"
    said += f" ({_kinds(bad, scale)})" if bad else ""
    said += f"; {len(lost)} more diverged while training" if lost else ""
    hurt = [row for row in others if damaged(row["readings"][scale], record)]
    said += f"; {len(hurt)} more leave less than half of the unrelated objects" if hurt else ""
    if not bad:
        none = "In a model of this size none of these combinations makes fine-tuning collapse."
        return f"{said}." if lost or hurt else f"{said}. {none}"
    if len(bad) == len(rows):
        return f"{said}. It breaks at either level of every factor: none of them is what it takes."
    return f"{said}. Breaking, by factor: {'; '.join(_levels(rows, scale, factor) for factor in FACTORS)}."


def _factorial(record: Row) -> list[Row]:
    return [row for row in record["runs"] if row["group"] == "factorial"]


def _kinds(rows: Sequence[Row], scale: str) -> str:
    collapsed = sum(row["readings"][scale]["collapsed"] for row in rows)
    destroyed = sum(row["readings"][scale]["destroyed"] for row in rows)
    return f"{collapsed} collapsed, {destroyed} destroyed"


def _levels(rows: Sequence[Row], scale: str, factor: str) -> str:
    """How many break at each level of a factor."""
    counts = []
    for level in FACTORS[factor]:
        there = [row for row in rows if row["run"][factor] == level]
        counts.append(
            f"{level_name(level)} {sum(broken(row['readings'][scale]) for row in there)} of {len(there)}"
        )
    return f"{factor} {', '.join(counts)}"


def _moved(record: Row, scale: str) -> str:
    """Main effects on flagged pictures and on objects that hold after Holm's correction."""
    main = {
        name: [term for term in record["effects"][name]["by_scale"][scale] if term["term"] in FACTORS]
        for name in UNITS
    }
    return " ".join([*_tested(main, scale), *_untested(main, scale)])


def _tested(main: Mapping[str, Sequence[Row]], scale: str) -> list[str]:
    """Effects that hold, or the figures that none was shown on."""
    telling = [(name, term) for name, terms in main.items() for term in terms if significant(term)]
    telling.sort(key=lambda each: -abs(each[1]["estimate"]))
    listed = [f"{WORDS[term['term']]}: {_points(term)} {UNITS[name]}" for name, term in telling]
    if listed:
        return [f"Main effects at strength {scale} that differ from zero: {'; '.join(listed)}."]
    judged = [UNITS[name] for name, terms in main.items() if any(term["p"] is not None for term in terms)]
    if not judged:
        return []
    return [
        f"At strength {scale} no main effect on {' or '.join(judged)} can be told from zero, which does not"
        " make them zero."
    ]


def _untested(main: Mapping[str, Sequence[Row]], scale: str) -> Iterator[str]:
    """Figures whose effects no test can judge, because nothing is left over to measure noise by."""
    for name, terms in main.items():
        if any(term["p"] is not None for term in terms):
            continue
        moved = [term for term in terms if abs(term["estimate"]) > 1e-9]
        if not moved:
            yield f"At strength {scale} the main effects on {UNITS[name]} are all zero and cannot be tested."
        else:
            listed = "; ".join(f"{WORDS[term['term']]} {_points(term)}" for term in moved)
            yield (
                f"At strength {scale} the effects fit {UNITS[name]} exactly, so that nothing is left over to"
                f" measure noise by and none can be tested: {listed}."
            )


def _points(term: Row) -> str:
    estimate = f"{signed(term['estimate'])} points"
    return (
        estimate if term["low"] is None else f"{estimate} ({signed(term['low'])} to {signed(term['high'])})"
    )


def signed(share: float) -> str:
    """Percentage points; what rounds to zero has no sign to speak of."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _seeds(record: Row) -> list[str]:
    """How far equal settings lie apart."""
    parts = []
    for scale in strengths(record):
        found = [f"{_range(record['effects'][name]['seeds'][scale])} {unit}" for name, unit in UNITS.items()]
        parts.append(f"at strength {scale} {' and '.join(found)}")
    count = len(record["effects"]["flagged"]["seeds"]["1"])
    return [f"The naive run with {count} training seeds gives {'; '.join(parts)}."]


def _range(values: Sequence[float]) -> str:
    low, high = (f"{100 * bound(values):.0f}" for bound in (min, max))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _shared(record: Row) -> list[str]:
    """The paper's own explanation, put to the test: rows by preservation, conventions right."""
    right = [row for row in _factorial(record) if _conventions(row) == ("right", "trajectory")]
    kept = {False: "nothing preserved", True: "preserved"}
    parts = []
    for scale in strengths(record):
        cells = [
            f"{rows} rows {words} {_state(_cell(right, rows, level), scale)}"
            for rows in ("all", "text")
            for level, words in kept.items()
        ]
        parts.append(f"at strength {scale} {', '.join(cells)}")
    everywhere, text = (_cell(right, rows, False) for rows in ("all", "text"))
    return [
        "The paper's explanation is the shared projections. With right conventions:"
        f" {'; '.join(parts)}. {_explained(everywhere, text)}"
    ]


def _conventions(row: Row) -> tuple[str, str]:
    return row["run"]["time"], row["run"]["latents"]


def _cell(rows: Sequence[Row], level: str, preserved: bool) -> list[Row]:
    return [row for row in rows if (row["run"]["rows"], row["run"]["preservation"]) == (level, preserved)]


def _state(rows: Sequence[Row], scale: str) -> str:
    """The verdict of a cell's only run, or how many of its training seeds break."""
    if len(rows) == 1:
        return _verdict_on(rows[0], scale)
    return f"{sum(broken(row['readings'][scale]) for row in rows)} of {len(rows)} break"


def _verdict_on(row: Row, scale: str) -> str:
    return mark(row["readings"][scale]) + (" (diverged)" if row["diverged"] else "")


def _explained(everywhere: Sequence[Row], text: Sequence[Row]) -> str:
    """What the runs without preservation, on all rows and on text rows, say about the explanation."""
    states = [{broken(row["readings"]["1"]) for row in rows} for rows in (everywhere, text)]
    seeds = "one training seed, a claim needs three" if len(text) == 1 else f"{len(text)} training seeds"
    if any(row["diverged"] for row in (*everywhere, *text)):
        said = "a run diverged, so that nothing is settled"
    elif len(states[0]) > 1 or len(states[1]) > 1:
        said = "training seeds disagree, so that nothing is settled"
    else:
        said = EXPLAINED[states[0].pop(), states[1].pop()]
    return f"At strength 1 {said} ({seeds})."


def _strength(record: Row) -> list[str]:
    scales = strengths(record)
    if len(scales) == 1:
        return []
    flagged, objects = (record["effects"][name]["scale"] for name in UNITS)
    return [
        f"Multiplying the same trained adapters by {scales[1]} when pictures are drawn:"
        f" {_points(flagged)} {UNITS['flagged']}, {_points(objects)} {UNITS['objects']}, mean"
        " over the factorial."
    ]


# Changes of the naive run ---------------------------------------------------------------------------------


def _single(record: Row) -> list[str]:
    naive = naive_of(record["runs"])
    rows = [row for row in record["runs"] if kind_of(row, naive) == "single"]
    parts = []
    for scale in strengths(record):
        state = _verdict_on(naive, scale)
        bad = [change_label(row, naive) for row in rows if broken(row["readings"][scale])]
        who = ", ".join(bad) if 0 < len(bad) < len(rows) else "all" if bad else "none"
        parts.append(f"at strength {scale}, where the verdict on the naive run itself is {state}: {who}")
    return [
        f"Of the {len(rows)} single changes to the naive run, these break the model {'; '.join(parts)}.",
        _different(record, "single", "single changes"),
    ]


def _several(record: Row) -> list[str]:
    """Runs that change more than one thing, which say nothing about either."""
    naive = naive_of(record["runs"])
    rows = [row for row in record["runs"] if kind_of(row, naive) == "several"]
    if not rows:
        return []
    listed = []
    for row in rows:
        marks = [f"{_verdict_on(row, scale)} at strength {scale}" for scale in strengths(record)]
        listed.append(f"{row['label']}: {', '.join(marks)}")
    return [
        f"Several changes at once, which cannot be told apart by these runs: {'; '.join(listed)}.",
        _different(record, "several", "changes of several settings"),
    ]


def _different(record: Row, kind: str, words: str) -> str:
    """Which paired comparisons with the naive run hold after Holm's correction."""
    tests = [row for row in record["paired"] if row["kind"] == kind and row["response"] in UNITS]
    telling = [
        f"{row['label']}, strength {row['scale']}: {signed(row['value'])} points {UNITS[row['response']]}"
        for row in tests
        if significant(row)
    ]
    if not telling:
        return (
            f"Beside the naive run, picture by picture, none of the {words} can be told from it in"
            " flagged pictures or unrelated objects, which does not make them equal."
        )
    return f"Beside the naive run, picture by picture, these {words} differ: {'; '.join(telling)}."


def _diverged(record: Row) -> list[str]:
    rows = [row for row in record["runs"] if row["diverged"]]
    if not rows:
        return []
    listed = "; ".join(f"{row['label']} ({progress(row)})" for row in rows)
    return [
        f"{len(rows)} of the {len(record['runs'])} fine-tunings diverged: {listed}. Their pictures are drawn"
        " with the adapters as they were before the step that failed: where they look intact, training"
        " did not."
    ]


def progress(row: Row) -> str:
    """How far a run that diverged came."""
    return f"after {row['steps']} of {row['run']['steps']} steps"
