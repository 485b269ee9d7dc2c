"""A claim and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["holds", "does not hold", "undecided"]

Row = Mapping[str, float]
"""Figures of one training step."""

Measured = Mapping[str, Any]
"""A measured erasure."""

HOLDS: Verdict = "holds"
FAILS: Verdict = "does not hold"
OPEN: Verdict = "undecided"


@dataclass(frozen=True)
class Claim:
    """A claim and what became of it.

    Attributes:
        name: Short name.
        says: The claim in one sentence.
        optimiser: Under which optimiser it was tried.
        verdict: What the figures say; only where they are clear of their noise it is not ``undecided``.
        because: The figures, in one or two sentences.
        figures: The same for machines.
    """

    name: str
    says: str
    optimiser: str
    verdict: Verdict
    because: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Statement:
    """A claim before it is tried.

    Attributes:
        name: Short name.
        says: The claim in one sentence.
    """

    name: str
    says: str

    def judged(
        self, optimiser: str, verdict: Verdict, because: str, figures: Mapping[str, Any] | None = None
    ) -> Claim:
        """The claim with its verdict, see `Claim`."""
        return Claim(self.name, self.says, optimiser, verdict, because, dict(figures or {}))

    def without(self, optimiser: str, lost: Mapping[str, str]) -> Claim:
        """Undecided, since trainings that the claim is judged by gave no figures.

        Args:
            optimiser: Under which it was tried.
            lost: Name of a training -> why.
        """
        reasons = "; ".join(f"{name} gave no figures: {reason}" for name, reason in lost.items())
        return self.judged(optimiser, OPEN, reasons, {"lost": dict(lost)})


def span(values: Iterable[float]) -> str:
    """Least and greatest of some values, as text."""
    ordered = sorted(values)
    return f"{ordered[0]:.3g} to {ordered[-1]:.3g}" if ordered else "–"
