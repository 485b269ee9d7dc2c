"""What figures were measured with: model, detectors, instruments. Others are no columns of one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.store import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.results.groups import Group


@dataclass(frozen=True)
class Setting:
    """What the figures of a group were measured with.

    Attributes:
        model: Name of the model with its revision.
        detectors: Names of the detectors.
        key: Hash over the facts of the model, the detectors and the instruments.
    """

    model: str
    detectors: str
    key: str


def setting_of(group: Group) -> Setting:
    """The setting that all results of a group share.

    Args:
        group: Results that may be compared.
    """
    provenance = group.results[0].result.provenance
    detectors = provenance.get("detectors") or ()
    facts = [group.model.model_dump(mode="json"), detectors, provenance.get("instruments")]
    names = ", ".join(str(each.get("name")) for each in detectors if isinstance(each, dict))
    return Setting(group.model.label, names, sha256_bytes(canonical_json(facts).encode())[:8])


def told_apart(settings: Iterable[Setting]) -> dict[Setting, str]:
    """What tells each setting from the others, in words; nothing where there is only one.

    Args:
        settings: In any order, with repetitions.
    """
    found = dict.fromkeys(settings)
    return {each: ", ".join(_words(each, list(found))) for each in found}


def _words(own: Setting, every: list[Setting]) -> Iterable[str]:
    alike = [each for each in every if each.model == own.model]
    if len(alike) < len(every):
        yield own.model
    same = [each for each in alike if each.detectors == own.detectors]
    if len(same) < len(alike):
        yield f"detectors {own.detectors or 'none'}"
    if len(same) > 1:
        yield f"setting {own.key}"
