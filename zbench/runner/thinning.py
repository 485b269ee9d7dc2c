"""Which pictures of a grid become thumbnails: those of a cell once it is scored, shared ones at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.runner.cleaning import Contents
from zbench.stages.thumbnails import can_be_thinned, thin

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult
    from zbench.store import Store

_PICTURES = "pictures "
"""Begins the names of stages whose pictures the cell itself draws; those of the original begin otherwise."""


@dataclass(frozen=True)
class Thinned:
    """What became thumbnails.

    Attributes:
        folders: Samples folders.
        bytes: That are free now.
    """

    folders: int = 0
    bytes: int = 0


def thin_cell(store: Store, result: CellResult) -> Thinned:
    """Thins a cell's own pictures once nothing of it is left to do; those of the original serve other cells.

    Args:
        store: The run folder.
        result: The cell's result.
    """
    return thin_places(store, () if result.spec.is_original else _places(result.model_dump(mode="json")))


def thin_grid(store: Store, results: Iterable[CellResult]) -> Thinned:
    """Thins all pictures of cells that are done; for the end of a grid, unless another run may look at them.

    Args:
        store: The run folder.
        results: Of all cells.
    """
    at_work = Contents(store.root).at_work
    if at_work:
        store.notify(
            f"Pictures are kept for now, since another run is at work here ({at_work[0]}):"
            " zbench clean --thumbnails makes them small later."
        )
        return Thinned()
    plain = (result.model_dump(mode="json") for result in results)
    return thin_places(store, dict.fromkeys(place for each in plain for place in _places(each)))


def thinnable(root: Path, results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Samples folders of cells that are done, and that have more than thumbnails.

    Args:
        root: The run folder.
        results: Of the cells, as plain data.
    """
    return [
        place for place in dict.fromkeys(chain.from_iterable(map(_places, results))) if _can(root / place)
    ]


def _can(folder: Path) -> bool:
    try:
        return can_be_thinned(folder)
    except StoreError:
        return False


def _places(result: Mapping[str, Any]) -> list[str]:
    """A cell's samples folders; none where a next run looks at them again, since an attack failed."""
    attacks = result.get("attacks", ())
    if result["status"] != "done" or any(attack["status"] == "failed" for attack in attacks):
        return []
    stages = [part["stages"] for part in (result, *attacks)]
    return [place for each in stages for name, place in each.items() if name.startswith(_PICTURES)]


def thin_places(
    store: Store, places: Iterable[str], progress: Callable[[int, int], None] | None = None
) -> Thinned:
    """Thins samples folders; one that cannot be thinned is told of and stays as it is.

    Args:
        store: The run folder.
        places: Relative to it.
        progress: Told (folders done, folders in all).
    """
    places, freed = list(places), list[int]()
    for number, place in enumerate(places, start=1):
        freed.append(_thin(store, place))
        if progress is not None:
            progress(number, len(places))
    return Thinned(sum(count > 0 for count in freed), sum(freed))


def _thin(store: Store, place: str) -> int:
    """Room is no reason to lose a result over: whatever hinders it, the pictures stay."""
    try:
        return thin(store.stored(place))
    except StoreError as error:
        store.notify(f"The pictures in {Path(place).name} are kept: {error}")
        return 0
