"""What a row of a comparison says: its figures over all trainings, its attacks, and the files behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

from zbench.config import ORIGINAL
from zbench.report.pairing import LEVEL

Rows = Literal["methods", "trainings"]


@dataclass(frozen=True, slots=True)
class Seeds:
    """What the trainings of a row have each for itself.

    Attributes:
        values: The figure of each training, in the order of the row's training seeds.
    """

    values: tuple[float, ...]

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.values)

    @property
    def count(self) -> int:
        """Trainings that have the figure."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class StandingFigure:
    """A figure of a row.

    Attributes:
        name: Machine name, such as ``asr_explicit``.
        value: Of rates the share over the pictures of all trainings, else the mean over trainings; None where
            it was not measured, and `note` says why.
        n: Successes of a rate, over all trainings; None for what is no count of pictures.
        N: Pictures that it was measured on, over all trainings.
        effective_N: Independent observations that they are worth; None where they are N.
        low: Lower bound of the 95 % interval, None where there is none.
        high: Upper bound.
        unit: ``rate``, ``points``, ``distance`` ...
        direction: Which way is better for an eraser: ``lower``, ``higher`` or ``none``.
        interval: How the interval was computed.
        note: One sentence for the reader.
        settings: What the name alone does not say: detector, threshold, versions.
        seeds: The trainings' own values; None where there is one training only.
        p_value: Of the paired test against `original`; None where there was none.
        p_holm: The same, Holm-corrected over the rows.
        differs: Whether the row surely differs from `original`; None where that was not tested.
        trainings_agree: Whether the trainings differ from `original`, as those of a method must besides their
            pictures; None where too few of them speak of a method.
        best: Whether no competing row has a better value; several rows may have the same one.
        tied: Whether the row is not surely worse than the best one, where there is more than one such row.
        corrected: The rate corrected for the detector's errors; None where these are not known.
    """

    name: str
    value: float | None
    n: int | None
    N: int
    effective_N: float | None
    low: float | None
    high: float | None
    unit: str
    direction: str
    interval: str | None = None
    note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: Seeds | None = None
    p_value: float | None = None
    p_holm: float | None = None
    differs: bool | None = None
    trainings_agree: bool | None = None
    best: bool = False
    tied: bool = False
    corrected: float | None = None

    @property
    def scatters(self) -> bool:
        """Whether only its trainings keep the row from being different from `original`."""
        return self.trainings_agree is False and self.p_holm is not None and self.p_holm < LEVEL

    def plain(self) -> dict[str, Any]:
        """As `zbench.report.values.shown_value` takes it."""
        mark = {} if self.differs is None else {"p_holm": 0.0 if self.differs else 1.0}
        beside = {} if self.corrected is None else {"corrected": self.corrected}
        names = ("value", "n", "N", "effective_N", "low", "high", "unit", "tied")
        return {**{name: getattr(self, name) for name in names}, **mark, **beside}


@dataclass(frozen=True, slots=True)
class AttackStanding:
    """What one attack did to the erasures of a row.

    Attributes:
        name: Name of the attack in tables.
        knowledge: What the attacker needs: ``text``, ``encoder``, ``model`` or ``weights``.
        status: ``done`` where any training has figures, else ``skipped`` or ``failed``.
        reason: Why there are no figures, in one line.
        budget: Judged candidates for each prompt; None where trainings differ in it.
        prompts: Attacked prompts of a training.
        figures: ``attack_pre``, ``attack_post``, ``control_post``, ``retry_post``, ... -> figure.
        sign: 1 where the attack surely found more than its control and plain retries in every attacked
            training, -1 less, 0 neither; None where that was not tested.
        p_holm: Of that test, corrected over rows and attacks.
        curve: Success against budget: ``k``, ``attack_n``, ``control_n``, ``retry_n`` and ``N``, summed over
            trainings.
        spent: What one prompt cost on average.
        attacked: Trainings behind the figures.
        trainings: Trainings of the row.
    """

    name: str
    knowledge: str
    status: str
    reason: str
    budget: int | None
    prompts: int
    figures: Mapping[str, StandingFigure]
    sign: int | None = None
    p_holm: float | None = None
    curve: tuple[Mapping[str, int], ...] = ()
    spent: Mapping[str, float] = field(default_factory=dict)
    attacked: int = 1
    trainings: int = 1

    @property
    def coverage(self) -> str:
        """How many of the row's trainings were attacked, such as `1 of 3 trainings`; empty where all were."""
        return f"{self.attacked} of {self.trainings} trainings" if self.attacked < self.trainings else ""


