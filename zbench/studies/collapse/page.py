"""The study's page in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zbench.report.markdown import markdown_table
from zbench.studies.collapse.beyond import beyond
from zbench.studies.collapse.changed import kind_of
from zbench.studies.collapse.effects import RESPONSES
from zbench.studies.collapse.plan import FACTORS, level_name, naive_of
from zbench.studies.collapse.verdicts import conclusions, mark, progress, signed, strengths
from zbench.studies.paired import significant

Row = Mapping[str, Any]


def render_page(record: Row) -> str:
    """The page.

    Args:
        record: What `study.json` holds.
    """
    parts = (_introduction, _verdict, _effects, _factorial, _contrasts, _paired, _strengths, _pictures)
    return "\n\n".join(part(record) for part in parts) + "\n"


def _introduction(record: Row) -> str:
    config, original = record["config"], record["original"]
    training, constants = config["training"], config["constants"]
    return (
        "# What makes naive fine-tuning collapse?\n\n"
        f"Model {config['model']}, {original['parameters']:,} parameters in the transformer; concept"
        f" {config['concept']}; {config['explicit']} prompts that name it and {config['unrelated']} unrelated"
        f" ones, all of the tuning split; detectors of {config['protocol']}. Collapse flags are calibrated on"
        f" {config['calibration']} pictures of the original. Every run trains rank {constants['rank']}"
        f" adapters on Z-Erase's erase loss (eta {config['eta']:g}), {config['steps']} steps of"
        f" {training['batch_size']}, AdamW at {config['learning_rate']:g}, from the same"
        f" {training['trajectories']} trajectories; preservation, where it is on, is L_pr with weight"
        f" {constants['preserve_weight']:g}."
        " *Naive* is: all rows, nothing preserved, right conventions. *Strength* is what the trained update"
        " is multiplied by when pictures are drawn; training is at strength 1.\n\n"
        "Released conventions (see `zbench/studies/collapse/conventions.py`): time as t in 0..1000 where the"
        " transformer expects (1000 - t) / 1000; latents that are pure noise beside an unrelated t;"
        " embeddings of the raw, padded prompt from the last layer of the text encoder (which may never"
        " have been trained: pipelines use the last but one)."
    )


def _verdict(record: Row) -> str:
    sentences = "\n".join(f"- {sentence}" for sentence in conclusions(record))
    return f"## Verdict\n\n{sentences}\n\n{beyond(record)}"


def _effects(record: Row) -> str:
    tables = []
    scales = list(next(iter(record["effects"].values()))["by_scale"])
    for scale in scales:
        found = {name: record["effects"][name]["by_scale"][scale] for name in RESPONSES}
        rows = [
            (_term(terms[0]["term"]), *(_effect(term) for term in terms))
            for terms in zip(*found.values(), strict=True)
        ]
        tables.append(f"Strength {scale}:\n\n" + markdown_table(("term", *RESPONSES.values()), rows))
    return (
        "## Effects\n\nPercentage points, suspected level minus the other one, over all levels of the other"
        " factors; least squares over the runs. `a x b` is how much the effect of a grows with b, halved."
        " Runs are the units: effects speak of these settings, not of other concepts or models."
        f" {_error(record['config']['training_seeds'])} Bold: p < 0.05 after Holm's correction over the main"
        " effects of a figure at both strengths, or over its interactions; intervals are 95 % and not"
        " corrected. Where the terms fit all runs exactly nothing is left over to measure noise by, and there"
        " is no interval.\n\n" + "\n\n".join(tables)
    )


def _error(training_seeds: int) -> str:
    """What the intervals are made of."""
    if training_seeds == 1:
        return (
            "There is one training seed for each combination, so that interactions of three and more factors"
            " are the error: where they are real, they pass for noise, and noise between training seeds is"
            " not measured. A claim about settings needs `training_seeds=3`."
        )
    return (
        f"There are {training_seeds} training seeds for each combination; they and interactions of three and"
        " more factors are the error."
    )


def _term(name: str) -> str:
    """A main effect with the levels that it is the difference of."""
    if name not in FACTORS:
        return name
    other, suspected = (level_name(level) for level in FACTORS[name])
    return f"{name}: {suspected} - {other}"


def _effect(term: Row) -> str:
    estimate = signed(term["estimate"])
    if term["low"] is None:
        return f"{estimate} (no interval)"
    text = f"{estimate} ({signed(term['low'])} to {signed(term['high'])})"
    return f"**{text}**" if significant(term) else text


def _factorial(record: Row) -> str:
    rows = [row for row in record["runs"] if row["group"] == "factorial"]
    return "## All combinations\n\n" + _readings(record, rows)


def _contrasts(record: Row) -> str:
    naive = naive_of(record["runs"])
    others = [row for row in record["runs"] if row["group"] != "factorial"]
    titles = {
        "single": "## One change at a time, from the naive run",
        "several": "## Several changes at once, which these runs cannot tell apart",
        None: "## The naive run with other training seeds",
    }
    parts = []
    for kind, title in titles.items():
        if rows := [row for row in others if kind_of(row, naive) == kind]:
            parts.append(f"{title}\n\n{_readings(record, rows)}")
    return "\n\n".join(parts)


def _paired(record: Row) -> str:
    """Every changed run minus the naive one."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for test in record["paired"]:
        rows.setdefault((test["label"], f"x{test['scale']}"), {})[test["response"]] = _difference(test)
    lines = [(*about, *(cells[name] for name in RESPONSES)) for about, cells in rows.items()]
    return (
        "## Beside the naive run, picture by picture\n\nPercentage points, the changed run minus the naive"
        " one on the same prompts and seeds, with 95 % intervals that are not corrected. p by McNemar's exact"
        " test, Holm-corrected over all single changes at both strengths of a figure, or over all runs that"
        " change several settings; bold below 0.05. These speak of pairs of runs, one training seed each.\n\n"
        + markdown_table(("changed", "strength", *RESPONSES.values()), lines)
    )


