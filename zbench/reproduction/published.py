"""Published results as an answer to planned cells: of each concept and protocol one group, never two mixed.

Ids also hold versions of packages, which differ elsewhere, so that a result is found by what it did. Only
results of one model's weights, one version of the protocol, the same prompts, detectors and instruments may
be compared (`zbench.results.groups`): of several such groups that fit, the largest one is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.results.groups import groups
from zbench.results.tree import read_tree

if TYPE_CHECKING:
    from zbench.results.schema import PublishedResult
    from zbench.runner.specs import CellSpec

_ALIKE = ("method", "hyperparameters", "concept", "protocol")
"""Fields of a spec that a result of it must share, besides the conditions of its group."""

_CONDITIONS = ("prompts", "repetitions", "steps", "height", "width", "guidance_scale")
"""Fields of a spec that all results of a group share; `references` is a folder, which differs elsewhere."""


@dataclass(frozen=True)
class Comparable:
    """Results that may be compared, whatever attacks they hold.

    Attributes:
        results: At least one.
    """

    results: tuple[PublishedResult, ...]

    @property
    def first(self) -> PublishedResult:
        """Any of them: in everything but method, training and attacks they are alike."""
        return self.results[0]

    def fits(self, spec: CellSpec) -> bool:
        """Whether they were made under the conditions of a planned cell."""
        return _plain(spec, _CONDITIONS) == _plain(self.first.result.spec, _CONDITIONS)


class ResultTree:
    """Looks cells up in a tree of published results.

    Attributes:
        problems: Files that are no results, a line each.

    Args:
        root: Such as ``results``.
        model: Name of the model.
    """

    def __init__(self, root: Path, model: str) -> None:
        tree = read_tree(root)
        self.problems = tuple(str(problem) for problem in tree.problems)
        self._known: dict[tuple[str, str], list[Comparable]] = {}
        for each in _comparable([result for result in tree.results if result.model.name == model]):
            self._known.setdefault(_topic(each.first.result.spec), []).append(each)

    def __call__(self, spec: CellSpec) -> PublishedResult | None:
        """The result of a planned cell; None where there is none."""
        chosen = self._chosen(spec)
        found = [each for each in chosen.results if _is_of(spec, each.result.spec)] if chosen else []
        return min(found, key=lambda each: (len(each.result.attacks), each.id), default=None)

    def left_out(self, spec: CellSpec) -> Iterator[str]:
        """Results of the cell's concept and protocol that may not be compared with those that are read.

        Args:
            spec: The planned cell.
        """
        chosen, wanted = self._chosen(spec), _plain(spec, _CONDITIONS)
        for each in self._known.get(_topic(spec), ()):
            if each is not chosen:
                differs = _differences(wanted, chosen.first if chosen else None, each.first)
                count = "1 result" if len(each.results) == 1 else f"{len(each.results)} results"
                yield (
                    f"Left out, {spec.concept} of protocol {spec.protocol}: {count} of other circumstances"
                    f" ({', '.join(differs)})."
                )

    def _chosen(self, spec: CellSpec) -> Comparable | None:
        """The largest group that fits."""
        fitting = [each for each in self._known.get(_topic(spec), ()) if each.fits(spec)]
        return max(fitting, key=lambda each: len(each.results), default=None)


def _comparable(results: Sequence[PublishedResult]) -> Iterator[Comparable]:
    """Groups of results without regard to attacks: a table needs several suites on the same erasures."""
    whole = {each.id: each for each in results}
    for group in groups(_without_attacks(each) for each in results):
        yield Comparable(tuple(whole[each.id] for each in (*group.results, *group.superseded)))


def _without_attacks(result: PublishedResult) -> PublishedResult:
    spec = result.result.spec.model_copy(update={"attacks": (), "attack_prompts": None})
    return result.model_copy(update={"result": result.result.model_copy(update={"spec": spec})})


def _topic(spec: CellSpec) -> tuple[str, str]:
    return spec.concept, spec.protocol


def _is_of(planned: CellSpec, found: CellSpec) -> bool:
    """Whether a result is that of a planned cell; attacks beyond those planned do no harm."""
    if _plain(planned, _ALIKE) != _plain(found, _ALIKE):
        return False
    if not planned.attacks:
        return True
    made = [(each.name, each.hyperparameters) for each in found.attacks]
    wanted = [(each.name, each.hyperparameters) for each in planned.published().attacks]
    return planned.attack_prompts == found.attack_prompts and all(each in made for each in wanted)


def _plain(spec: CellSpec, names: Sequence[str]) -> dict[str, Any]:
    return spec.model_dump(mode="json", include=set(names))


def _differences(
    wanted: dict[str, Any], chosen: PublishedResult | None, other: PublishedResult
) -> Iterator[str]:
    """What tells results from those that are read, or, where none are, from those that are planned."""
    own = _plain(other.result.spec, _CONDITIONS)
    yield from (f"{name} {own[name]}" for name in _CONDITIONS if own[name] != wanted[name])
    if chosen is None:
        return
    if other.protocol != chosen.protocol:
        yield f"protocol {other.protocol}, not {chosen.protocol}"
    if other.model != chosen.model:
        changed = [name for name, value in other.model if value != getattr(chosen.model, name)]
        yield "model: " + ", ".join(f"{name} {getattr(other.model, name)}" for name in changed)
    if other.prompts != chosen.prompts:
        yield "other prompts"
    ours, theirs = chosen.result.provenance, other.result.provenance
    read_by = ("detectors", "instruments")
    yield from (f"other {name}" for name in read_by if ours.get(name) != theirs.get(name))
    if other.result.spec.references != chosen.result.spec.references:
        yield f"references {other.result.spec.references}"
