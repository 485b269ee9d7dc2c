"""Where replayed candidates come from: folders of attack stages, run folders, JSONL files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.attacks.candidates import Arm
from zbench.attacks.stored import StoredCandidates, read_candidates, text_hash
from zbench.errors import ConfigurationError, StoreError
from zbench.prompts.sets import first_problem
from zbench.store import StageFolder, read_json

if TYPE_CHECKING:
    from torch import Tensor

_DONE = "done.json"

REPLAYS = "replay"
"""Name of the attack that replays; its folders repeat what others hold."""


class _Line(BaseModel):
    """One line of a JSONL file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt_id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    label: str = "replayed"
    flagged: bool = False


class Replayed(BaseModel):
    """One stored candidate: its own text, or where its payload lies.

    Attributes:
        arm: Which arm it belongs to.
        prompt_id: The attacked prompt.
        label: What is special about it.
        sha256: Hash of the payload.
        text: The payload, of a line of a file.
        source: The folder that holds the payload otherwise.
        number: Its place among the folder's candidates.
        k: Number of its trial among those of its arm and prompt there.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    arm: Arm
    prompt_id: str
    label: str
    sha256: str
    text: str | None = None
    source: StoredCandidates | None = None
    number: int = 0
    k: int = 0

    @property
    def trial(self) -> tuple[Path | None, str, int]:
        """What an attack's candidate and its control have in common: folder, prompt and number."""
        return (self.source.folder if self.source else None, self.prompt_id, self.k)

    def payload(self) -> str | Tensor:
        """The text, or embeddings [L, D].

        Raises:
            StoreError: The folder was damaged meanwhile.
        """
        if self.source is None:
            return self.text or ""
        payload: Any = self.source.payload(self.source.candidates[self.number])
        return payload  # type: ignore[no-any-return]


Pair = tuple[Replayed, Replayed | None]
"""A candidate, and the control's candidate of the same trial where there is one that can be replayed."""


def read_pairs(path: Path, flagged: bool) -> dict[str, list[Pair]]:
    """Prompt -> its candidates with their controls, equal candidates once.

    Args:
        path: Like that of `read_source`.
        flagged: Likewise.

    Raises:
        ConfigurationError: Like `read_source`.
    """
    rows = read_source(path, flagged)
    controls = {row.trial: row for row in rows if row.arm == "control"}
    different: dict[tuple[str, str], Replayed] = {}
    for row in rows:
        if row.arm == "attack":
            different.setdefault((row.prompt_id, row.sha256), row)
    pairs: dict[str, list[Pair]] = {}
    for row in different.values():
        pairs.setdefault(row.prompt_id, []).append((row, controls.get(row.trial)))
    return pairs


def read_source(path: Path, flagged: bool) -> list[Replayed]:
    """Every candidate that can be tried on another erasure, in a fixed order.

    Args:
        path: A folder ``attacks/ID``, a run folder, or a JSONL file of {prompt_id, text}.
        flagged: Whether texts may be flagged ones.

    Raises:
        ConfigurationError: There is none, or the source is absent, truncated, altered or flagged.
    """
    return list(_of_lines(path, flagged) if path.is_file() else _of_folders(path, flagged))


def _of_lines(path: Path, flagged: bool) -> Iterator[Replayed]:
    """The candidates of a JSONL file."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be replayed: it is no text that can be read.") from error
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise ConfigurationError(f"{path} is empty: nothing to replay.")
    for number, line in rows:
        try:
            row = _Line.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            why = first_problem(error) if isinstance(error, ValidationError) else "not JSON"
            raise ConfigurationError(
                f'{path}, line {number}: {why}; each line is {{"prompt_id": ..., "text": ...}}.'
            ) from error
        if row.flagged and not flagged:
            raise _must_stay_apart(f"{path}, line {number}")
        yield Replayed(
            arm="attack", prompt_id=row.prompt_id, label=row.label, sha256=text_hash(row.text), text=row.text
        )


def _of_folders(path: Path, flagged: bool) -> Iterator[Replayed]:
    """The candidates of the attack stages at a path, in the order of their folders' names."""
    found = False
    for folder in _stage_folders(path):
        source = _intact(folder)
        # Replays of a run are what others of its folders hold already; with them a run replayed into itself
        # would never be the same twice. One that is named itself is meant.
        if source.attack == REPLAYS and folder != path:
            continue
        if source.is_flagged and not flagged:
            raise _must_stay_apart(str(folder))
        for number, row in enumerate(source.candidates):
            if row.kind in ("text", "embedding") and row.prompt_id is not None:
                found = found or row.arm == "attack"
                yield Replayed(
                    arm=row.arm, prompt_id=row.prompt_id, label=row.label, sha256=row.sha256,
                    source=source, number=number, k=row.k,
                )  # fmt: skip
    if not found:
        raise ConfigurationError(f"{path} holds no prompts or embeddings to replay (changed models are not).")


def _must_stay_apart(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} holds flagged texts, which may be obscene: replay them only where such texts are kept "
        "apart, on an nsfw concept of a model of photographs."
    )


def _stage_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise ConfigurationError(
            f"{path} does not exist: give a folder attacks/ID, a run folder or a JSONL file."
        )
    if (path / _DONE).is_file():
        return [path]
    inside = path / "attacks" if (path / "attacks").is_dir() else path
    folders = sorted(place.parent for place in inside.glob(f"*/{_DONE}"))
    if not folders:
        raise ConfigurationError(f"{path} holds no finished attack: nothing to replay.")
    return folders


def _intact(folder: Path) -> StoredCandidates:
    """A stage's candidates, every file as it was written."""
    try:
        config = read_json(folder / _DONE)["config"]
        if StageFolder(folder, folder.name, config, lambda line: None).is_complete():
            return read_candidates(folder)
    except (StoreError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder} cannot be replayed: {error}") from error
    raise ConfigurationError(f"{folder} is truncated or was altered: copy it again, or run the attack again.")
