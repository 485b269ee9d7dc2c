"""Running published cells again: do the committed figures still come out?

``python -m zbench.results.recheck results`` runs one training of two methods on the miniature and asks of
every figure whether it lies within its committed interval. Seeds are the same, so that what is left is the
machine and whatever changed in the code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zbench.errors import ConfigurationError, ZbenchError
from zbench.results.groups import groups
from zbench.results.tree import read_tree
from zbench.store import atomic_write_text

if TYPE_CHECKING:
    from zbench.results.schema import PublishedResult
    from zbench.runner.specs import CellResult, CellSpec

RunSpec = Callable[["CellSpec"], "CellResult"]

METHODS = "uce,zerase"
"""A closed form and the method that zbench was made around."""

PROTOCOL = "zbench"


@dataclass(frozen=True)
class Compared:
    """One figure, as committed and as it came out again.

    Attributes:
        name: Of the figure.
        committed: As plain data.
        value: What came out; None where nothing did.
    """

    name: str
    committed: dict[str, Any]
    value: float | None

    @property
    def within(self) -> bool:
        """Whether it lies in the committed interval; figures without one must come out the same."""
        if self.value is None:
            return False
        low, high = self.committed["low"], self.committed["high"]
        if low is None or high is None:
            return bool(abs(self.value - self.committed["value"]) <= 1e-6 * max(1.0, abs(self.value)))
        return bool(low <= self.value <= high)


@dataclass(frozen=True)
class Recheck:
    """A published cell that was run again.

    Attributes:
        published: The committed result.
        reasons: Why the two do not compare at all; empty where they do.
        figures: Every figure that was measured then.
    """

    published: PublishedResult
    reasons: tuple[str, ...]
    figures: tuple[Compared, ...]

    @property
    def holds(self) -> bool:
        """Whether everything came out within its interval."""
        return not self.reasons and bool(self.figures) and all(each.within for each in self.figures)


def chosen(
    root: Path, methods: Sequence[str], concept: str, model: str, protocol: str = PROTOCOL
) -> list[PublishedResult]:
    """One training of each method, the one with the lowest seed, if possible by the protocol's own choices.

    Args:
        root: The tree of results.
        methods: Their names.
        concept: What was erased.
        model: From which model.
        protocol: By which protocol.

    Raises:
        ConfigurationError: A method has no result there; names those that do.
        StoreError: There is no such tree.
    """
    found = [(group, result) for group in groups(read_tree(root).results) for result in group.results]
    there = [
        (bool(group.conditions), each) for group, each in found if _is_wanted(each, concept, model, protocol)
    ]
    known = {each.method.name for _, each in there}
    missing = sorted(set(methods) - known)
    if missing:
        raise ConfigurationError(
            f"{root} has no result of {', '.join(missing)} for {concept} on {model} (protocol {protocol}):"
            f" choose among {', '.join(sorted(known)) or 'none'}."
        )
    return [min((each for each in there if each[1].method.name == name), key=_order)[1] for name in methods]


def _is_wanted(result: PublishedResult, concept: str, model: str, protocol: str) -> bool:
    wanted = (model, concept, protocol)
    return (result.model.name, result.concept.name, result.result.spec.protocol) == wanted


def _order(found: tuple[bool, PublishedResult]) -> tuple[bool, int, str]:
    """Cells of a run with its own conditions last: a shortened one is no check of the table."""
    asked_otherwise, result = found
    return asked_otherwise, result.result.spec.training_seed or 0, result.id


def rerun(published: PublishedResult, run: RunSpec) -> Recheck:
    """Runs a published cell again, without its attacks.

    Args:
        published: The committed result.
        run: Brings a spec to its result.
    """
    spec = published.result.spec.model_copy(update={"attacks": (), "attack_prompts": None, "device": None})
    return compared(published, run(spec))


def compared(published: PublishedResult, again: CellResult) -> Recheck:
    """Asks of every committed figure whether it came out within its interval.

    Args:
        published: The committed result.
        again: What the same spec gave now.
    """
    if again.status != "done":
        return Recheck(published, (f"it {again.status}: {again.reason}",), ())
    figures = [
        Compared(figure["name"], figure, (again.figure(figure["name"]) or {"value": None})["value"])
        for figure in published.result.figures
        if figure["value"] is not None
    ]
    return Recheck(published, tuple(_differences(published, again)), tuple(figures))


def _differences(then: PublishedResult, now: CellResult) -> Iterator[str]:
    """What must be the same for figures to compare."""
    after = now.provenance
    if then.protocol != after["protocol"]:
        yield f"protocol {then.protocol} then, {after['protocol']} now: collect the cell anew"
    if then.model.weights != after["model"]["weights"]:
        yield "the model has other weights now: collect the cell anew"
    for role, facts in then.prompts.items():
        if after["prompts"].get(role, {}).get("sha256") != facts.sha256:
            yield f"the prompts of {role} are others now: raise the protocol's version, collect the cell anew"


def as_markdown(checks: Iterable[Recheck]) -> str:
    """What came out, a table for each cell."""
    lines: list[str] = []
    for check in checks:
        inside = sum(each.within for each in check.figures)
        verdict = "holds" if check.holds else "DOES NOT HOLD"
        lines += [
            f"### {check.published.id}: {verdict}",
            "",
            f"{inside} of {len(check.figures)} figures lie within their committed intervals.",
            "",
            *(f"- {reason}" for reason in check.reasons),
            *_table(check.figures),
        ]
    return "\n".join(lines) + "\n"


def _table(figures: Sequence[Compared]) -> list[str]:
    if not figures:
        return [""]
    rows = [
        f"| {each.name} | {_number(each.committed['value'])} | {_number(each.committed['low'])} to"
        f" {_number(each.committed['high'])} | {_number(each.value)} | {'yes' if each.within else '**NO**'} |"
        for each in figures
    ]
    return ["| figure | committed | interval | now | within |", "|---|---:|---|---:|---|", *rows, ""]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _runner(folder: Path) -> RunSpec:
    from zbench.runner import Workshop, run_cell
    from zbench.store import Store

    store, workshop = Store.open(folder), Workshop()
    return lambda spec: run_cell(spec, store, workshop=workshop)


def main(
    results: Annotated[Path, typer.Argument(help="The tree of results.")],
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = METHODS,
    concept: Annotated[str, typer.Option(help="What was erased.")] = "nudity",
    model: Annotated[str, typer.Option(help="From which model.")] = "miniature",
    protocol: Annotated[str, typer.Option(help="By which protocol.")] = PROTOCOL,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [a temporary one]")] = None,
    summary: Annotated[Path | None, typer.Option(help="File that the tables are added to.")] = None,
) -> None:
    """Run published cells again and compare their figures with the committed intervals."""
    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    try:
        cells = chosen(results, names, concept, model, protocol)
        with tempfile.TemporaryDirectory() as temporary:
            run = _runner(out or Path(temporary) / "runs")
            checks = [rerun(cell, run) for cell in cells]
    except ZbenchError as error:
        print(error)
        raise typer.Exit(2) from error
    text = as_markdown(checks)
    print(text)
    if summary is not None:
        before = summary.read_text(encoding="utf-8") if summary.is_file() else ""
        atomic_write_text(summary, before + text)
    raise typer.Exit(0 if all(check.holds for check in checks) else 1)


if __name__ == "__main__":
    typer.run(main)
