"""Comparing two rows of a run: paired on the same prompts and seeds, figure by figure.

What is said about two erasures needs their pictures only. What is said about two *methods* needs several
trainings of each: at least three training seeds on both sides, all of one side better than all of the other,
and a test over the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.config import ORIGINAL
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.report.pairing import (
    LEVEL,
    ReadEvidence,
    SeedTest,
    Side,
    difference_and_test,
    evidence_of_sides,
    paired_outcomes,
    seed_test,
)
from zbench.report.values import TITLES
from zbench.statistics import Difference, PairedTest, holm

if TYPE_CHECKING:
    from zbench.metrics.evidence import Evidence, Key
    from zbench.runner.specs import CellResult

TO_ORIGINAL = frozenset({"distance_to_original", "clip_distance_to_original", "perceptual_distance"})


@dataclass(frozen=True)
class Measured:
    """A figure of one side.

    Attributes:
        value: Rate or mean over all its pictures.
        total: Number of pictures, over all training seeds.
        by_seed: The value of each training seed.
    """

    value: float
    total: int
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Compared:
    """One figure of both sides.

    Attributes:
        name: Machine name of the figure.
        unit: Its unit.
        direction: Which way is better for an eraser.
        first: The first side.
        second: The second side.
        difference: First minus second, paired.
        test: Paired test.
        seeds: The test over training seeds; None where there are too few.
        p_holm: Of `test`, corrected over the figures compared.
    """

    name: str
    unit: str
    direction: str
    first: Measured
    second: Measured
    difference: Difference
    test: PairedTest
    seeds: SeedTest | None
    p_holm: float = 1.0

    @property
    def tied(self) -> bool:
        """Whether the two cannot be told apart."""
        return self.p_holm >= LEVEL

    @property
    def first_is_better(self) -> bool:
        """Whether the first side's value is the better one, surely or not."""
        return self.difference.value != 0 and (self.difference.value < 0) == (self.direction == "lower")


@dataclass(frozen=True)
class Comparison:
    """Two sides, compared.

    Attributes:
        concept: Name of the erased concept.
        first: The first side.
        second: The second side.
        figures: Compared figures, the leading one first.
        missing: Figures that one side or both could not measure.
    """

    concept: str
    first: Side
    second: Side
    figures: tuple[Compared, ...]
    missing: tuple[str, ...]


def compare_rows(
    folder: Path | str, first: str, second: str, figures: Sequence[str] | None = None
) -> Comparison:
    """Compares two rows of the run in a folder.

    Args:
        folder: Run folder, or one of its report folders.
        first: Name of a method (all its training seeds), ``METHOD:SEED``, or `original`.
        second: The same.
        figures: Names of figures; those of the readable table when None.

    Raises:
        StoreError: There is no run, or its evidence is missing or damaged.
        UnknownNameError: No row has this name.
        ConfigurationError: The rows cannot be compared.
    """
    from zbench.report.run_folder import read_record

    cells = read_record(folder).cells
    sides = find_side(cells, first), find_side(cells, second)
    return compare(*sides, stored_evidence(folder), figures)


def stored_evidence(folder: Path | str) -> ReadEvidence:
    """Reads the evidence of a run's rows from its folder, or from one of its report folders."""
    from zbench.stages.evidence_files import read_evidence

    place = Path(folder).resolve()
    root = place.parent.parent if place.parent.name == "reports" else place

    def read(cell: CellResult) -> Evidence:
        if "score" not in cell.stages:
            raise StoreError(f"{cell.spec.label} keeps no scores; run the same command again.")
        return read_evidence(root / cell.stages["score"])[0]

    return read


