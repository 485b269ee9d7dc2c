"""A grid as a run would find it: its cells, their stages, and what each of them is expected to take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zbench.runner.outlook.estimates import ERASE, ORIGINAL_PICTURES, OWN

if TYPE_CHECKING:
    from zbench.runner.specs import CellSpec

StageState = Literal["to do", "begun", "done", "shared"]
"""`begun`: an earlier run did a part that is gone on with; `shared`: an earlier cell of the grid does it."""

CellState = Literal["to do", "done", "skipped", "broken"]
"""`skipped`: its method refuses the concept; `broken`: it cannot be run, and will be recorded as failed."""


@dataclass(frozen=True)
class StagePlan:
    """A stage of a cell that is not done.

    Attributes:
        name: `erase`, `pictures ROLE`, `original ROLE`, `score` or `attack LABEL`.
        state: See `StageState`.
        seconds: What is expected to be left of it, None where nobody knows.
    """

    name: str
    state: StageState
    seconds: float | None

    @property
    def is_left(self) -> bool:
        """Whether this cell has to do it."""
        return self.state in ("to do", "begun")


@dataclass(frozen=True)
class CellPlan:
    """A cell of a grid as a run would find it.

    Attributes:
        spec: The cell.
        id: Its identity.
        state: See `CellState`.
        reason: Why it is skipped or broken, or how it failed before; empty otherwise.
        stages: Of a cell that is to do, in order.
    """

    spec: CellSpec
    id: str
    state: CellState
    reason: str = ""
    stages: tuple[StagePlan, ...] = ()

    @property
    def label(self) -> str:
        """How people are told of it, such as `nudity: zerase s0`."""
        return f"{self.spec.concept}: {self.spec.label}"

    @property
    def left(self) -> tuple[StagePlan, ...]:
        """Stages that it has to do."""
        return tuple(stage for stage in self.stages if stage.is_left)

    @property
    def seconds(self) -> float | None:
        """What it is expected to take; None where a stage of it is unknown."""
        known = [stage.seconds for stage in self.left if stage.seconds is not None]
        return sum(known) if len(known) == len(self.left) else None


@dataclass(frozen=True)
class Survey:
    """A whole grid as a run would find it.

    Attributes:
        cells: Its cells, in the order of the plan.
        measured: Number of earlier cells whose times were used.
    """

    cells: tuple[CellPlan, ...]
    measured: int

    def having(self, state: CellState) -> list[CellPlan]:
        """Cells of one state."""
        return [cell for cell in self.cells if cell.state == state]

    @property
    def seconds(self) -> float:
        """Expected work that is left, as far as it is known."""
        return sum(stage.seconds or 0.0 for cell in self.cells for stage in cell.left)

    @property
    def unknown(self) -> Counter[str]:
        """Kind of work whose time nobody knows -> how many stages, such as `erase by zerase`."""
        return Counter(
            _kind_of(cell.spec, stage) for cell in self.cells for stage in cell.left if stage.seconds is None
        )

    @property
    def estimates(self) -> dict[str, float]:
        """Id of a cell that is to do -> seconds that it is expected to take, where that is known."""
        expected = {cell.id: cell.seconds for cell in self.having("to do")}
        return {name: seconds for name, seconds in expected.items() if seconds is not None}


def _kind_of(spec: CellSpec, stage: StagePlan) -> str:
    if stage.name == ERASE:
        return f"erase by {spec.method}"
    return "pictures" if stage.name.startswith((OWN, ORIGINAL_PICTURES)) else stage.name
