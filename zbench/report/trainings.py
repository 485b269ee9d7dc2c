"""All results of one row of a table, with what came out of every picture behind their figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zbench.results.schema import FigureOutcomes, PublishedResult

Plain = Mapping[str, Any]
"""A figure as a result file has it; see `zbench.metrics.figure.Figure`."""


@dataclass(frozen=True)
class Pictures:
    """What a figure is made of, summed by prompt.

    Attributes:
        sums: [S, P] for each training and prompt: hits, or the sum of the values.
        sizes: [S, P] pictures that the figure looks at.
    """

    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @cached_property
    def hits(self) -> NDArray[np.float64]:
        """[P] sums over all trainings."""
        total: NDArray[np.float64] = self.sums.sum(axis=0)
        return total

    @cached_property
    def pictures(self) -> NDArray[np.float64]:
        """[P] pictures of all trainings."""
        total: NDArray[np.float64] = self.sizes.sum(axis=0)
        return total

    @cached_property
    def prompts(self) -> bytes | None:
        """Equal where two look at the same prompts; None where the trainings themselves do not."""
        first = self.sizes[0]
        return first.tobytes() if (self.sizes == first).all() else None


class Trainings:
    """All results of one row, with the pictures behind its figures.

    Attributes:
        results: At least one, all of one method and of its settings.
    """

    def __init__(self, results: Sequence[PublishedResult]) -> None:
        self.results = tuple(results)
        self._pictures: dict[str, Pictures | None] = {}

    @cached_property
    def figures(self) -> tuple[Mapping[str, Plain], ...]:
        """Name -> figure, for each training."""
        return tuple({each["name"]: each for each in result.result.figures} for result in self.results)

    @property
    def names(self) -> Iterator[str]:
        """Names of all figures, in order of first appearance."""
        return iter(dict.fromkeys(name for each in self.figures for name in each))

    def measured(self, name: str) -> list[Plain]:
        """The figure of every training that has it."""
        found = (each.get(name) for each in self.figures)
        return [figure for figure in found if figure is not None and figure["value"] is not None]

    def pictures(self, name: str) -> Pictures | None:
        """What a figure is made of; None where a training lacks it or has other prompts or another form."""
        if name not in self._pictures:
            self._pictures[name] = self._read(name)
        return self._pictures[name]

    def _read(self, name: str) -> Pictures | None:
        found = [each.outcomes[name] for each in self.results if name in each.outcomes]
        shapes = {_shape(each, name) for each in self.results if name in each.outcomes}
        shape = shapes.pop() if len(shapes) == 1 else None
        of_one_form = len({bool(each.values) for each in found}) == 1
        if len(found) < len(self.results) or shape is None or not of_one_form:
            return None
        values, seen = _numbers(found)
        counted = [each.reshape(len(found), *shape).sum(axis=2, dtype=float) for each in (values, seen)]
        return Pictures(*counted)


def _shape(result: PublishedResult, name: str) -> tuple[int, int] | None:
    """Prompts and repetitions behind a figure; None where its outcomes are not as many."""
    outcomes, repetitions = result.outcomes[name], result.result.spec.repetitions
    prompts = sum(result.prompts[role].prompts for role in outcomes.roles if role in result.prompts)
    length = len(outcomes.values or outcomes.hits)
    return (prompts, repetitions) if prompts and prompts * repetitions == length else None


def _numbers(found: Sequence[FigureOutcomes]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The value of each picture of all trainings, and whether the figure looks at it."""
    import numpy as np

    if found[0].values:
        values = np.array([each.values for each in found], dtype=np.float64)
        return np.nan_to_num(values), ~np.isnan(values)
    letters = np.frombuffer("".join(each.hits for each in found).encode(), dtype=np.uint8)
    return letters == ord("1"), letters != ord("-")
