"""Whether all that a cell follows from lies in its run folder as it was written, and whose code wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.code import code_fault
from zbench.errors import StoreError
from zbench.stages.picture_files import is_thinned, picture_name
from zbench.store import DONE, Store, read_json

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult

_MANIFEST = "manifest.json"


class RunEvidence:
    """The stages of one run folder; each is looked at once, however many cells share it.

    Args:
        root: The run folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store(root)
        self._faults: dict[str, tuple[str, ...]] = {}

    def faults(self, result: CellResult) -> Iterator[str]:
        """Why a cell's evidence does not bear its result, each in one line.

        Args:
            result: As the run folder holds it.
        """
        named = [*result.stages.values(), *(p for record in result.attacks for p in record.stages.values())]
        places = dict.fromkeys([f"cells/{result.id}", *named])
        if "score" not in result.stages:
            yield "names no scores: run the same command again"
        for place in [*places, *self._looked_at(places)]:
            if place not in self._faults:
                self._faults[place] = tuple(self._of_stage(place))
            yield from self._faults[place]

    def _looked_at(self, places: Iterable[str]) -> list[str]:
        """Raw scores by which the pictures of attacks were judged: no record names them."""
        manifests = {_hashes(self.root / place).get(_MANIFEST) for place in places}
        return [place for place, manifest in self._detections.items() if manifest in manifests]

    @cached_property
    def _detections(self) -> dict[str, str]:
        """Place -> hash of the manifest of the pictures that were looked at."""
        folders = sorted((self.root / "detections").glob(f"[!.]*/{DONE}"))
        records = {f"detections/{path.parent.name}": _config(path.parent) for path in folders}
        return {place: str(config["samples"]) for place, config in records.items() if "samples" in config}

    def _of_stage(self, place: str) -> Iterator[str]:
        if not _is_inside(place):
            yield f"names a stage outside of its run folder: {place}"
            return
        try:
            folder = self.store.stored(place)
            whole = folder.is_complete() and _pictures_fit(folder.path)
            code = folder.done().get("code")
        except StoreError as error:
            yield str(error)
            return
        if not whole:
            yield f"files of {place} are missing or were altered: run the same command again"
        # A stage of an older zbench says nothing of the code: the cell's own provenance speaks for it.
        fault = code_fault(code if isinstance(code, Mapping) else {}) if code is not None else None
        if fault is not None:
            yield f"{place}: {fault}: commit or install, and run it again in a new folder (--out)"


def _is_inside(place: str) -> bool:
    parts = Path(place).parts
    return bool(parts) and not Path(place).is_absolute() and ".." not in parts


def _pictures_fit(folder: Path) -> bool:
    """Whether a samples folder's pictures are those that its manifest names; thumbnails have other hashes."""
    hashes = _hashes(folder)
    if _MANIFEST not in hashes or is_thinned(folder):
        return True
    samples = read_json(folder / _MANIFEST)["samples"]
    return all(hashes.get(picture_name(n)) == sample["sha256"] for n, sample in enumerate(samples))


def _hashes(folder: Path) -> Mapping[str, str]:
    files = _record(folder).get("files")
    return files if isinstance(files, dict) else {}


def _config(folder: Path) -> Mapping[str, Any]:
    config = _record(folder).get("config")
    return config if isinstance(config, dict) else {}


def _record(folder: Path) -> Mapping[str, Any]:
    try:
        record = read_json(folder / DONE)
    except StoreError:
        return {}
    return record if isinstance(record, dict) else {}
