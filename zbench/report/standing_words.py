"""What stands over and under a table of standings, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zbench.protocols import ROLES
from zbench.report.pairing import LEVEL, SEEDS_FOR_METHODS
from zbench.report.standing import Rows, Standing
from zbench.report.values import WORLD_NOTE

if TYPE_CHECKING:
    from zbench.results.groups import Group
    from zbench.results.schema import PublishedResult


TRAININGS_AGREE = (
    f"A row of at least {SEEDS_FOR_METHODS} trainings differs from original only where these do, too: all on"
    f" one side (t test, {100 * LEVEL:.0f} %)."
)


def header_of(group: Group) -> Iterator[str]:
    """Lines that name concept, model, protocol, prompts and trainings.

    Args:
        group: Results that may be compared.
    """
    model, first = group.model, group.results[0]
    size = f"{model.width}x{model.height} pixels, {model.steps} steps"
    yield f"Concept {group.concept.name}, model {model.label}, {size}"
    repetitions = first.result.spec.repetitions
    yield f"Protocol {group.protocol}, prompts {_prompts(first)}, repetitions {repetitions}"
    trained = _trained(group.results)
    if trained:
        yield trained
    if group.conditions:
        changed = ", ".join(f"{name} {value}" for name, value in group.conditions.items())
        yield f"Not as the protocol says: {changed}"
    if model.domain == "world":
        yield WORLD_NOTE


def _prompts(result: PublishedResult) -> str:
    """Roles with the number of their prompts, in the order of a table."""
    known = [role for role in ROLES if role in result.prompts]
    others = sorted(set(result.prompts) - set(known))
    return ", ".join(f"{role} {result.prompts[role].prompts}" for role in [*known, *others])


def _trained(results: Sequence[PublishedResult]) -> str:
    specs = [result.result.spec for result in results]
    seeds = sorted({spec.training_seed for spec in specs if spec.training_seed is not None})
    presets = sorted({spec.preset for spec in specs if spec.preset})
    parts = [
        f"Training seeds {', '.join(map(str, seeds))}" if seeds else "",
        *(f"{p} preset" for p in presets),
    ]
    return ", ".join(part for part in parts if part)


def notes_of(rows: Sequence[Standing], kind: Rows, of_methods: bool, superseded: int) -> Iterator[str]:
    """Lines about the tests, and about rows that are broken or have no figures.

    Args:
        rows: In the order of the table.
        kind: What a row stands for.
        of_methods: Whether best and ties speak of methods.
        superseded: Results that are left out, since others of the same measurement say more.
    """
    if kind == "methods":
        yield from _about_trainings(rows, of_methods)
    if superseded:
        yield f"Left out: {superseded} of the same measurements as others, with fewer attacks."
    for row in rows:
        if row.broken or row.status != "done":
            what = "broken" if row.broken else row.status
            yield f"{row.label}{' ' if row.marks else ''}{row.marks}: {row.remark or what}"


def _about_trainings(rows: Sequence[Standing], of_methods: bool) -> Iterator[str]:
    level = f"{100 * LEVEL:.0f} %"
    if of_methods:
        yield (
            "Surely worse than the best row, or different from original: the paired test over prompts says so"
            f" (Holm-corrected over rows), and so do the trainings, all on one side (t test, {level})."
        )
        few = [row.label for row in rows if 0 < len(row.sources) < SEEDS_FOR_METHODS and row.rank == 1]
        if few:
            names = ", ".join(few)
            yield f"Fewer than {SEEDS_FOR_METHODS} trainings, which say nothing of a method: {names}."
        return
    if any(figure.trainings_agree is not None for row in rows for figure in row.figures.values()):
        yield TRAININGS_AGREE
    if any(row.rank == 1 for row in rows):
        yield "Best and ties speak of these erasures: a claim about a method needs three trainings of each."
