"""Names of files that follow from names in results: two different ones never meet in one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from zbench.errors import StoreError
from zbench.results.groups import VARIANT
from zbench.store import safe_name, sha256_bytes

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from zbench.results.groups import Group
    from zbench.results.tree import Part

_Content = TypeVar("_Content")


def file_name(name: str) -> str:
    """A name as part of a path, with the beginning of its hash where letters had to go.

    Args:
        name: Anything; ``van gogh`` and ``van-gogh`` come out differently.
    """
    safe = safe_name(name)
    return safe if safe == name else f"{safe}-{sha256_bytes(name.encode(errors='backslashreplace'))[:6]}"


def with_own_slugs(found: Iterable[Group]) -> Iterator[Group]:
    """The groups; of several on one concept with the same slug, the later ones have a variant's number.

    Args:
        found: Groups of one part of a tree.
    """
    taken: set[tuple[str, str, str, str]] = set()
    for group in found:
        names = (group.model.name, group.concept.family, group.concept.name)
        made, number = group, 1
        while (*names, made.slug) in taken:
            number += 1
            made = replace(group, conditions={**group.conditions, VARIANT: number})
        taken.add((*names, made.slug))
        yield made


def of_several_families(found: Iterable[Part]) -> frozenset[PurePosixPath]:
    """Places of parts whose concept another family of the same model has by the same name.

    Args:
        found: All parts of a tree.
    """
    alike: defaultdict[tuple[str, str], list[PurePosixPath]] = defaultdict(list)
    for part in found:
        if len(part.place.parts) == 3:
            model, _, concept = part.place.parts
            alike[model, concept].append(part.place)
    return frozenset(place for places in alike.values() if len(places) > 1 for place in places)


def without_repeats(files: Iterable[Mapping[str, _Content]]) -> dict[str, _Content]:
    """Files from several sources together.

    Args:
        files: Place -> content, from each source.

    Raises:
        StoreError: Two sources have a file for the same place, and one would overwrite the other.
    """
    found: dict[str, _Content] = {}
    for each in files:
        repeated = sorted(found.keys() & each.keys())
        if repeated:
            raise StoreError(f"Two tables or pages would stand at {repeated[0]}: rename one of them.")
        found |= each
    return found
