"""What the figures say, in words; nothing here is written by hand about any particular outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zbench.studies.collapse.plan import FACTORS

Row = Mapping[str, Any]

WORDS = {
    "rows": "adapters on all rows instead of text rows",
    "preservation": "no preservation loss",
    "time": "the release's time input",
    "latents": "pure noise for latents",
}
PAPER = 6_154_908_736
"""Parameters of the transformer that the paper's observation is about."""


def broken(reading: Row) -> bool:
    """Whether the verdict on a reading is collapsed or destroyed."""
    return bool(reading["collapsed"] or reading["destroyed"])


def mark(reading: Row) -> str:
    """The verdict in a word or two."""
    marks = [name for name in ("collapsed", "destroyed") if reading[name]]
    return " and ".join(marks) or "neither"


def level_name(level: bool | str) -> str:
    """A factor's level as a page prints it."""
    return level if isinstance(level, str) else "on" if level else "off"


def conclusions(record: Row) -> list[str]:
    """One sentence for each question that the study asks."""
    scales = ["1", f"{record['config']['released_scale']:g}"]
    found = [sentence for scale in dict.fromkeys(scales) for sentence in _at(record, scale)]
    return [*found, *_shared(record, scales), *_strength(record, scales), *_contrasts(record, scales)]


def _at(record: Row, scale: str) -> list[str]:
    rows = [row for row in record["runs"] if row["group"] == "factorial"]
    bad = [row for row in rows if broken(row["readings"][scale])]
    first = (
        f"**Strength {scale}**: {len(bad)} of the {len(rows)} fine-tunings of the factorial break the model"
    )
    if not bad:
        return [f"{first}. No factor makes naive fine-tuning collapse here.", *_moved(record, scale)]
    levels = "; ".join(_levels(rows, scale, factor) for factor in FACTORS)
    return [f"{first} ({_kinds(bad, scale)}). By factor: {levels}.", *_moved(record, scale)]


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


def _moved(record: Row, scale: str) -> list[str]:
    """Main effects on flagged pictures and on objects whose interval leaves zero out."""
    moved = []
    for name, unit in (("flagged", "flagged unrelated pictures"), ("objects", "unrelated objects found")):
        terms = record["effects"][name]["by_scale"][scale]
        telling = [term for term in terms if term["term"] in FACTORS and _telling(term)]
        telling.sort(key=lambda term: -abs(term["estimate"]))
        moved += [f"{WORDS[term['term']]}: {_points(term)} {unit}" for term in telling]
    if not moved:
        return [
            f"At strength {scale} no main effect on flagged pictures or on unrelated objects differs from"
            " zero by its 95 % interval."
        ]
    return [f"Main effects at strength {scale} that differ from zero: {'; '.join(moved)}."]


def _telling(term: Row) -> bool:
    return term["low"] is not None and (term["low"] > 0 or term["high"] < 0)


def _points(term: Row) -> str:
    estimate = f"{100 * term['estimate']:+.1f} points"
    return estimate if term["low"] is None else f"{estimate} ({_bounds(term)})"


def _bounds(term: Row) -> str:
    return f"{100 * term['low']:+.1f} to {100 * term['high']:+.1f}"


def _shared(record: Row, scales: Sequence[str]) -> list[str]:
    """The paper's own explanation, put to the test: rows by preservation, conventions right."""
    found = {
        (row["run"]["rows"], row["run"]["preservation"]): row["readings"]
        for row in record["runs"]
        if row["group"] == "factorial"
        and (row["run"]["time"], row["run"]["latents"], row["run"]["seed"]) == ("right", "trajectory", 0)
    }
    kept = {False: "nothing preserved", True: "preserved"}
    parts = [
        f"at strength {scale} "
        + ", ".join(
            f"{rows} rows {kept[preserved]} {mark(readings[scale])}"
            for (rows, preserved), readings in sorted(found.items())
        )
        for scale in dict.fromkeys(scales)
    ]
    return [f"The paper's explanation is the shared projections. With right conventions: {'; '.join(parts)}."]


def _strength(record: Row, scales: Sequence[str]) -> list[str]:
    if scales[0] == scales[1]:
        return []
    flagged, objects = (record["effects"][name]["scale"] for name in ("flagged", "objects"))
    return [
        f"Multiplying the same trained adapters by {scales[1]} when pictures are drawn:"
        f" {_points(flagged)} flagged unrelated pictures, {_points(objects)} unrelated objects found, mean"
        " over the factorial."
    ]


def _contrasts(record: Row, scales: Sequence[str]) -> list[str]:
    rows = [row for row in record["runs"] if row["group"] not in ("factorial", "training seed")]
    parts = []
    for scale in dict.fromkeys(scales):
        bad = [row["label"] for row in rows if broken(row["readings"][scale])]
        parts.append(f"at strength {scale}: {', '.join(bad) or 'none'}")
    return [f"Of the {len(rows)} single changes to the naive run, these break the model {'; '.join(parts)}."]


def beyond(record: Row) -> str:
    """What can and cannot be said about the model that the paper is about."""
    parameters = record["original"]["parameters"]
    return (
        f"The paper's observation is about Z-Image-Turbo, whose transformer has {PAPER:,} parameters; the one"
        f" measured here has {parameters:,}. What breaks this model is able to break a single-stream"
        " transformer, and is a candidate there. What does not break this one is not cleared: depth, number"
        " format, length of training and the richness of the pictures differ, and a collapse may need all of"
        " them. Nor does an intact naive run here say that the paper's pictures did not collapse: it says"
        " that shared projections alone are not enough. The same command answers for the large model:"
        " `zbench study collapse --model z-image-turbo`."
        if parameters != PAPER
        else "This is a transformer of the size that the paper's observation is about."
    )
