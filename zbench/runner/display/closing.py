"""What is said when a grid is over: what failed and how to go on first, then what was done."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zbench.runner.display.durations import shown_seconds
from zbench.runner.specs import CellResult

Status = Literal["done", "skipped", "failed", "stopped", "waiting"]

_REASONS = 20
"""Cells of one kind that are told of one by one."""


@dataclass(frozen=True)
class CellEnd:
    """How one cell of a grid stands when it is over.

    Attributes:
        label: How people are told of it.
        status: `stopped` on request; `waiting` where it was not started; the others as in a result.
        reason: Why there are no figures, in one line.
        log: What its process printed; None where it had none of its own.
        before: Whether an earlier run had done it.
        ran: Stages that it did itself.
        found: Stages that were there: of an earlier try, or done by others.
        attacks: Attacks that failed, and why.
    """

    label: str
    status: Status
    reason: str = ""
    log: Path | None = None
    before: bool = False
    ran: int = 0
    found: int = 0
    attacks: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @classmethod
    def of(cls, result: CellResult, label: str, log: Path | None = None, before: bool = False) -> CellEnd:
        """From a result.

        Args:
            result: The cell's.
            label: How people are told of it.
            log: What its process printed.
            before: Whether the result was there before this run.
        """
        ran = sum(stage in result.seconds for stage in result.stages)
        attacks = [
            (each.label, _last_line(each.reason)) for each in result.attacks if each.status == "failed"
        ]
        reason = "" if result.status == "done" else result.reason
        found = len(result.stages) - ran
        return cls(label, result.status, reason, log, before, ran, found, attacks)


def _last_line(text: str) -> str:
    return next(iter(reversed(text.strip().splitlines())), "")


def resume_command(words: Sequence[str]) -> str:
    """The command that goes on where this one ended: the same again.

    Args:
        words: After `zbench`, as the shell gave them.
    """
    return shlex.join(["zbench", *words])


def closing_lines(ends: Sequence[CellEnd], seconds: float, resume: str) -> list[str]:
    """The end of a grid in a few lines, however many cells it has.

    Args:
        ends: Its cells, in order.
        seconds: That this run took.
        resume: The command that goes on.
    """
    return [*_failures(ends), *_unfinished(ends, resume), *_skips(ends), _account(ends, seconds)]


def _failures(ends: Sequence[CellEnd]) -> Iterator[str]:
    failed = _those(ends, "failed")
    if failed:
        yield f"{len(failed)} of {_cells(len(ends))} failed:"
        yield from _told(f"{end.label}: {end.reason or 'no reason was given'}{_log(end)}" for end in failed)
    attacks = [(end, *attack) for end in ends for attack in end.attacks]
    if attacks:
        yield f"{len(attacks)} {'attack' if len(attacks) == 1 else 'attacks'} failed, of cells that are done:"
        yield from _told(f"{name} on {end.label}: {reason}{_log(end)}" for end, name, reason in attacks)


def _log(end: CellEnd) -> str:
    return "" if end.log is None or str(end.log) in end.reason else f"\n    log: {end.log}"


def _unfinished(ends: Sequence[CellEnd], resume: str) -> Iterator[str]:
    stopped, waiting = _those(ends, "stopped"), _those(ends, "waiting")
    if stopped:
        yield f"{_cells(len(stopped))} stopped before the end; what is finished of them is kept:"
        yield from _told(end.label for end in stopped)
    if waiting:
        yield f"{_cells(len(waiting))} not started"
    if stopped or waiting or any(end.status == "failed" or end.attacks for end in ends):
        yield f"To go on: {resume}"


def _skips(ends: Sequence[CellEnd]) -> Iterator[str]:
    skipped = _those(ends, "skipped")
    if skipped:
        yield f"{_cells(len(skipped))} skipped:"
        yield from _told(f"{end.label}: {end.reason}" for end in skipped)


def _account(ends: Sequence[CellEnd], seconds: float) -> str:
    done = _those(ends, "done")
    before = sum(end.before for end in done)
    new = [end for end in ends if not end.before]
    ran, found = sum(end.ran for end in new), sum(end.found for end in new)
    earlier = f" ({before} of them before)" if before else ""
    shared = f": {ran} stages run, {found} found done" if ran or found else ""
    return f"{_cells(len(done))} done{earlier} in {shown_seconds(seconds)}{shared}"


def _those(ends: Sequence[CellEnd], status: Status) -> list[CellEnd]:
    return [end for end in ends if end.status == status]


def _cells(count: int) -> str:
    return f"{count} {'cell' if count == 1 else 'cells'}"


def _told(lines: Iterable[str]) -> Iterator[str]:
    """The first ones, indented, and how many there are more: a grid may fail as a whole."""
    every = list(lines)
    yield from (f"  {line}" for line in every[:_REASONS])
    if len(every) > _REASONS:
        yield f"  and {len(every) - _REASONS} more"
