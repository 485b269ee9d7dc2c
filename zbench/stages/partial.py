"""A drawing under way: pictures go to disk as they are drawn, and a killed drawing goes on from there.

The folder holds the pictures and a journal: its first line says for which configuration, every other one the
number and the SHA-256 of a picture that is there as a whole. What the journal does not know, or knows
otherwise, is drawn again.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from zbench.code import code_fault, code_record
from zbench.errors import StoreError
from zbench.stages.picture_files import picture_path, write_picture
from zbench.stages.samples import Manifest, Sample, read_manifest, write_manifest
from zbench.store import atomic_write_text, canonical_json, sha256_bytes, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

JOURNAL = "journal.jsonl"


class NotWritten(Exception):
    """Ends the work on further pictures; leaving the `with` block raises what went wrong with the writing.

    It is no error of files, so that the code that draws cannot be blamed for a full disk.
    """


class PartialSamples:
    """The folder of a drawing, to be used in a `with` block.

    Pictures are encoded and written by a thread of their own while the next ones are drawn.

    Attributes:
        known: Index -> SHA-256 of the pictures that are there.
    """

    def __init__(self, place: Path, config: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        """Finds out what is there, and removes everything else.

        Args:
            place: The folder, which exists.
            config: The whole configuration of the stage: the work of another one is not used.
            samples: What is to be drawn.
        """
        self._place, self._samples = place, samples
        # What nobody can get again draws for itself: clean code goes on with nothing that it began.
        made_by = {"unclean": True} if code_fault(code_record()) else {}
        self._digest = sha256_bytes(canonical_json({**config, **made_by}).encode())
        self.known = self._intact(self._journalled() or self._listed())
        self._clear()

    # What is there ----------------------------------------------------------------------------------------

    def _journalled(self) -> dict[int, str]:
        """What the journal says; nothing where it is missing or of another configuration."""
        lines = _whole_lines(self._place / JOURNAL)
        if not lines or lines[0] != {"config": self._digest}:
            return {}
        return {line["index"]: line["sha256"] for line in lines[1:] if {"index", "sha256"} <= line.keys()}

    def _listed(self) -> dict[int, str]:
        """What the manifest says: it comes last, and a kill may leave it without the journal."""
        try:
            found = read_manifest(self._place).samples
        except StoreError:
            return {}
        same = [sample.model_copy(update={"sha256": ""}) for sample in found] == list(self._samples)
        return {index: sample.sha256 for index, sample in enumerate(found)} if same else {}

    def _intact(self, recorded: Mapping[int, str]) -> dict[int, str]:
        wanted = range(len(self._samples))
        paths = {index: picture_path(self._place, index) for index in sorted(recorded) if index in wanted}
        return {
            index: recorded[index]
            for index, path in paths.items()
            if path.is_file() and sha256_file(path) == recorded[index]
        }

    def _clear(self) -> None:
        """Leaves the known pictures and a journal of exactly these."""
        picture_path(self._place, 0).parent.mkdir(exist_ok=True)
        entries = [_entry(index, sha256) for index, sha256 in self.known.items()]
        lines = [canonical_json({"config": self._digest}), *entries]
        # First of all, and as a whole: a kill in between must not lose what the manifest alone knew.
        atomic_write_text(self._place / JOURNAL, "".join(f"{line}\n" for line in lines))
        keep = {picture_path(self._place, index) for index in self.known} | {self._place / JOURNAL}
        for path in self._place.rglob("*"):
            if path.is_file() and path not in keep:
                path.unlink()

    # What comes to it -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._journal: IO[str] = (self._place / JOURNAL).open("a", encoding="utf-8")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._writing: Future[None] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True)
        self._journal.close()
        failure = self._failure()
        if failure is not None and (error is None or isinstance(error, NotWritten)):
            raise failure

    def add(self, indices: Sequence[int], pictures: Tensor) -> None:
        """Hands pictures over to be written; waits where those before them are not written yet.

        Args:
            indices: Which of the samples they are, n of them.
            pictures: uint8 [n, 3, H, W] on the CPU, not changed afterwards.

        Raises:
            NotWritten: Those before them could not be written.
        """
        if self._failure() is not None:
            raise NotWritten
        self._writing = self._writer.submit(self._write, tuple(indices), pictures)

    def _failure(self) -> BaseException | None:
        return None if self._writing is None else self._writing.exception()

    def _write(self, indices: Sequence[int], pictures: Tensor) -> None:
        for index, picture in zip(indices, pictures, strict=True):
            self.known[index] = write_picture(picture_path(self._place, index), picture)
            self._journal.write(_entry(index, self.known[index]) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def finish(self, size: tuple[int, int], provenance: dict[str, Any]) -> None:
        """Turns the folder into a whole samples folder, all of whose pictures are there.

        Args:
            size: (height, width) of the pictures.
            provenance: Goes into the manifest.

        Raises:
            ValueError: Pictures are missing.
        """
        if len(self.known) != len(self._samples):
            raise ValueError(f"{len(self.known)} pictures but {len(self._samples)} descriptions")
        samples = [
            sample.model_copy(update={"sha256": self.known[index]})
            for index, sample in enumerate(self._samples)
        ]
        write_manifest(self._place, Manifest(tuple(samples), size, provenance))
        (self._place / JOURNAL).unlink()


def _entry(index: int, sha256: str) -> str:
    return canonical_json({"index": index, "sha256": sha256})


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal up to the first one that a kill left torn."""
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return []
    found = [_parsed(line) for line in lines]
    return [entry for entry in itertools.takewhile(bool, found) if entry]


def _parsed(line: str) -> dict[str, Any]:
    """A line of the journal; empty where it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
