"""Tables for machines: CSV with one line for each row and figure, and JSON with everything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zbench.report.standing import AttackStanding, Standing, StandingFigure
from zbench.report.table import csv_cell, csv_text
from zbench.report.tables.columns import ATTACK
from zbench.report.tables.sheet import Document, Record

_PARTS = ("value", "n", "N", "effective_N", "low", "high", "unit", "direction", "p_value", "p_holm")
_HEAD = (
    "model", "family", "concept", "protocol", "conditions", "row", "method", "trainings", "training_seeds",
    "status", "collapsed", "destroyed", "figure", *_PARTS, "differs", "best", "tied", "trainings_low",
    "trainings_high", "interval", "trainings_agree",
)  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_csv(documents: Iterable[Document]) -> str:
    """One line for each row and figure, attacks' figures as ``attack:NAME:FIGURE``.

    Args:
        documents: In the order in which they are shown.
    """
    records = [record for document in documents for record in document.data]
    lines = (line for record in records for line in _lines(record))
    return csv_text([_HEAD, *lines])


def _lines(record: Record) -> Iterator[list[str]]:
    names = (record.model, record.family, record.concept, record.protocol, record.conditions)
    group = [_label(name) for name in names]
    for row in record.rows:
        start = [*group, *_row(row)]
        for name, figure in figures_of(row, record.names):
            yield [*start, _label(name), *_figure(figure)]


def _label(text: str) -> str:
    """A name as text for spreadsheets too, which run what begins like a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _row(row: Standing) -> list[str]:
    seeds = " ".join(map(str, row.training_seeds))
    return [
        _label(row.label),
        _label(row.method),
        str(len(row.sources)),
        seeds,
        row.status,
        str(row.collapsed),
        str(row.destroyed),
    ]


def figures_of(row: Standing, names: tuple[str, ...] | None) -> Iterator[tuple[str, StandingFigure]]:
    """Name and figure of everything that was measured of a row.

    Args:
        row: The row.
        names: Figures and attacks that are wanted; None for all.
    """
    for name, figure in row.figures.items():
        if names is None or name in names:
            yield name, figure
    for attack in row.attacks.values():
        if names is None or f"{ATTACK}{attack.name}" in names:
            yield from ((f"{ATTACK}{attack.name}:{name}", figure) for name, figure in attack.figures.items())


def _figure(figure: StandingFigure) -> list[str]:
    parts = [csv_cell(getattr(figure, part)) for part in _PARTS]
    marks = ["" if mark is None else str(mark).lower() for mark in (figure.differs, figure.best, figure.tied)]
    seeds = figure.seeds
    bounds = ["", ""] if seeds is None else [csv_cell(seeds.low), csv_cell(seeds.high)]
    agree = "" if figure.trainings_agree is None else str(figure.trainings_agree).lower()
    return [*parts, *marks, *bounds, _label(figure.interval or ""), agree]


def render_json(documents: Iterable[Document]) -> str:
    """Every group with its header, rows, figures, attacks, files and notes.

    Args:
        documents: In the order in which they are shown.
    """
    groups = [_record(record) for document in documents for record in document.data]
    return json.dumps({"groups": groups}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _record(record: Record) -> dict[str, Any]:
    names = ("model", "family", "concept", "protocol", "conditions")
    return {
        **{name: getattr(record, name) for name in names},
        "header": list(record.header),
        "notes": list(record.notes),
        "rows": [_as_json(row, record.names) for row in record.rows],
    }


def _as_json(row: Standing, names: tuple[str, ...] | None) -> dict[str, Any]:
    kept = {name: figure for name, figure in row.figures.items() if names is None or name in names}
    attacks = {
        name: attack for name, attack in row.attacks.items() if names is None or f"{ATTACK}{name}" in names
    }
    return {
        "label": row.label, "method": row.method, "training_seeds": list(row.training_seeds),
        "status": row.status, "collapsed": row.collapsed, "destroyed": row.destroyed, "remark": row.remark,
        "results": [str(source.place) for source in row.sources],
        "figures": {name: _plain(figure) for name, figure in kept.items()},
        "attacks": {name: _attack(attack) for name, attack in attacks.items()},
        "cost": _rounded(row.cost),
    }  # fmt: skip


def _plain(figure: StandingFigure) -> dict[str, Any]:
    optional = ("corrected", "interval", "note")
    parts = {
        part: getattr(figure, part)
        for part in (*_PARTS, "differs", "trainings_agree", "best", "tied", *optional)
    }
    seeds = {} if figure.seeds is None else {"trainings": list(figure.seeds.values)}
    return _rounded({**parts, **seeds})


def _attack(attack: AttackStanding) -> dict[str, Any]:
    names = ("knowledge", "status", "reason", "budget", "prompts", "attacked", "trainings", "sign", "p_holm")
    return _rounded({
        **{name: getattr(attack, name) for name in names},
        "figures": {name: _plain(figure) for name, figure in attack.figures.items()},
        "curve": [dict(point) for point in attack.curve],
        "spent": dict(attack.spent),
    })  # fmt: skip


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Ten digits, as in CSV: fewer than those in which two machines may differ."""
    return {name: _round(value) for name, value in values.items()}


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(csv_cell(value))
    return [_round(each) for each in value] if isinstance(value, list) else value
