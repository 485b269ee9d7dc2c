"""Where results come from: a run folder, where cells have ids, or a tree of published results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import StoreError
from zbench.reproduction.published import ResultTree
from zbench.runner.specs import CellResult, CellSpec
from zbench.store import MARKER, read_json

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord
    from zbench.results.schema import FigureOutcomes, PublishedResult

Find = Callable[[CellSpec], "PublishedResult | None"]
"""The result of a planned cell, None where there is none yet."""


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
    return in_run_folder(place) if (place / MARKER).exists() else ResultTree(place, model)


def in_run_folder(root: Path) -> Find:
    """Looks cells up by their identity, which holds everything that their figures depend on."""
    from zbench.runner.identity import CELLS
    from zbench.runner.workshop import Workshop

    identities, known = Workshop().identities, dict[str, "PublishedResult | None"]()

    def find(spec: CellSpec) -> PublishedResult | None:
        name = identities.name(spec)
        if name not in known:
            folder = root / CELLS / name
            known[name] = _stored(folder, root) if (folder / "result.json").is_file() else None
        return known[name]

    return find


def _stored(folder: Path, root: Path) -> PublishedResult:
    from zbench.results.collect import read_cell
    from zbench.results.upgrade import Unreadable

    try:
        result = read_cell(folder)
    except (StoreError, Unreadable) as error:
        raise StoreError(f"{folder / 'result.json'}: {error}") from error
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