def find_side(cells: Sequence[CellResult], name: str) -> Side:
    """The rows that a name stands for; see `compare_rows`.

    Raises:
        UnknownNameError: No row has this name; close matches are named.
        ConfigurationError: A row has no figures, since its cell failed or was skipped.
    """
    found = [
        cell for cell in cells if name in (cell.spec.method, f"{cell.spec.method}:{cell.spec.training_seed}")
    ]
    if not found:
        raise UnknownNameError.of("row", name, _names(cells))
    for cell in found:
        if cell.status != "done":
            reason = (cell.error or "no reason given").strip().splitlines()[-1]
            raise ConfigurationError(
                f"{cell.spec.label} has no figures to compare: {cell.status} ({reason})."
            )
    return Side(found[0].spec.method, tuple(found))


def _names(cells: Sequence[CellResult]) -> list[str]:
    trained = (cell.spec for cell in cells if cell.spec.training_seed is not None)
    seeds = [f"{spec.method}:{spec.training_seed}" for spec in trained]
    return [*dict.fromkeys(cell.spec.method for cell in cells), *seeds]


def compare(
    first: Side, second: Side, read: ReadEvidence, figures: Sequence[str] | None = None
) -> Comparison:
    """Compares two sides.

    Args:
        first: Rows of one method.
        second: Rows of another, or other rows of the same.
        read: Gives the evidence of a row.
        figures: Names of figures; those of the readable table when None.

    Raises:
        ConfigurationError: A row stands on both sides, the rows are of different protocols, models, concepts
            or pictures, were not read by the same detectors, or share no figure.
    """
    evidence = evidence_of_sides(first, second, read)
    known = {figure["name"]: figure for cell in (*first.cells, *second.cells) for figure in cell.figures}
    wanted = list(figures) if figures is not None else _usual(known, first, second)
    for name in wanted:
        if name not in known:
            raise UnknownNameError.of("figure", name, known)
    compared, missing = [], []
    for name in wanted:
        pairs = paired_outcomes(evidence, name)
        if pairs is None:
            missing.append(name)
        else:
            compared.append(_compared(known[name], first, second, *pairs))
    if not compared:
        raise ConfigurationError(
            f"{first.label} and {second.label} share no figure that is measured picture by picture."
        )
    return Comparison(first.cells[0].spec.concept, first, second, _corrected(compared), tuple(missing))


def _usual(known: Mapping[str, object], first: Side, second: Side) -> list[str]:
    """The figures of the readable table; distances to the original say nothing where it is one of the two."""
    with_original = ORIGINAL in (first.method, second.method)
    return [name for name in TITLES if name in known and not (with_original and name in TO_ORIGINAL)]


def _compared(
    figure: Mapping[str, str],
    first: Side,
    second: Side,
    outcomes: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]],
    keys: Sequence[Key],
) -> Compared:
    measured = tuple(_measured(side) for side in outcomes)
    enough = first.speaks_for_method and second.speaks_for_method and first.method != second.method
    difference, test = difference_and_test(*outcomes, [key[:2] for key in keys], figure["unit"] == "rate")
    return Compared(
        name=figure["name"],
        unit=figure["unit"],
        direction=figure["direction"],
        first=measured[0],
        second=measured[1],
        difference=difference,
        test=test,
        seeds=seed_test(measured[0].by_seed, measured[1].by_seed) if enough else None,
    )


def _measured(outcomes: Sequence[Sequence[float]]) -> Measured:
    by_seed = tuple(sum(values) / len(values) for values in outcomes)
    return Measured(sum(by_seed) / len(by_seed), sum(map(len, outcomes)), by_seed)


def _corrected(compared: Sequence[Compared]) -> tuple[Compared, ...]:
    """Holm over the figures, for the paired tests and for the tests over seeds."""
    pairs = holm([each.test.p_value for each in compared])
    tests = [each.seeds for each in compared if each.seeds is not None]
    seeds = iter(holm([test.p_value for test in tests]))
    return tuple(
        replace(
            each, p_holm=p_holm, seeds=None if each.seeds is None else replace(each.seeds, p_holm=next(seeds))
        )
        for each, p_holm in zip(compared, pairs, strict=True)
    )
