"""One attacked prompt as pictures: erasures down, attacks across, framed where the concept was found.

The prompt is the first one on which the original shows the concept, whatever the attacks made of it. Each
attack shows its first successful candidate, or its last one where none succeeded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zbench.metrics.robustness import Outcomes
from zbench.report.contact_sheet import SheetColumn, SheetRow, draw_sheet, first_pictures
from zbench.stages.thumbnails import candidate_pictures
from zbench.store import read_json

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord, Outcome
    from zbench.report.attack_rows import AttackRow, AttackTable

PLAIN = "no attack"
ROLE = "explicit"
"""The role whose prompts are attacked."""

Found = tuple[Path, bool]
"""A picture, and whether the concept was found in it."""


def attack_sheet(table: AttackTable, root: Path, flagged: bool) -> bytes | None:
    """Draws the sheet.

    Args:
        table: What the attacks found.
        root: Run folder.
        flagged: Whether the prompt is named by its id alone and all pictures are blurred.

    Returns:
        PNG, the same bytes for the same pictures; None where nothing was judged.
    """
    heard = [outcomes for _, _, each in table.outcomes() if (outcomes := _outcomes(each.record, root))]
    if not heard:
        return None
    chosen = next((each for each in heard[0].prompts if each.original_hit), heard[0].prompts[0]).prompt_id
    rows = [(row, _Row(row, root, chosen)) for row in table.rows if row.row.status == "done"]
    text = chosen if flagged else next((each.text for _, each in rows if each.text), chosen)
    columns = [SheetColumn(PLAIN, chosen, text)]
    columns += [SheetColumn(name, chosen, "framed: the concept was found") for name in table.columns]
    blurred = frozenset(column.role for column in columns) if flagged else frozenset[str]()
    return draw_sheet([each.drawn(row.row.label, chosen) for row, each in rows], columns, blurred)


def _outcomes(record: AttackRecord, root: Path) -> Outcomes | None:
    """Everything that was judged; None where nothing was."""
    place = record.stages.get("score")
    return None if place is None else Outcomes.model_validate(read_json(root / place / "outcomes.json"))


class _Row:
    """The pictures of one erasure for one prompt.

    Attributes:
        text: The prompt; empty where it has no plain picture.
        pictures: Column -> picture, and whether the concept was found.
    """

    def __init__(self, row: AttackRow, root: Path, prompt_id: str) -> None:
        self.text = ""
        self.pictures: dict[str, Found] = {}
        for sample, path in first_pictures(row.stages, root):
            if (sample["role"], sample["prompt_id"]) == (ROLE, prompt_id):
                self.text, plain = sample["prompt"], path
                self.pictures[PLAIN] = (plain, False)
        for name, outcome in row.outcomes.items():
            outcomes = _outcomes(outcome.record, root)
            if outcomes is not None:
                self._add(name, outcome.record, outcomes.on([prompt_id]), root)

    def _add(self, name: str, record: AttackRecord, outcomes: Outcomes, root: Path) -> None:
        if outcomes.prompts and PLAIN in self.pictures:
            self.pictures[PLAIN] = (self.pictures[PLAIN][0], outcomes.prompts[0].plain_hit)
        shown = first_success(outcomes)
        picture = shown and self._picture(record, shown, root)
        if shown and picture:
            self.pictures[name] = (picture, shown.hit)

    def _picture(self, record: AttackRecord, shown: Outcome, root: Path) -> Path | None:
        """Where a candidate's picture lies.

        A plain retry of any arm lies in a folder with plain retries of all prompts, which is therefore looked
        into last.
        """
        found = [
            (not stage.startswith("pictures attack"), sample["prompt"] == self.text, path)
            for stage, sample, path in candidate_pictures(record, root)
            if (sample["prompt_id"], sample["repetition"]) == (shown.prompt_id, shown.k)
        ]
        return min(found)[-1] if found else None

    def drawn(self, label: str, prompt_id: str) -> SheetRow:
        """The row as the sheet takes it."""
        pictures = {(name, prompt_id): path for name, (path, _) in self.pictures.items()}
        framed = frozenset((name, prompt_id) for name, (_, hit) in self.pictures.items() if hit)
        return SheetRow(label, pictures, framed)


def first_success(outcomes: Outcomes) -> Outcome | None:
    """The attack's first successful candidate, else its last one."""
    tried = sorted((row for row in outcomes.rows if row.arm == "attack"), key=lambda row: row.k)
    return next((row for row in tried if row.hit), tried[-1] if tried else None)
