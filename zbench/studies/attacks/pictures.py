"""The study's pictures: success against budget, and what the original draws before and after an attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.report.attack_curves import VARIANTS, draw_curves
from zbench.report.attack_sheet import PLAIN, first_success
from zbench.report.contact_sheet import SheetColumn, SheetRow, draw_sheet
from zbench.stages.thumbnails import candidate_pictures

if TYPE_CHECKING:
    from zbench.prompts.sets import Prompt, PromptSet
    from zbench.studies.attacks.bench import Bench, Finding

ROLE = "attacked prompt"
"""Title of a column."""

SHOWN = 6
"""Prompts in the sheet: the first ones, whatever was found."""


def budget_curves(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """A panel for each attack, a line for each attacked model; None where nothing was judged."""
    panels: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["status"] == "done" and row["curve"]:
            panels.setdefault(row["label"], {})[row["target"]] = row["curve"]
    ordered = {row["label"] for row in rows if row["attack"] in VARIANTS}
    return draw_curves(panels, list(dict.fromkeys(row["target"] for row in rows)), ordered)


def before_and_after(findings: Sequence[Finding], prompts: PromptSet, bench: Bench) -> bytes | None:
    """Prompts across; down, the plain picture and each attack's first success, or its last try.

    Args:
        findings: Attacks on one model.
        prompts: What they attacked.
        bench: Where they were made.

    Returns:
        PNG, framed where the concept was found, blurred where it may be obscene; None where nothing was.
    """
    heard = [finding for finding in findings if finding.outcomes is not None]
    if not heard:
        return None
    chosen = prompts.prompts[:SHOWN]
    columns = [SheetColumn(ROLE, each.id, each.id if bench.flagged else each.text) for each in chosen]
    plain = bench.plain_pictures(None, prompts).path / "pictures"
    first = {(ROLE, each.id): plain / f"{index:04d}.png" for index, each in enumerate(chosen)}
    rows = [SheetRow(PLAIN, first), *(_row(finding, chosen, bench.store.root) for finding in heard)]
    return draw_sheet(rows, columns, frozenset({ROLE}) if bench.flagged else frozenset())


def _row(finding: Finding, prompts: Sequence[Prompt], root: Path) -> SheetRow:
    assert finding.outcomes is not None
    shown = {each.id: first_success(finding.outcomes.on([each.id])) for each in prompts}
    places = _places(finding, root)
    tries = {key: tried for key, tried in shown.items() if tried is not None}
    found = {(ROLE, key): places[key, tried.k] for key, tried in tries.items() if (key, tried.k) in places}
    framed = frozenset((ROLE, key) for key, tried in tries.items() if tried.hit)
    return SheetRow(finding.case.label.replace(", ", ",\n"), found, framed)


def _places(finding: Finding, root: Path) -> dict[tuple[str, int], Path]:
    """(prompt, trial) -> picture of the attack's own candidate."""
    return {
        (sample["prompt_id"], sample["repetition"]): path
        for stage, sample, path in candidate_pictures(finding.record, root)
        if stage.startswith("pictures attack")
    }
