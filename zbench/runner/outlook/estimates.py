"""How long cells will take, from what earlier cells of the run folder took; what none did is unknown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from zbench.runner.summary import Summary, Workload

ERASE, SCORE = "erase", "score"
OWN, ORIGINAL_PICTURES = "pictures ", "original "
"""Begin the names of the stages that draw; the role follows."""

ATTACK = "attack "
"""Begins the name of everything that one attack takes, from candidates to verdicts."""


@dataclass
class _Rates:
    """Seconds of the stages of one kind of work, and how many units they did."""

    seconds: float = 0.0
    units: int = 0

    def add(self, seconds: float, units: int) -> None:
        self.seconds += seconds
        self.units += units

    def of(self, units: int) -> float | None:
        return self.seconds / self.units * units if self.units else None


@dataclass
class Estimates:
    """Times of earlier cells by kind of work: only equal work is compared, per picture where pictures count.

    Attributes:
        kind: `cpu` or `cuda`: only cells of such devices count; those of all when None.
        cells: Number of cells that had times to tell.
    """

    kind: str | None = None
    cells: int = 0
    _trained: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _drawn: dict[str, _Rates] = field(default_factory=lambda: defaultdict(_Rates))
    _scored: dict[str, _Rates] = field(default_factory=lambda: defaultdict(_Rates))
    _attacked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, summaries: Iterable[Summary], kind: str | None = None) -> Estimates:
        """Collects the times of cells.

        Args:
            summaries: Of the cells; those that did nothing themselves tell nothing.
            kind: `cpu` or `cuda`: cells of other devices are left out.
        """
        estimates = cls(kind)
        for summary in summaries:
            if summary.seconds and kind in (None, summary.workload.kind):
                estimates._learn(summary)
        return estimates

    def _learn(self, summary: Summary) -> None:
        self.cells += 1
        work, seconds = summary.workload, summary.seconds
        if ERASE in seconds:
            self._trained[work.training].append(seconds[ERASE])
        for stage, took in seconds.items():
            if stage.startswith((OWN, ORIGINAL_PICTURES)):
                self._drawn[work.drawing].add(took, work.pictures.get(stage.partition(" ")[2], 0))
        if SCORE in seconds:
            self._scored[work.drawing].add(seconds[SCORE], sum(work.pictures.values()))
        for attack in summary.attacks:
            parts = [part for stage, part in seconds.items() if stage.startswith(f"{attack.label}: ")]
            if attack.status == "done" and parts and attack.label in work.attacks:
                self._attacked[work.attacks[attack.label]].append(sum(parts))

    def seconds(self, stage: str, work: Workload) -> float | None:
        """How long a stage will take.

        Args:
            stage: `erase`, `pictures ROLE`, `original ROLE`, `score` or `attack LABEL`.
            work: The workload of its cell.

        Returns:
            None where no earlier cell did the same.
        """
        kind, _, rest = stage.partition(" ")
        if stage == ERASE:
            return _middle(self._trained.get(work.training))
        if stage == SCORE:
            return _rate(self._scored, work.drawing).of(sum(work.pictures.values()))
        if f"{kind} " == ATTACK:
            return _middle(self._attacked.get(work.attacks.get(rest, "")))
        return _rate(self._drawn, work.drawing).of(work.pictures.get(rest, 0))


def _middle(values: list[float] | None) -> float | None:
    """Not the mean: one cell that waited for a busy machine must not count for all."""
    return median(values) if values else None


def _rate(rates: dict[str, _Rates], key: str) -> _Rates:
    return rates.get(key) or _Rates()
