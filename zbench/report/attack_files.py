"""The files of a run folder that say what attacks found: none of them where no attack was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zbench.report.attack_curves import plot_curves
from zbench.report.attack_sheet import attack_sheet
from zbench.report.attack_table import attack_cost_csv, render_csv, render_markdown

if TYPE_CHECKING:
    from zbench.report.attack_rows import AttackTable

ATTACK_FILES = ("attacks.md", "attacks.csv", "attacks_cost.csv", "attacks.png", "attacks_sheet.png")


def attack_files(table: AttackTable | None, root: Path, flagged: bool) -> dict[str, bytes | None]:
    """Contents of `ATTACK_FILES`; what there is nothing for is None or missing.

    Args:
        table: What the attacks found; None where none was made.
        root: Run folder, for the pictures.
        flagged: Whether prompts are withheld and pictures blurred.
    """
    if table is None:
        return {}
    return {
        "attacks.md": render_markdown(table).encode(),
        "attacks.csv": render_csv(table).encode(),
        "attacks_cost.csv": attack_cost_csv(table).encode(),
        "attacks.png": plot_curves(table),
        "attacks_sheet.png": attack_sheet(table, root, flagged),
    }
