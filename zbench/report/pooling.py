"""One figure out of those of several trainings: rates from all their pictures, the others as means.

The interval of a pooled rate is clustered by prompt and by training (Cameron, Gelbach and Miller 2011): all
trainings draw the same prompts, and a method's trainings differ among themselves. Their few trainings tell
little about how much they differ, which Student's quantile answers for, with Satterthwaite's degrees of
freedom. With prompts as the only clusters, 95 % intervals of three trainings cover down to 59 % in
simulations of trainings that scatter widely; like this, 89 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zbench.report.standing import Seeds, StandingFigure
from zbench.report.trainings import Plain, Trainings
from zbench.statistics.rates import EDGE, observations_behind, rate_bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


NORMAL = 1.959963984540054
"""Half width of a 95 % interval in standard errors."""

_HULL = ", no tighter than where all pictures agree"


@dataclass(frozen=True)
class Worth:
    """Independent observations behind pictures, with prompts as the only clusters.

    Attributes:
        found: As the outcomes show it.
        least: What the same pictures are worth where all of them agree, and each prompt counts once.
    """

    found: float
    least: float


# One figure of all rows -----------------------------------------------------------------------------------


def pooled(rows: Sequence[Trainings], name: str) -> list[StandingFigure | None]:
    """A figure of every row.

    Args:
        rows: All rows of a table.
        name: Of the figure.

    Returns:
        For each row its figure; None where no training mentions it.
    """
    measured = [row.measured(name) for row in rows]
    several = [at for at, found in enumerate(measured) if found and len(rows[at].results) > 1]
    worth = _worth_by_prompt([rows[at] for at in several], name)
    figures = dict(zip(several, pool([measured[at] for at in several], worth), strict=True))
    return [figures[at] if at in figures else _alone(row, measured[at], name) for at, row in enumerate(rows)]


def _alone(row: Trainings, measured: Sequence[Plain], name: str) -> StandingFigure | None:
    """The figure of a single training, or why there is none."""
    found = [*measured, *(each[name] for each in row.figures if name in each)]
    return single(found[0]) if found else None


def single(figure: Plain) -> StandingFigure:
    """A figure of one training, unchanged."""
    get = figure.get
    return StandingFigure(
        name=figure["name"], value=figure["value"], n=get("n"), N=get("N") or 0,
        effective_N=get("effective_N"), low=get("low"), high=get("high"), unit=figure["unit"],
        direction=figure["direction"], interval=get("interval"), note=get("note") or "",
        settings=get("settings") or {}, p_value=get("p_value"),
    )  # fmt: skip


def pool(measured: Sequence[Sequence[Plain]], worth: Sequence[Worth | None]) -> list[StandingFigure]:
    """Figures of several trainings, the intervals of all rates at once.

    Args:
        measured: For each figure what every training found.
        worth: Of each figure's pictures; None where these are not at hand: then as if every training saw the
            same ones.
    """
    rates = [at for at, found in enumerate(measured) if all(each.get("n") is not None for each in found)]
    counted = _rates([measured[at] for at in rates], [worth[at] for at in rates])
    made = dict(zip(rates, counted, strict=True))
    return [made[at] if at in made else _mean(found) for at, found in enumerate(measured)]


def _pooled(
    found: Sequence[Plain], value: float, bounds: tuple[float, float] | None, **more: Any
) -> StandingFigure:
    first, (low, high) = found[0], bounds or (None, None)
    return StandingFigure(
        name=first["name"], value=value, N=sum(each["N"] for each in found), low=low, high=high,
        unit=first["unit"], direction=first["direction"], note=first.get("note") or "",
        settings=first.get("settings") or {}, seeds=Seeds(tuple(float(each["value"]) for each in found)),
        **more,
    )  # fmt: skip


# Means ----------------------------------------------------------------------------------------------------


def _mean(found: Sequence[Plain]) -> StandingFigure:
    values = [float(each["value"]) for each in found]
    bounds = None if any(each.get("low") is None for each in found) else _bounds_of_mean(found, values)
    how = f"mean of {len(found)} trainings, their variances and their spread" if bounds else None
    return _pooled(found, sum(values) / len(values), bounds, n=None, effective_N=None, interval=how)


def _bounds_of_mean(found: Sequence[Plain], values: Sequence[float]) -> tuple[float, float]:
    """The mean of the trainings' own variances, plus their spread over k: all draw the same prompts."""
    own = [((each["high"] - each["low"]) / 2 / NORMAL) ** 2 for each in found]
    mean = sum(values) / len(values)
    half = NORMAL * widened(sum(own) / len(own), spread(values), len(values)) ** 0.5
    if found[0]["unit"] != "rate":
        return mean - half, mean + half
    return min(mean, max(0.0, mean - half)), max(mean, min(1.0, mean + half))


