"""The study's page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zbench.report.markdown import markdown_table
from zbench.studies.agreement.choice import Sheet
from zbench.studies.agreement.errors import ErrorRates
from zbench.studies.agreement.labels import VERDICTS
from zbench.studies.agreement.weighting import Estimate

_ASKED = {True: "asked for", False: "not asked for"}


def render_page(record: Mapping[str, Any], sheet: Sheet, rates: ErrorRates | None) -> str:
    """The page.

    Args:
        record: ``config`` and ``agreement`` of `study.json`.
        sheet: What is looked at by eye.
        rates: What the verdicts say; None before there are any.
    """
    sections = [_introduction(record, sheet), _agreement(record["agreement"], sheet), _by_eye(sheet)]
    return "\n\n".join([*sections, *([] if rates is None else _errors(rates, sheet))]) + "\n"


def _introduction(record: Mapping[str, Any], sheet: Sheet) -> str:
    config = record["config"]
    first, second = (
        f"`{d['name']}` (file {d['file_sha256'][:12]}, threshold {d['threshold']:g})"
        for d in config["detectors"]
    )
    questions = sum(group.size for group in sheet.groups)
    return (
        "# Agreement of two detectors on generated pictures\n\n"
        f"{config['pictures']} pictures by {config['model']['name']} ({config['steps']} steps), equally"
        f" many by each kind of model (original, erased, damaged); {questions} questions (a picture and a"
        f" concept) to the first detector, {first}, and the second, {second}; protocol {config['protocol']}."
        f" Concepts: {', '.join(config['concepts'])}. A detector's errors on drawn pictures say nothing about"
        " these pictures, and agreement is no accuracy: two detectors trained on the same drawings can be"
        " wrong together."
    )


def _agreement(rows: Sequence[Mapping[str, Any]], sheet: Sheet) -> str:
    first, second = sheet.detectors
    header = ("model", "family", "question", "N", "agree", "95 %", "kappa", f"only {first}", f"only {second}")
    sources = [_row(row) for row in rows if row["family"] is None and row["asked"] is None]
    families = [
        _row(row) for row in rows if row["source"] is None and row["family"] and row["asked"] is not None
    ]
    return (
        "## By model\n\n" + markdown_table(header, sources) + "\n\n## By kind of model and family\n\n"
        "Intervals are clustered by prompt. Kappa is left open where a detector says the same everywhere.\n\n"
        + markdown_table(header, families)
    )


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    kappa, cells = row["kappa"], row["cells"]
    return (
        row["source"] or (f"all {row['kind']}" if row["kind"] else "all"),
        row["family"] or "all",
        _ASKED.get(row["asked"], "both"),
        str(row["N"]),
        f"{row['agree']} ({row['rate']:.1%})",
        f"{row['low']:.1%} to {row['high']:.1%}",
        "–" if kappa is None else f"{kappa:.2f}",
        str(cells["only first"]),
        str(cells["only second"]),
    )


def _by_eye(sheet: Sheet) -> str:
    differing = sum(not item.agree for item in sheet.items)
    return (
        "## By eye\n\n"
        f"The sheet holds {differing} disagreements and {len(sheet.items) - differing} agreements in random"
        " order (`sheet-*.png`; what the concepts look like: `legend.png`). For each picture `labels.csv`"
        f" takes one of: {', '.join(VERDICTS)}. Look at the blind sheets, not at `annotated-*.png` or"
        " `sheet.json`; then run the study again with the same options."
    )


def _errors(rates: ErrorRates, sheet: Sheet) -> list[str]:
    counts = ", ".join(f"{number} {verdict}" for verdict, number in rates.verdicts.items())
    right = [
        (r.pictures, r.detector, f"{r.right} of {r.of}", _bounds(r.low, r.high), str(r.undecidable))
        for r in rates.right
    ]
    weighted = [(r.domain, r.detector, *_cells(r.sensitivity), *_cells(r.specificity)) for r in rates.rates]
    return [
        f"{rates.labelled} of {rates.on_sheet} pictures have a verdict: {counts}.",
        markdown_table(("pictures", "detector", "right", "95 %", "undecidable"), right),
        "## Errors on generated pictures\n\n"
        "Weighted back from the sheet to all questions; undecidable pictures are left out. In brackets:"
        " labels that speak of the rate.",
        markdown_table(("questions", "detector", "sensitivity", "95 %", "specificity", "95 %"), weighted),
    ]


def _cells(estimate: Estimate) -> tuple[str, str]:
    value = "–" if estimate.value is None else f"{estimate.value:.1%}"
    return f"{value} ({estimate.labels})", _bounds(estimate.low, estimate.high)


def _bounds(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.1%} to {high:.1%}"
