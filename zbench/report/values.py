"""Figures as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EMPTY = "–"
"""Where a figure was not measured."""

ARROWS = {"lower": "↓", "higher": "↑", "none": ""}
"""Direction of a figure -> mark of the better way."""

WORLD_NOTE = "The miniature picture world: checks methods and harness; no evidence about Z-Image."

TITLES = {
    "asr_explicit": "Found, explicit",
    "asr_implicit": "Found, implicit",
    "asr_synonyms": "Found, synonyms",
    "count_explicit:common_groups": "Common, explicit",
    "count_explicit:female_groups": "Female, explicit",
    "count_explicit:male_groups": "Male, explicit",
    "count_explicit:total_groups": "Total, explicit",
    "count_implicit:common_groups": "Common, implicit",
    "count_implicit:female_groups": "Female, implicit",
    "count_implicit:male_groups": "Male, implicit",
    "count_implicit:total_groups": "Total, implicit",
    "count_implicit:total_classes": "Total by class, implicit",
    "object_accuracy": "Objects",
    "kept_neighbours": "Neighbours",
    "kept_together": "Beside it",
    "colour_binding": "Colours",
    "counting": "Numbers",
    "placement": "Places",
    "acc_e": "Acc_e",
    "acc_ir": "Acc_ir",
    "acc_g": "Acc_g",
    "h_a": "H_a",
    "acc_e_score": "Acc_e x 100",
    "acc_ir_score": "Acc_ir x 100",
    "h_a_score": "H_a x 100",
    "clip_score": "CLIP score",
    "fid": "FID",
    "kid": "KID",
    "precision": "Precision",
    "recall": "Recall",
    "cmmd": "CMMD",
    "perceptual_distance": "Perceptual",
    "distance_to_original": "Distance",
    "collapse_rate": "Collapsed",
}
"""Titles of figures, in the order of a table."""

SHOWN = (
    "asr_explicit", "asr_implicit", "asr_synonyms", "object_accuracy", "kept_neighbours", "clip_score", "fid",
    "kid", "collapse_rate",
)  # fmt: skip
"""What a person reads unless the protocol says otherwise; the CSV has all figures."""


@dataclass(frozen=True)
class Shown:
    """A figure as a person reads it, in parts.

    Attributes:
        number: Such as ``30.0``, in percent for rates; a dash where it was not measured.
        counted: Of a rate ``12/40``, or ``48/160 ~ 52`` where pictures that share prompts are worth fewer.
        mark: ``*`` where it surely differs from the original, ``ns`` where not, empty where untested.
        tied: Whether it is not surely worse than the best one.
        corrected: The corrected rate in percent, empty where there is none.
        bounds: The interval; one bound where nothing, or everything, was found: ``[≤ 2.63]``.
    """

    number: str
    counted: str = ""
    mark: str = ""
    tied: bool = False
    corrected: str = ""
    bounds: str = ""

    def text(self, between: str = " ") -> str:
        """All parts in a line.

        Args:
            between: What stands before the interval.
        """
        counted = f" ({self.counted})" if self.counted else ""
        marks = (f" {self.mark}" if self.mark else "") + (" =" if self.tied else "")
        corrected = f", corrected {self.corrected}" if self.corrected else ""
        return f"{self.number}{counted}{marks}{corrected}{f'{between}{self.bounds}' if self.bounds else ''}"


def shown(figure: Mapping[str, Any] | None) -> Shown:
    """A figure in the parts that a person reads.

    Args:
        figure: As plain data; None gives a dash.
    """
    if figure is None or figure["value"] is None:
        return Shown(EMPTY)
    p_holm, corrected = figure.get("p_holm"), figure.get("corrected")
    return Shown(
        number=_number(figure),
        counted="" if figure["unit"] != "rate" or figure["n"] is None else _counted(figure),
        mark="" if p_holm is None else ("*" if p_holm < 0.05 else "ns"),
        tied=bool(figure.get("tied")),
        corrected="" if corrected is None else f"{100 * corrected:.1f}",
        bounds=_bounds(figure),
    )


def shown_value(figure: Mapping[str, Any] | None, between: str = " ") -> str:
    """A figure as a person reads it: `30.0 (12/40) * [18.1, 45.4]` for rates, four digits otherwise.

    Args:
        figure: As plain data; None gives a dash.
        between: What stands before the interval.
    """
    return shown(figure).text(between)


def _number(figure: Mapping[str, Any]) -> str:
    if figure["unit"] == "rate":
        return f"{100 * figure['value']:.1f}"
    return f"{figure['value']:.0f}" if figure["unit"] == "count" else f"{figure['value']:.4g}"


def _counted(figure: Mapping[str, Any]) -> str:
    worth = figure.get("effective_N")
    return f"{figure['n']}/{figure['N']}" + ("" if worth is None else f" ~ {worth:.0f}")


def _bounds(figure: Mapping[str, Any]) -> str:
    low, high, scale = figure["low"], figure["high"], 100 if figure["unit"] == "rate" else 1
    if low is None:
        return ""
    if figure["n"] is not None and figure["n"] == 0:
        return f"[≤ {scale * high:.3g}]"
    if figure["n"] is not None and figure["n"] == figure["N"]:
        return f"[≥ {scale * low:.3g}]"
    return f"[{scale * low:.3g}, {scale * high:.3g}]"
