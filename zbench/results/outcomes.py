"""Outcomes picture by picture, laid out by prompts, from the stored evidence of a cell.

Every rate that is made of pictures is counted again here: a result whose figures do not follow from its
evidence is not published.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.metrics.outcomes import outcomes
from zbench.metrics.recognition import recognised
from zbench.protocols import CONCEPT_ROLES, ROLES, UNRELATED
from zbench.results.schema import FigureOutcomes

if TYPE_CHECKING:
    from zbench.metrics.evidence import Evidence, Key
    from zbench.metrics.robustness import Outcomes

Values = Mapping["Key", float]

_DIGITS = 7
"""Significant digits of a published value: single precision, which is what instruments compute in."""

TOLERANCE = 1e-6
"""Relative difference that rounding of published values may make to their mean."""

ATTACK_FIGURES = ("attack_pre", "attack_post", "control_post", "retry_post")
"""Figures of an attack that are made prompt by prompt; others of them follow from these."""


class Layout:
    """Which picture stands where: roles in order, prompts of a role in order, repetitions together.

    Args:
        pictures: Role -> (prompt set, prompt id, repetition) of every picture that was drawn, in order.
    """

    def __init__(self, pictures: Mapping[str, Sequence[Key]]) -> None:
        self.pictures = {role: tuple(pictures[role]) for role in ROLES if role in pictures}
        self._role = {key: role for role, keys in self.pictures.items() for key in keys}

    def outcomes(self, values: Values, is_rate: bool) -> FigureOutcomes:
        """A figure's values, laid out over the roles that it looks at.

        Args:
            values: Picture -> value, 0 or 1 for rates.
            is_rate: Whether it is a share of pictures.
        """
        looked_at = {self._role[key] for key in values}
        roles = tuple(role for role in self.pictures if role in looked_at)
        laid_out = [values.get(key) for role in roles for key in self.pictures[role]]
        if is_rate:
            return FigureOutcomes(roles=roles, hits="".join(_letter(value) for value in laid_out))
        return FigureOutcomes(roles=roles, values=tuple(_rounded(value) for value in laid_out))


def _letter(value: float | None) -> str:
    return "-" if value is None else "1" if value else "0"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


# Figures of plain pictures --------------------------------------------------------------------------------


def figure_outcomes(
    evidence: Evidence, layout: Layout, figures: Iterable[Mapping[str, Any]]
) -> dict[str, FigureOutcomes]:
    """Outcomes of every figure that is made picture by picture.

    Args:
        evidence: Of the cell.
        layout: Of its pictures.
        figures: Of the cell, as plain data.

    Raises:
        StoreError: A figure does not follow from the evidence.
    """
    more = _more_outcomes(evidence)
    found = {}
    for figure in figures:
        name = figure["name"]
        values = more.get(name) or outcomes(evidence, name)
        if figure["value"] is None or not values:
            continue
        laid_out = layout.outcomes(values, figure["unit"] == "rate")
        require_following(figure, laid_out)
        found[name] = laid_out
    return found


def require_following(figure: Mapping[str, Any], laid_out: FigureOutcomes) -> None:
    """Counts a figure again.

    Raises:
        StoreError: It does not follow from its outcomes.
    """
    numbers = [value for value in laid_out.numbers if value is not None]
    mean = math.fsum(numbers) / len(numbers) if numbers else None
    close = mean is not None and math.isclose(mean, figure["value"], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if len(numbers) != figure["N"] or not close or (laid_out.hits and sum(numbers) != figure["n"]):
        raise StoreError(
            f"{figure['name']} is {figure['value']:.6g} of {figure['N']}, and its outcomes give"
            f" {'nothing' if mean is None else f'{mean:.6g}'} of {len(numbers)}: score the cell again"
        )


def _more_outcomes(evidence: Evidence) -> dict[str, Values]:
    """Rates of pictures that erasures are not paired by: collapse, agreement, accuracies."""
    found: dict[str, Values] = {name: _at(evidence, hits) for name, hits in recognised(evidence).items()}
    collapsed = evidence.thresholds.collapsed(evidence.pictures.signals).tolist()
    names = {UNRELATED: "collapse_rate", **{role: f"collapse_{role}" for role in CONCEPT_ROLES}}
    for role, name in names.items():
        rows = evidence.pictures.rows(role).tolist()
        found[name] = _at(evidence, {row: float(collapsed[row]) for row in rows})
    return found | _agreement(evidence)


def _agreement(evidence: Evidence) -> dict[str, Values]:
    first, *others = evidence.able() or (None,)
    rows = evidence.pictures.rows(*ROLES)
    found: dict[str, Values] = {}
    for place, record in enumerate(others):
        assert first is not None
        name = f"detector_agreement@{record.name}" if place else "detector_agreement"
        if evidence.not_numbers(first, rows) or evidence.not_numbers(record, rows):
            continue
        one, other = (each.found(evidence.pictures.scores(each)[rows]) for each in (first, record))
        alike = (one == other).astype(float).tolist()
        found[name] = _at(evidence, dict(zip(rows.tolist(), alike, strict=True)))
    return found


def _at(evidence: Evidence, by_row: Mapping[int, float]) -> dict[Key, float]:
    keys = evidence.pictures.keys
    return {keys[row]: value for row, value in by_row.items()}


# Attacks --------------------------------------------------------------------------------------------------


def attack_outcomes(label: str, found: Outcomes, layout: Layout, role: str) -> dict[str, FigureOutcomes]:
    """What an attack, its control and plain retries broke, prompt by prompt, as ``LABEL/FIGURE``.

    A prompt stands where its first picture stands.

    Args:
        label: Of the attack.
        found: Everything that was judged.
        layout: Of the cell's plain pictures.
        role: Whose prompts were attacked.
    """
    first = {key[1]: key for key in reversed(layout.pictures[role])}
    keys = [first[prompt.prompt_id] for prompt in found.prompts]
    arms = {
        "attack_pre": [prompt.plain_hit for prompt in found.prompts],
        "attack_post": found.broken("attack"),
        "control_post": found.broken("control"),
        "retry_post": found.broken("retry"),
    }
    return {
        f"{label}/{name}": layout.outcomes(dict(zip(keys, map(float, hits), strict=True)), is_rate=True)
        for name, hits in arms.items()
    }
