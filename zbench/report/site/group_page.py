"""The page of one group: everything that its results say, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from zbench.report.site.costs import Costs, costs_of
from zbench.report.site.gallery import Gallery, gallery_of
from zbench.report.site.ladder import Ladder, ladder_of
from zbench.report.site.places import group_page
from zbench.report.site.planes import Plane, planes_of
from zbench.report.site.table import MainTable, main_table
from zbench.report.site.training import Training, trainings_of

if TYPE_CHECKING:
    from zbench.report.standing import Standings
    from zbench.results.groups import Group

FAMILIES = {
    "nsfw": "NSFW content",
    "style": "Artistic styles",
    "entity": "Entities",
    "abstraction": "Abstractions",
    "identity": "Identities",
}
"""Families of concepts, in the order of the page, as a heading names them."""


@dataclass(frozen=True)
class GroupPage:
    """What the page of a group shows.

    Attributes:
        place: In the site.
        title: The concept.
        family: Its family, as headings name it.
        group: What was compared.
        standings: Header, notes and what best and ties speak of.
        facts: Term -> description: model, protocol, prompts, detectors.
        table: The main table.
        planes: Erasure-preservation planes, the leading one first.
        ladder: Robustness under attack; None without attacks.
        costs: What erasures took; None where nobody says.
        trainings: Training traces.
        gallery: Pictures; None without any.
        downloads: (label, file) of the same table in other forms.
    """

    place: PurePosixPath
    title: str
    family: str
    group: Group
    standings: Standings
    facts: tuple[tuple[str, str], ...]
    table: MainTable
    planes: tuple[Plane, ...]
    ladder: Ladder | None
    costs: Costs | None
    trainings: tuple[Training, ...]
    gallery: Gallery | None
    downloads: tuple[tuple[str, PurePosixPath], ...] = ()

    @property
    def results(self) -> int:
        """Result files behind the page."""
        return len(self.group.results)


def group_page_of(
    group: Group, found: Standings, downloads: tuple[tuple[str, PurePosixPath], ...] = ()
) -> GroupPage:
    """Everything that the page of a group shows.

    Args:
        group: Results that may be compared.
        found: Its standings.
        downloads: See `GroupPage`.
    """
    place = group_page(group)
    results = {result.id: result for result in group.results}
    table = main_table(found, results, place)
    pairs = list(zip(table.rows, found.rows, strict=True))
    keyed = [(row.key, standing) for row, standing in pairs]
    return GroupPage(
        place=place,
        title=title_of(group.concept.name),
        family=FAMILIES.get(group.concept.family, group.concept.family),
        group=group,
        standings=found,
        facts=tuple(_facts(group).items()),
        table=table,
        planes=tuple(planes_of(keyed, table.columns, group.concept.name)),
        ladder=ladder_of(found, table.rows),
        costs=costs_of(pairs),
        trainings=tuple(trainings_of(pairs, results)),
        gallery=gallery_of(pairs, results, place),
        downloads=downloads,
    )


def title_of(concept: str) -> str:
    """A concept's name as a heading: `van-gogh` is Van Gogh."""
    return " ".join(word[:1].upper() + word[1:] for word in concept.replace("_", "-").split("-"))


def _facts(group: Group) -> dict[str, str]:
    model, first = group.model, group.results[0]
    spec = first.result.spec
    facts = {
        "Model": f"{model.label}, {model.width}×{model.height} pixels, {model.steps} steps"
        + (f", guidance {model.guidance_scale:g}" if model.guidance_scale else ""),
        "Weights": model.weights,
        "Protocol": group.protocol,
        "Not as it says": ", ".join(f"{name} {value}" for name, value in group.conditions.items()),
        "Prompts": ", ".join(f"{role} {facts.prompts}" for role, facts in first.prompts.items()),
        "Pictures a prompt": str(spec.repetitions),
        "Erased together": ", ".join(group.concept.members),
        "Detectors": ", ".join(_detectors(first.result.provenance)),
    }
    return {term: text for term, text in facts.items() if text}


def _detectors(provenance: Mapping[str, Any]) -> list[str]:
    """Names of detectors with the beginning of their files' hashes and their thresholds."""
    found = []
    for each in provenance.get("detectors") or ():
        hashed = str(each.get("file_sha256") or each.get("sha256") or "")
        threshold = each.get("threshold")
        more = [f"file {hashed[:12]}…"] if hashed else []
        more += [f"threshold {threshold:g}"] if isinstance(threshold, int | float) else []
        found.append(f"{each.get('name', 'detector')} ({', '.join(more)})" if more else str(each.get("name")))
    return found