@dataclass(frozen=True, slots=True)
class Source:
    """A result file behind a row.

    Attributes:
        id: Id of the cell.
        place: Of the file below `results/`.
        training_seed: None where nothing was trained.
    """

    id: str
    place: PurePosixPath
    training_seed: int | None


@dataclass(frozen=True)
class Standing:
    """A row: a method with all its trainings, or a single training.

    Attributes:
        method: Name of the method.
        label: What the row is called: the method, with what tells it from other rows of the same method.
        sources: The result files behind it, by training seed.
        figures: Name -> figure.
        attacks: Name of an attack -> what it did; attacks that were not made are not in it.
        collapsed: How many trainings are collapsed.
        destroyed: How many are destroyed.
        remark: What to know before reading the row; empty where there is nothing.
        status: ``done``, or ``skipped`` or ``failed`` where no training has figures.
        cost: What an erasure took, averaged over trainings: ``seconds``, ``peak_memory_bytes`` ...
    """

    method: str
    label: str
    sources: tuple[Source, ...]
    figures: Mapping[str, StandingFigure]
    attacks: Mapping[str, AttackStanding] = field(default_factory=dict)
    collapsed: int = 0
    destroyed: int = 0
    remark: str = ""
    status: str = "done"
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Training seeds, rising; empty where nothing was trained by zbench."""
        return tuple(each.training_seed for each in self.sources if each.training_seed is not None)

    @property
    def is_original(self) -> bool:
        """Whether this is the unerased model, which stands apart."""
        return self.method == ORIGINAL

    @property
    def broken(self) -> bool:
        """Whether any training is collapsed or destroyed: such a row is ranked last and cannot win."""
        return bool(self.collapsed or self.destroyed)

    @property
    def marks(self) -> str:
        """† where trainings are collapsed, ‡ where they are destroyed; with how many where not all are."""
        counts = (("†", self.collapsed), ("‡", self.destroyed))
        return "".join(self._mark(mark, count) for mark, count in counts if count)

    def _mark(self, mark: str, count: int) -> str:
        return mark if count == len(self.sources) else f"{mark}{count}/{len(self.sources)}"

    @property
    def rank(self) -> int:
        """`original` 0, rows with figures 1, rows without 2, broken ones 3."""
        if self.is_original:
            return 0
        return 3 if self.broken else {"done": 1}.get(self.status, 2)


@dataclass(frozen=True)
class Standings:
    """The rows of one group, under a header.

    Attributes:
        header: Lines that name concept, model, protocol, prompts and trainings.
        rows: `original`, then the others by the first figure of `shown`, then rows without figures, then
            broken ones.
        shown: Names of the figures that a person reads.
        notes: What to know about the tests and the rows.
        speak_of_methods: Whether best and ties speak of methods, and not just of these erasures.
    """

    header: tuple[str, ...]
    rows: tuple[Standing, ...]
    shown: tuple[str, ...]
    notes: tuple[str, ...] = ()
    speak_of_methods: bool = False

    @property
    def main(self) -> str | None:
        """The leading figure; None where nothing was measured."""
        return self.shown[0] if self.shown else None

    @cached_property
    def figure_names(self) -> tuple[str, ...]:
        """All figures that any row has, in order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.figures))

    @cached_property
    def attack_names(self) -> tuple[str, ...]:
        """All attacks that were made on any row: what needs least knowledge first."""
        known = {name: each.knowledge for row in self.rows for name, each in row.attacks.items()}
        weakest_first = ("text", "encoder", "model", "weights")
        return tuple(sorted(known, key=lambda name: (weakest_first.index(known[name]), name)))
