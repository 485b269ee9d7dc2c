"""Putting the evidence of rows side by side: the same prompts and seeds, read by the same detectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from zbench.config import ORIGINAL
from zbench.errors import ConfigurationError
from zbench.protocols import require_one_protocol
from zbench.statistics import (
    CONFIDENCE,
    Difference,
    PairedTest,
    difference_of_means,
    difference_of_rates,
    paired_test,
    sign_flip_test,
)

if TYPE_CHECKING:
    from zbench.metrics.evidence import Evidence, Key
    from zbench.runner.specs import CellResult

SEEDS_FOR_METHODS = 3
"""Training seeds that a side needs before anything is said about its method."""

ReadEvidence = Callable[["CellResult"], "Evidence"]
Sides = tuple[list["Evidence"], list["Evidence"]]
_MUST_AGREE = ("concept", "model", "steps", "height", "width", "repetitions", "prompts", "guidance_scale")
"""Fields of a cell's spec that two rows must share."""


LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        method: Name of the method, or `original`.
        cells: Its results, one for each training seed.
    """

    method: str
    cells: tuple[CellResult, ...]

    @property
    def label(self) -> str:
        """Name with training seeds."""
        if all(cell.spec.training_seed is None for cell in self.cells):
            return self.method
        seeds = ", ".join(str(cell.spec.training_seed) for cell in self.cells)
        return f"{self.method} (seed{'s' if len(self.cells) > 1 else ''} {seeds})"

    @property
    def speaks_for_method(self) -> bool:
        """Whether there are enough trainings; the unerased model is never trained."""
        return self.method == ORIGINAL or len(self.cells) >= SEEDS_FOR_METHODS


@dataclass(frozen=True)
class SeedTest:
    """What the training seeds say about the methods.

    Attributes:
        separate: Whether every seed of one side is better than every seed of the other.
        p_value: Two-sided, of the test over seeds.
        test: Its name.
        p_holm: Corrected over the figures compared.
    """

    separate: bool
    p_value: float
    test: str
    p_holm: float = 1.0

    @property
    def differ(self) -> bool:
        """Whether the methods differ."""
        return self.separate and self.p_holm < LEVEL


def evidence_of_sides(first: Side, second: Side, read: ReadEvidence) -> Sides:
    """The evidence of all rows of both sides, checked to be comparable.

    Raises:
        ConfigurationError: It is not; one line says why.
    """
    twice = {cell.id for cell in first.cells} & {cell.id for cell in second.cells}
    if twice:
        raise ConfigurationError(f"{first.label} and {second.label} share a row: name two different ones.")
    require_alike([*first.cells, *second.cells])
    sides = [read(cell) for cell in first.cells], [read(cell) for cell in second.cells]
    _require_same_pictures([*sides[0], *sides[1]])
    return sides


def require_alike(cells: Sequence[CellResult]) -> None:
    """Refuses rows of different protocols, models or concepts.

    Raises:
        ConfigurationError: They differ; the message names in what.
    """
    require_one_protocol(cell.provenance["protocol"] for cell in cells if "protocol" in cell.provenance)
    require_one_protocol(cell.spec.protocol for cell in cells)
    for field in _MUST_AGREE:
        found = list(dict.fromkeys(str(getattr(cell.spec, field, None)) for cell in cells))
        if len(found) > 1:
            raise ConfigurationError(f"Rows of different {field} do not compare: {', '.join(found)}.")
    models = {str(cell.provenance.get("model")) for cell in cells}
    if len(models) > 1:
        raise ConfigurationError("These rows were made from different weights of the model: run both again.")


def _require_same_pictures(evidence: Sequence[Evidence]) -> None:
    first = evidence[0]
    seeds = _seeds(first)
    for other in evidence[1:]:
        if _seeds(other) != seeds:
            raise ConfigurationError("These rows were drawn from different prompts or seeds: run both again.")
        if other.detectors != first.detectors or other.instruments != first.instruments:
            raise ConfigurationError(
                "These rows were read by different detectors, thresholds or instruments: score both alike."
            )


def _seeds(evidence: Evidence) -> dict[Key, int]:
    return dict(zip(evidence.pictures.keys, evidence.pictures.frame["seed"].tolist(), strict=True))


def paired_outcomes(
    evidence: Sides, figure: str
) -> tuple[tuple[list[list[float]], list[list[float]]], list[Key]] | None:
    """What a figure is made of, picture by picture and in one order for all rows.

    Args:
        evidence: Of both sides.
        figure: Name of a figure.

    Returns:
        For each side and row the values of N pictures, and the pictures' keys; None where a row has none.
    """
    from zbench.metrics.outcomes import outcomes

    found = [[outcomes(row, figure) for row in side] for side in evidence]
    present = [row for side in found for row in side if row is not None]
    if len(present) < len(found[0]) + len(found[1]) or not present[0]:
        return None
    keys = sorted(present[0])
    if any(row.keys() != present[0].keys() for row in present):
        return None
    first, second = ([[row[key] for key in keys] for row in side if row is not None] for side in found)
    return (first, second), keys


def difference_and_test(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    prompts: Sequence[Hashable],
    is_rate: bool,
) -> tuple[Difference, PairedTest]:
    """The paired difference of two sides with its interval, and the paired test.

    Outcomes are compared pair by pair, every training seed of one side with every one of the other; values
    are averaged over training seeds first. Both are clustered by prompt.

    Args:
        first: For each row of the first side the values of N pictures.
        second: The same of the second side.
        prompts: N cluster labels.
        is_rate: Whether the values are outcomes, 0 or 1.
    """
    if is_rate:
        pairs = list(product(first, second))
        ours, theirs = ([bool(v) for pair in pairs for v in pair[side]] for side in (0, 1))
        labels = list(prompts) * len(pairs)
        return difference_of_rates(ours, theirs, labels), paired_test(ours, theirs, labels)
    mean = _over_seeds(first), _over_seeds(second)
    return difference_of_means(*mean, prompts), sign_flip_test(*mean, prompts)


def _over_seeds(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*rows, strict=True)]


def seed_test(first: Sequence[float], second: Sequence[float]) -> SeedTest:
    """Whether the training seeds of two sides tell their methods apart.

    Welch's t test over the seeds' values; Student's where one side is a single value, since it is never
    trained or comes out the same whatever the seed. Without any spread the values themselves decide.

    Args:
        first: Value of each training seed of the first side.
        second: Of the second.
    """
    from scipy import stats

    separate = max(first) < min(second) or max(second) < min(first)
    constant = [side[0] for side in (first, second) if max(side) == min(side)]
    result: Any
    if len(constant) == 2:
        return SeedTest(separate, 0.0 if separate else 1.0, "no spread over training seeds")
    if constant:
        varied = first if max(first) > min(first) else second
        result, name = stats.ttest_1samp(varied, constant[0]), "t test over training seeds"
    else:
        result, name = stats.ttest_ind(first, second, equal_var=False), "Welch's t test over training seeds"
    return SeedTest(separate, float(result.pvalue), name)
