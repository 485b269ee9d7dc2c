"""Standings: the rows of a group of published results, pooled over trainings, tested, marked and ranked.

This is where tables, pages and the reproduction of the paper meet the results: everything that they show
follows from here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zbench.report.attack_standings import attack_standings
from zbench.report.contests import Entry, against_original, speak_of_methods, with_best
from zbench.report.costs import mean_costs
from zbench.report.pooling import pooled
from zbench.report.standing import (
    AttackStanding,
    Rows,
    Seeds,
    Source,
    Standing,
    StandingFigure,
    Standings,
)
from zbench.report.standing_words import header_of, notes_of
from zbench.report.trainings import Trainings
from zbench.report.values import SHOWN, TITLES
from zbench.results.groups import row_key
from zbench.store import canonical_json

if TYPE_CHECKING:
    from zbench.results.groups import Group
    from zbench.results.schema import PublishedResult

__all__ = [
    "AttackStanding",
    "Rows",
    "Seeds",
    "Source",
    "Standing",
    "StandingFigure",
    "Standings",
    "standings",
]

_SEED = "training_seed"
_CORRECTED = "_corrected"


def standings(group: Group, rows: Rows = "methods") -> Standings:
    """The rows of a group.

    Rates are counted over the pictures of all trainings, other figures are means over them; every interval
    says how it was computed. `original` and broken rows never compete. With ``methods``, best and ties speak
    of methods where at least two rows have three trainings; then rows with fewer do not compete. Otherwise
    they speak of these erasures.

    Args:
        group: Results that may be compared.
        rows: ``methods`` for one row for all trainings of a method with the same hyper-parameters,
            ``trainings`` for one row for each result.
    """
    found = _grouped(group.results, rows)
    bare = [_bare(row, label) for row, label in zip(found, _labels(found, rows), strict=True)]
    competes = [not row.is_original and not row.broken and row.status == "done" for row in bare]
    of_methods = rows == "methods" and speak_of_methods(list(zip(found, competes, strict=True)))
    shown = _shown(found)
    figures = _figures(found, bare, competes, of_methods)
    attacks = attack_standings([(row, each.broken) for row, each in zip(found, bare, strict=True)])
    whole = [
        replace(row, figures=of, attacks=under) for row, of, under in zip(bare, figures, attacks, strict=True)
    ]
    ranked = tuple(sorted(whole, key=lambda row: _order(row, shown)))
    notes = tuple(notes_of(ranked, rows, of_methods, len(group.superseded)))
    return Standings(tuple(header_of(group)), ranked, shown, notes, of_methods)


# Rows -----------------------------------------------------------------------------------------------------


def _grouped(results: Iterable[PublishedResult], rows: Rows) -> list[Trainings]:
    sorted_in: dict[Hashable, list[PublishedResult]] = {}
    for result in results:
        key: Hashable = row_key(result) if rows == "methods" else result.id
        sorted_in.setdefault(key, []).append(result)
    return [Trainings(sorted(of, key=_seed_and_id)) for of in sorted_in.values()]


def _seed_and_id(result: PublishedResult) -> tuple[int, str]:
    seed = result.result.spec.training_seed
    return (-1 if seed is None else seed, result.id)


def _labels(rows: Sequence[Trainings], kind: Rows) -> list[str]:
    """The method, with the settings that tell rows of one method apart, and the seed of a single training."""
    methods = [row.results[0].method.name for row in rows]
    labels = []
    for row, method in zip(rows, methods, strict=True):
        others = [each for each, name in zip(rows, methods, strict=True) if name == method]
        special = _special(row, others)
        seed = row.results[0].result.spec.training_seed
        parts = [*special, *([f"seed {seed}"] if kind == "trainings" and seed is not None else [])]
        labels.append(f"{method} ({', '.join(parts)})" if parts else method)
    return _told_apart(labels)


def _special(row: Trainings, others: Sequence[Trainings]) -> Iterator[str]:
    """Settings, and where the method came from, in which a row differs from others of the same method."""
    ours = _settings(row)
    all_settings = [_settings(other) for other in others]
    for name in sorted(ours):
        if any(other.get(name) != ours[name] for other in all_settings):
            yield f"{name}={ours[name]}" if name else ours[name]


def _settings(row: Trainings) -> dict[str, str]:
    first = row.results[0]
    fields = first.result.spec.hyperparameters.items()
    return {"": first.method.source, **{name: _plain(value) for name, value in fields if name != _SEED}}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _told_apart(labels: Sequence[str]) -> list[str]:
    """Numbers for labels that occur again, which only results under other conditions can have."""
    seen: dict[str, int] = {}
    found = []
    for label in labels:
        again = seen[label] = seen.get(label, 0) + 1
        found.append(label if again == 1 else f"{label} ({again})")
    return found


def _bare(row: Trainings, label: str) -> Standing:
    """A row without its figures."""
    first = row.results[0]
    done = [result for result in row.results if result.result.status == "done"]
    verdicts = [result.result.verdict or {} for result in done if not result.result.spec.is_original]
    return Standing(
        method=first.method.name,
        label=label,
        sources=tuple(_source(result) for result in row.results),
        figures={},
        collapsed=sum(bool(verdict.get("collapsed")) for verdict in verdicts),
        destroyed=sum(bool(verdict.get("destroyed")) for verdict in verdicts),
        remark=_remark(row),
        status="done" if done else first.result.status,
        cost=mean_costs(result.result.cost for result in done),
    )


def _source(result: PublishedResult) -> Source:
    return Source(result.id, result.place, result.result.spec.training_seed)


def _remark(row: Trainings) -> str:
    """Why trainings are broken, or have no figures."""
    reasons = []
    for result in row.results:
        verdict = (result.result.verdict or {}).get("reasons", ())
        reasons += [str(reason) for reason in verdict]
        if result.result.status != "done":
            reasons.append(f"{result.result.status} ({result.result.reason})")
    return "; ".join(dict.fromkeys(reasons))


def _order(row: Standing, shown: Sequence[str]) -> tuple[int, float, str]:
    """By rank, then by the leading figure, best first, then by name."""
    figure = row.figures.get(shown[0]) if shown else None
    if figure is None or figure.value is None:
        return (row.rank, float("inf"), row.label)
    return (row.rank, -figure.value if figure.direction == "higher" else figure.value, row.label)


# Figures --------------------------------------------------------------------------------------------------


def _shown(rows: Sequence[Trainings]) -> tuple[str, ...]:
    """What the protocol wants to be read, of what was measured at all."""
    results = [result.result for row in rows for result in row.results]
    wanted = next((result.shown for result in results if result.shown), SHOWN)
    return tuple(name for name in TITLES if name in wanted and any(row.measured(name) for row in rows))


def _figures(
    rows: Sequence[Trainings], bare: Sequence[Standing], competes: Sequence[bool], of_methods: bool
) -> list[dict[str, StandingFigure]]:
    """Name -> figure for each row, tested and marked; only what a table may show can be best."""
    original = next((row for row, each in zip(rows, bare, strict=True) if each.is_original), None)
    names = list(dict.fromkeys(name for row in rows for name in row.names))
    found: list[dict[str, StandingFigure]] = [{} for _ in rows]
    for name in names:
        figures: Sequence[StandingFigure | None] = pooled(rows, name)
        if name in TITLES:
            figures = _tested(rows, figures, competes, original, name, of_methods)
        for of, figure in zip(found, figures, strict=True):
            if figure is not None:
                of[name] = figure
    return [_with_corrected(of) for of in found]


def _tested(
    rows: Sequence[Trainings],
    figures: Sequence[StandingFigure | None],
    competes: Sequence[bool],
    original: Trainings | None,
    name: str,
    of_methods: bool,
) -> list[StandingFigure | None]:
    entries = [Entry(*each) for each in zip(rows, figures, competes, strict=True)]
    others = [place for place, entry in enumerate(entries) if entry.row is not original]
    tested = against_original([entries[place] for place in others], original, name)
    for place, figure in zip(others, tested, strict=True):
        entries[place] = replace(entries[place], figure=figure)
    return with_best(entries, name, of_methods=of_methods)


def _with_corrected(figures: Mapping[str, StandingFigure]) -> dict[str, StandingFigure]:
    """Puts the corrected rate beside the one that it corrects."""
    beside = {name: figures.get(f"{name}{_CORRECTED}") for name in figures}
    return {
        name: figure if beside[name] is None else replace(figure, corrected=beside[name].value)  # type: ignore[union-attr]
        for name, figure in figures.items()
    }
