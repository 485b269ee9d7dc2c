"""What was measured for a table: the results of its runs, out of a run folder or out of a tree of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.metrics.robustness import AttackRecord
from zbench.report.pooling import Trainings
from zbench.reproduction.grids import Options, TableRun, table_runs
from zbench.reproduction.tables import ORIGINAL, PaperTable
from zbench.runner.planning import plan
from zbench.runner.specs import CellResult, CellSpec
from zbench.store import MARKER, read_json

if TYPE_CHECKING:
    from zbench.results.schema import FigureOutcomes, PublishedResult

Find = Callable[[CellSpec], "PublishedResult | None"]
"""The result of a planned cell, None where there is none yet."""

Place = tuple[str, str, str]
"""Row, concept and variant."""

_ALIKE = frozenset(
    {
        *("method", "hyperparameters", "concept", "protocol"),
        *("prompts", "repetitions", "steps", "height", "width"),
    }
)
"""Fields of a spec that a result elsewhere must share; weights and prompts are looked at by its group."""


@dataclass(frozen=True)
class Measured:
    """What was measured for a table.

    Attributes:
        table: The table.
        domain: Domain of the model.
        model: Its label.
        rows: (row, concept, variant) -> its trainings that are done.
        wanted: Cells that the table has.
        found: How many of them have figures.
        failed: Cells that failed or were skipped, with the reason.
    """

    table: PaperTable
    domain: str
    model: str
    rows: dict[Place, Trainings]
    wanted: int
    found: int
    failed: tuple[str, ...] = ()


@dataclass
class _Found:
    """Results by place, while they are gathered."""

    rows: dict[Place, dict[int | None, PublishedResult]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    wanted: set[tuple[Place, int | None]] = field(default_factory=set)

    def add(self, place: Place, spec: CellSpec, result: PublishedResult | None) -> None:
        """Takes note of a planned cell."""
        self.wanted.add((place, spec.training_seed))
        if result is None:
            return
        if result.result.status != "done":
            how = f"{result.result.status} ({result.result.reason})"
            self.failed.append(f"{spec.label} on {spec.concept}: {how}")
            return
        self.rows.setdefault(place, {})[spec.training_seed] = with_attack_figures(result)

    @property
    def trainings(self) -> dict[Place, Trainings]:
        """By training seed."""
        return {
            place: Trainings([of[seed] for seed in sorted(of, key=lambda seed: seed or 0)])
            for place, of in self.rows.items()
        }


def read_measured(table: PaperTable, options: Options, find: Find) -> Measured:
    """The results of every cell that a table has.

    Args:
        table: The table.
        options: Which model, and how many trainings.
        find: Looks a cell up; see `finder`.
    """
    from zbench.model import load_spec

    model, found = load_spec(options.model), _Found()
    for run in table_runs(table, options):
        for spec in plan(run.config):
            found.add((_row(run, spec), run.concept, run.variant), spec, find(spec))
    rows = found.trainings
    count = sum(len(each.results) for each in rows.values())
    return Measured(
        table, model.domain, model.label, rows, len(found.wanted), count, tuple(dict.fromkeys(found.failed))
    )


def _row(run: TableRun, spec: CellSpec) -> str:
    return ORIGINAL if spec.is_original else run.rows[spec.method]


def with_attack_figures(result: PublishedResult) -> PublishedResult:
    """The result with its attacks' figures among its own, as ``LABEL/FIGURE``, like their outcomes."""
    figures = [
        {**figure, "name": f"{record.label}/{figure['name']}"}
        for record in result.result.attacks
        for figure in record.figures
    ]
    own = result.result.model_copy(update={"figures": (*result.result.figures, *figures)})
    return result.model_copy(update={"result": own})


# Where results are ----------------------------------------------------------------------------------------


def finder(place: Path, model: str) -> Find:
    """Looks cells up in a run folder, or in a tree of published results.

    Args:
        place: The folder.
        model: Name of the model, as published results have it.

    Raises:
        StoreError: It is neither.
    """
    if not place.is_dir():
        raise StoreError(
            f"There is no folder {place}: give the run folder of `zbench reproduce`, or results/."
        )
    return in_run_folder(place) if (place / MARKER).exists() else in_tree(place, model)


