"""What a check says, and what all checks of a method say together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from zbench.conformance.subject import Subject

Status = Literal["pass", "fail", "skip"]


class SkipCheck(Exception):
    """A check that cannot be made; its text says why."""


@dataclass(frozen=True)
class Outcome:
    """What one check found.

    Attributes:
        status: ``pass``, ``fail``, or ``skip`` where it could not be made.
        said: What was found, in one line.
        figures: Numbers behind it.
        trace: Traceback, where an exception is what was found.
    """

    status: Status
    said: str
    figures: dict[str, Any] = field(default_factory=dict)
    trace: str | None = None


def passed(said: str, **figures: Any) -> Outcome:
    """The check holds."""
    return Outcome("pass", said, figures)


def failed(said: str, **figures: Any) -> Outcome:
    """The check does not hold."""
    return Outcome("fail", said, figures)


def skipped(said: str, **figures: Any) -> Outcome:
    """The check cannot be made, and `said` tells why."""
    return Outcome("skip", said, figures)


def judged(problems: list[str], fine: str, **figures: Any) -> Outcome:
    """Fails with the first of some problems, and their number; passes where there are none."""
    if not problems:
        return passed(fine, **figures)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return failed(f"{problems[0]}{more}", **figures)


@dataclass(frozen=True)
class Check:
    """One rule of the suite.

    Attributes:
        name: Short name.
        sentence: What must hold.
        function: Finds out.
        draws: Whether pictures are drawn and scored for it.
    """

    name: str
    sentence: str
    function: Callable[[Subject], Outcome]
    draws: bool = False


class CheckResult(BaseModel):
    """A check with its outcome.

    Attributes:
        name: Of the check.
        sentence: What must hold.
        status: ``pass``, ``fail`` or ``skip``.
        said: What was found.
        figures: Numbers behind it.
        seconds: Wall time.
        trace: Traceback, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sentence: str
    status: Status
    said: str
    figures: dict[str, Any] = Field(default_factory=dict)
    seconds: float
    trace: str | None = None


class Report(BaseModel):
    """All checks of one method.

    Attributes:
        method: Its name.
        concept: What it erased.
        model: From which model.
        preset: Where its hyper-parameters started from; None for the defaults.
        hyperparameters: All of them.
        checks: In the order in which they were made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    concept: str
    model: str
    preset: str | None
    hyperparameters: dict[str, Any]
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; one that could not be made does not count."""
        return not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.checks if result.status == "fail")

    def result(self, name: str) -> CheckResult:
        """The check of this name."""
        return next(result for result in self.checks if result.name == name)
