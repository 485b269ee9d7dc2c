"""The rule of `zbench.reproduction.claims` in numbers: what intervals, tests and broken generators decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from zbench.reproduction.effects import LEVEL

if TYPE_CHECKING:
    from zbench.reproduction.effects import Effect

Verdict = Literal["holds", "does not hold", "undecided", "not tested"]

_TINY = 1e-9
"""A difference of exactly 0 is none, where no smallest one is known."""


class Broken(NamedTuple):
    """The generators of one side of a comparison.

    Attributes:
        broken: Erasures whose generator is broken.
        erasures: All of them.
    """

    broken: int
    erasures: int

    @property
    def all(self) -> bool:
        """Whether no generator is whole."""
        return 0 < self.broken == self.erasures


def where_broken(favoured: Broken, other: Broken, *, keeps: bool) -> tuple[Verdict, str] | None:
    """What broken generators decide, with the reason; None where all are whole.

    Args:
        favoured: The side that the claim favours.
        other: The other side.
        keeps: Whether the claim is that something is kept: then a broken other side is no defeat of it.
    """
    if favoured.broken:
        verdict: Verdict = "does not hold" if favoured.all else "undecided"
        return verdict, f"{_how_many(favoured)} of the favoured side, and a broken one cannot win"
    if other.broken:
        verdict = "holds" if other.all and not keeps else "undecided"
        return verdict, f"{_how_many(other)} of the other side, and a broken one cannot win"
    return None


def _how_many(side: Broken) -> str:
    return f"{side.broken} of {side.erasures} generators are broken"


def apart(found: Effect, sign: int, bound: float, count: int) -> Verdict:
    """Whether the first side lies above the second, or below it.

    Args:
        found: First minus second.
        sign: 1 where the claim is that it lies above, else -1.
        bound: Half of the paper's own difference.
        count: Comparisons of the claim, to which intervals are widened where they are to refute it.
    """
    low, _ = turned(found.interval(), sign)
    largest = turned(found.interval(1 - LEVEL / count), sign)[1]
    if low > 0 and found.separate and found.p_value < LEVEL:
        return "holds"
    return "does not hold" if largest < max(bound, _TINY) else "undecided"


def kept(found: Effect, margin: float, worse: int | None, count: int) -> Verdict:
    """Whether less than the margin is changed.

    Args:
        found: First minus second.
        margin: How much a kept value may be off.
        worse: Sign of a change for the worse, where only that counts; None where every change counts.
        count: See `apart`.
    """
    low, high = turned(found.interval(), worse or 1)
    least, most = turned(found.interval(1 - LEVEL / count), worse or 1)
    if worse is not None:
        return "holds" if high < margin else "does not hold" if least > margin else "undecided"
    inside, outside = max(high, -low) < margin, max(least, -most) > margin
    return "holds" if inside else "does not hold" if outside else "undecided"


def turned(interval: tuple[float, float], sign: int) -> tuple[float, float]:
    """An interval of a difference as the claim has it: positive is as claimed."""
    low, high = sorted(sign * bound for bound in interval)
    return low, high