def in_run_folder(root: Path) -> Find:
    """Looks cells up by their identity, which holds everything that their figures depend on."""
    from zbench.runner.identity import CELLS
    from zbench.runner.workshop import Workshop

    identities, known = Workshop().identities, dict[str, "PublishedResult | None"]()

    def find(spec: CellSpec) -> PublishedResult | None:
        name = identities.name(spec)
        if name not in known:
            path = root / CELLS / name / "result.json"
            known[name] = _stored(path, root) if path.is_file() else None
        return known[name]

    return find


def _stored(path: Path, root: Path) -> PublishedResult:
    result = CellResult.model_validate(read_json(path))
    return unpublished(result, root)


def unpublished(result: CellResult, root: Path) -> PublishedResult:
    """A run folder's result in the form of a published one, without its pictures.

    Args:
        result: As the folder holds it, failed ones included.
        root: The run folder.
    """
    from zbench.results.facts import concept_facts, model_facts, prompt_facts, release_of
    from zbench.results.schema import MethodFacts, PublishedResult

    model, done = model_facts(result), result.status == "done"
    return PublishedResult(
        result=result,
        model=model,
        concept=concept_facts(result, model.domain),
        method=MethodFacts(name=result.spec.method),
        release=release_of(result.provenance),
        prompts=prompt_facts(result.provenance),
        outcomes=_outcomes(result, root) if done else {},
    )


def _outcomes(result: CellResult, root: Path) -> dict[str, FigureOutcomes]:
    from zbench.results.outcomes import Layout, attack_outcomes, figure_outcomes
    from zbench.stages.evidence_files import read_evidence
    from zbench.stages.judge import read_outcomes

    layout = Layout(dict(_drawn(result, root)))
    found = figure_outcomes(read_evidence(root / result.stages["score"])[0], layout, result.figures)
    for record in _done(result.attacks):
        judged = read_outcomes(root / record.stages["score"])
        found |= attack_outcomes(record.label, judged, layout, "explicit")
    return found


def _done(records: Iterable[AttackRecord]) -> Iterable[AttackRecord]:
    return (record for record in records if record.status == "done")


def _drawn(result: CellResult, root: Path) -> Iterable[tuple[str, list[tuple[str, str, int]]]]:
    """Role -> (prompt set, prompt id, repetition) of each picture, in order."""
    for stage, place in result.stages.items():
        if stage.startswith("pictures "):
            samples = read_json(root / place / "manifest.json")["samples"]
            keys = [(each["prompt_set"], each["prompt_id"], each["repetition"]) for each in samples]
            yield stage.removeprefix("pictures "), keys


def in_tree(root: Path, model: str) -> Find:
    """Looks cells up by what they did: ids also hold versions of packages, which differ elsewhere."""
    from zbench.results.tree import read_tree

    by_method: dict[tuple[str, str], list[PublishedResult]] = {}
    for result in read_tree(root).results:
        if result.model.name == model:
            by_method.setdefault((result.method.name, result.concept.name), []).append(result)

    def find(spec: CellSpec) -> PublishedResult | None:
        known = by_method.get((spec.method, spec.concept), [])
        return _fewest_attacks([each for each in known if _is_of(spec, each.result.spec)])

    return find


def _fewest_attacks(found: Sequence[PublishedResult]) -> PublishedResult | None:
    return min(found, key=lambda each: (len(each.result.attacks), each.id), default=None)


def _is_of(planned: CellSpec, found: CellSpec) -> bool:
    """Whether a result is that of a planned cell; attacks beyond those planned do no harm."""
    ours, theirs = (_plain(spec) for spec in (planned, found))
    if any(ours.get(name) != theirs.get(name) for name in _ALIKE):
        return False
    if not planned.attacks:
        return True
    made = [(each.name, each.hyperparameters) for each in found.attacks]
    wanted = [(each.name, each.hyperparameters) for each in planned.published().attacks]
    return planned.attack_prompts == found.attack_prompts and all(each in made for each in wanted)


def _plain(spec: CellSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", include=set(_ALIKE))