def _difference(test: Row) -> str:
    if test["value"] is None:
        return "–"
    text = f"{signed(test['value'])} ({signed(test['low'])} to {signed(test['high'])})"
    return f"{f'**{text}**' if significant(test) else text}, p {test['adjusted']:.2g}"


def _readings(record: Row, rows: Iterable[Row]) -> str:
    config = record["config"]
    scales = strengths(record)
    header = ["run", "erase loss, first to last step"]
    for scale in scales:
        header += [f"success, x{scale}", "flagged", "objects", "verdict"]
    lines = [_line(row["label"], row, scales, config["concept"]) for row in rows]
    return markdown_table(header, [_original(record, scales), *lines])


def _original(record: Row, scales: Sequence[str]) -> tuple[str, ...]:
    figures = _figures(record["original"]["reading"], record["config"]["concept"])
    return ("original", "–", *(figures * len(scales)))


def _line(label: str, row: Row, scales: Sequence[str], concept: str) -> tuple[str, ...]:
    loss = "–" if not row["first"] else f"{row['first']['erase']:.3g} to {row['last']['erase']:.3g}"
    cells = [cell for scale in scales for cell in _figures(row["readings"][scale], concept)]
    return (label, loss + (f" (diverged {progress(row)})" if row["diverged"] else ""), *cells)


def _figures(reading: Row, concept: str) -> tuple[str, ...]:
    return (
        _count(reading["found"][concept]),
        _count(reading["flagged"]),
        _count(reading["objects"]),
        mark(reading),
    )


def _strengths(record: Row) -> str:
    concept = record["config"]["concept"]
    rows = [
        (row["label"], f"x{scale}", *_figures(row["readings"][scale], concept))
        for row in record["runs"]
        if len(row["readings"]) > 2
        for scale in sorted(row["readings"], key=float)
    ]
    header = ("run", "strength", "success", "flagged", "objects", "verdict")
    return "## Strength at inference\n\n![strength](scales.png)\n\n" + markdown_table(header, rows)


def _pictures(record: Row) -> str:
    again = record["original"]["again"]
    return (
        "## Pictures\n\nUnrelated prompts only, the same prompts and seeds in every line.\n\n"
        "![contact sheet](sheet.png)\n\n"
        "The original's unrelated prompts with other seeds, which calibrated nothing:"
        f" {_count(again['flagged'])} flagged, {_count(again['objects'])} objects found, {mark(again)}."
    )


def _count(row: Row) -> str:
    return f"{row['n']}/{row['N']}"