def spread(values: Sequence[float]) -> float:
    """Variance of the mean of trainings: their own variance over k; 0 for one training."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)


def widened(own: float, between: float, trainings: int) -> float:
    """The variance of pictures and trainings together, as large as a normal interval needs it.

    Args:
        own: Variance from the pictures, well known.
        between: Variance of the mean from the trainings' spread.
        trainings: How many there are; at least 2.
    """
    from scipy.special import stdtrit

    if between <= 0:
        return own
    freedom = (trainings - 1) * ((own + between) / between) ** 2
    return (own + between) * float(stdtrit(freedom, 0.975) / NORMAL) ** 2


# Rates ----------------------------------------------------------------------------------------------------


def _rates(measured: Sequence[Sequence[Plain]], worth: Sequence[Worth | None]) -> list[StandingFigure]:
    import numpy as np

    if not measured:
        return []
    counts = [(sum(each["n"] for each in found), sum(each["N"] for each in found)) for found in measured]
    known = [_worth_of(found) if own is None else own for found, own in zip(measured, worth, strict=True)]
    effective = [
        observations(found, own, *count) for found, own, count in zip(measured, known, counts, strict=True)
    ]
    bounds = rate_bounds(np.array([hits / total for hits, total in counts]), np.array(effective))
    ends = zip(*(each.tolist() for each in bounds), strict=True)
    every = zip(measured, counts, effective, known, ends, strict=True)
    return [_rate(*each) for each in every]


def _worth_of(found: Sequence[Plain]) -> Worth:
    """Without the pictures: as if every training saw the same ones."""
    own = [float(each.get("effective_N") or each["N"]) for each in found]
    return Worth(sum(own) / len(own), min(own))


def _rate(
    found: Sequence[Plain],
    count: tuple[int, int],
    effective: float,
    worth: Worth,
    ends: tuple[float, float, bool],
) -> StandingFigure:
    hits, total = count
    low, high = ends[:2] if hits in (0, total) else monotonic(ends[0], ends[1], worth.least)
    # Computed one by one, bounds differ in their last bits from those of many at once.
    moved = max(ends[0] - low, high - ends[1]) > 1e-9
    kind = f"{EDGE if ends[2] else 'wilson'}{_HULL if moved else ''}"
    return _pooled(
        found, hits / total, (low, high), n=hits, effective_N=None if effective == total else effective,
        interval=f"{kind}, pictures clustered by prompt and by training ({len(found)})",
    )  # fmt: skip


def monotonic(low: float, high: float, least: float) -> tuple[float, float]:
    """Bounds of a rate, no tighter at the ends of the scale than those of pictures that all agree.

    Where all pictures agree, each prompt counts once; the first hit makes them worth more, and without this
    one picture with the concept would give a smaller upper bound than none.

    Args:
        low: Lower bound.
        high: Upper bound.
        least: See `Worth`.
    """
    none = _bound_of_none(least)
    return min(low, 1 - none), max(high, none)


@lru_cache(maxsize=4096)
def _bound_of_none(observations: float) -> float:
    """Upper bound of a rate where none of so many independent pictures shows anything."""
    return float(rate_bounds(0.0, observations)[1])


def observations(found: Sequence[Plain], worth: Worth, hits: int, total: int) -> float:
    """Independent observations behind a rate of which several trainings draw the same prompts.

    Args:
        found: The figure of every training.
        worth: Of their pictures.
        hits: n over all trainings.
        total: N over all trainings.

    Returns:
        At most `worth.found`; fewer where trainings differ by more than their pictures' own scatter.
    """
    variance = hits / total * (1 - hits / total)
    if variance == 0:
        return worth.found
    beyond = max(0.0, spread([float(each["value"]) for each in found]) - variance / total)
    return variance / widened(variance / worth.found, beyond, len(found))


def _worth_by_prompt(rows: Sequence[Trainings], name: str) -> list[Worth | None]:
    """Observations behind each row's pictures with prompts as clusters; None where there are no pictures."""
    import numpy as np

    worth: list[Worth | None] = [None] * len(rows)
    for sizes, hits in _alike(rows, name).items():
        pictures = np.frombuffer(sizes, dtype=np.float64)
        seen = pictures > 0
        found = observations_behind(np.stack(list(hits.values()))[:, seen], pictures[seen])
        least = float(pictures.sum() ** 2 / (pictures**2).sum())
        for place, each in zip(hits, np.broadcast_to(found, len(hits)).tolist(), strict=True):
            worth[place] = Worth(each, least)
    return worth


def _alike(rows: Sequence[Trainings], name: str) -> dict[bytes, dict[int, NDArray[np.float64]]]:
    """Pictures of each prompt -> rows that have so many, with their hits."""
    alike: dict[bytes, dict[int, NDArray[np.float64]]] = {}
    for place, row in enumerate(rows):
        pictures = row.pictures(name)
        if pictures is not None and pictures.pictures.any():
            alike.setdefault(pictures.pictures.tobytes(), {})[place] = pictures.hits
    return alike
