"""Candidates on disk: what the attack stage leaves, and what drawing, judging and replaying read.

A folder holds ``candidates.json`` (each candidate with its arm, prompt, trial and cost), the embeddings in
``payloads.safetensors``, changed models in ``edits/N`` (each proves itself by its probe when it is loaded),
and the prompts in ``texts.json``, or, where they may be obscene, in ``flagged_texts.json`` and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.attacks.base import portable
from zbench.attacks.candidates import NOTHING, Arm, Candidate, Kind, Spent
from zbench.errors import StoreError
from zbench.prompts.sets import Prompt
from zbench.store import atomic_write_json, canonical_json, read_json, sha256_bytes, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.attacks.base import Attack
    from zbench.edits import Edit
    from zbench.model import Model

CANDIDATES_FILE = "candidates.json"
TEXTS_FILE = "texts.json"
FLAGGED_FILE = "flagged_texts.json"
PAYLOADS_FILE = "payloads.safetensors"
EDITS_FOLDER = "edits"
SCHEMA_VERSION = 1


class StoredCandidate(BaseModel):
    """A candidate without its payload.

    Attributes:
        arm: ``attack`` or ``control``.
        prompt_id: The attacked prompt; None for a changed model, which is tried on every prompt.
        k: Number of the trial, from 1, among those of this arm and prompt; 0 where there is no payload.
        kind: What the payload is; ``failed`` where there is none.
        label: What is special about it.
        spent: What it has cost for this prompt so far.
        failure: Why there is no payload.
        place: Where the payload lies in its file, or the edit among the edits.
        sha256: Hash of the payload: equal ones give equal pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Arm
    prompt_id: str | None
    k: int = Field(ge=0)
    kind: Kind
    label: str = ""
    spent: Spent = NOTHING
    failure: str = ""
    place: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class StoredCandidates:
    """The candidates of one attack for some prompts.

    Attributes:
        folder: Where they lie.
        attack: Name of the attack.
        title: Its full name.
        knowledge: What the attacker needs; see `AttackCard`.
        hyperparameters: The attack's fields.
        prompts: What was attacked.
        candidates: In the order in which they were offered, the attack's arm first.
        skipped: Why the attack could not be made here; None where it was made.
    """

    folder: Path
    attack: str
    title: str
    knowledge: str
    hyperparameters: dict[str, Any]
    prompts: tuple[Prompt, ...]
    candidates: tuple[StoredCandidate, ...]
    skipped: str | None = None

    @property
    def is_flagged(self) -> bool:
        """Whether the texts lie in the flagged file, which nothing shows unasked."""
        return (self.folder / FLAGGED_FILE).is_file()

    @property
    def fingerprint(self) -> str:
        """Hash of what was offered and what failed, in order; of no costs, which differ from run to run."""
        what = {"arm", "prompt_id", "k", "kind", "label", "failure", "sha256"}
        rows = [row.model_dump(mode="json", include=what) for row in self.candidates]
        return sha256_bytes(canonical_json([self.attack, self.skipped, rows]).encode())

    def payload(self, candidate: StoredCandidate) -> str | Tensor | Edit:
        """What is tried: a text, embeddings [L, D] on the CPU, or a detached edit.

        Raises:
            StoreError: It is not in the folder.
            WeightsError: An edit's files are missing or damaged.
        """
        try:
            if candidate.kind == "text":
                return self._texts[candidate.place]
            if candidate.kind == "embedding":
                return self._embedding(candidate.place)
        except (KeyError, OSError, ValueError) as error:
            raise StoreError(f"{self.folder} is damaged: delete it and run the attack again.") from error
        from zbench.edits import load_edit

        return load_edit(self.edit_folder(candidate))

    def edit_folder(self, candidate: StoredCandidate) -> Path:
        """Where the edit of a candidate is saved."""
        return self.folder / EDITS_FOLDER / candidate.place

    @cached_property
    def _texts(self) -> dict[str, str]:
        name = FLAGGED_FILE if self.is_flagged else TEXTS_FILE
        texts: dict[str, str] = read_json(self.folder / name)
        return texts

    def _embedding(self, place: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.folder / PAYLOADS_FILE, "pt") as file:
                tensor: Tensor = file.get_tensor(place)
        except SafetensorError as error:
            raise KeyError(place) from error
        return tensor


def read_candidates(folder: Path | str) -> StoredCandidates:
    """Reads the candidates of one folder ``attacks/ID``; payloads are read when they are asked for.

    Raises:
        StoreError: There are none, they are damaged, or a newer zbench wrote them.
    """
    path = Path(folder)
    record = read_json(path / CANDIDATES_FILE)
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            f"{path / CANDIDATES_FILE} has not schema version {SCHEMA_VERSION}: written by another zbench?"
        )
    try:
        return StoredCandidates(
            path,
            str(record["attack"]),
            str(record["title"]),
            str(record["knowledge"]),
            dict(record["hyperparameters"]),
            tuple(Prompt.model_validate(row) for row in record["prompts"]),
            tuple(StoredCandidate.model_validate(row) for row in record["candidates"]),
            record["skipped"],
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise StoreError(f"{path / CANDIDATES_FILE} is damaged: delete {path} and run again.") from error


@dataclass
class CandidateWriter:
    """Fills a folder candidate by candidate; edits are saved at once, so that none is held in memory.

    Attributes:
        folder: Where to write.
        flagged: Whether texts go into the flagged file.
    """

    folder: Path
    flagged: bool
    rows: list[StoredCandidate] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)
    _tensors: dict[str, Tensor] = field(default_factory=dict)

    def add(self, candidate: Candidate, arm: Arm, model: Model) -> None:
        """Takes a candidate in.

        Args:
            candidate: Whatever was verified.
            arm: Which arm it belongs to.
            model: The unerased model, for an edit's probe.
        """
        place, digest = self._stored(candidate.payload, candidate.kind, model)
        k = 0 if candidate.kind == "failed" else 1 + self.count(arm, candidate.prompt_id)
        row = StoredCandidate(
            arm=arm, prompt_id=candidate.prompt_id, k=k, kind=candidate.kind, label=candidate.label,
            spent=candidate.spent, failure=candidate.failure, place=place, sha256=digest,
        )  # fmt: skip
        self.rows.append(row)

    def count(self, arm: Arm, prompt_id: str | None, failed: bool = False) -> int:
        """Candidates of an arm and prompt so far: those with a payload, or those without."""
        return sum(
            (row.k == 0) == failed and (row.arm, row.prompt_id) == (arm, prompt_id) for row in self.rows
        )

    def _stored(self, payload: Any, kind: Kind, model: Model) -> tuple[str, str]:
        place = str(len(self.rows))
        if kind == "text":
            self._texts[place] = payload
            return place, text_hash(payload)
        if kind == "embedding":
            # A copy: a view would keep everything alive that it was cut from.
            self._tensors[place] = payload.detach().cpu().clone().contiguous()
            return place, tensor_hash(self._tensors[place])
        if kind == "edit":
            payload.save(self.folder / EDITS_FOLDER / place, model)
            return place, edit_hash(self.folder / EDITS_FOLDER / place)
        return "", ""

    def finish(self, attack: Attack, prompts: Sequence[Prompt], skipped: str | None = None) -> None:
        """Writes everything that is not on disk yet.

        Raises:
            StoreError: The folder cannot be written.
        """
        if self._tensors:
            from safetensors.torch import save_file

            save_file(self._tensors, self.folder / PAYLOADS_FILE)
        if self._texts:
            atomic_write_json(self.folder / (FLAGGED_FILE if self.flagged else TEXTS_FILE), self._texts)
        record = {
            "schema_version": SCHEMA_VERSION, "attack": attack.name, "title": attack.card.title,
            "knowledge": attack.card.knowledge, "hyperparameters": portable(attack.model_dump(mode="json")),
            "prompts": [{"id": prompt.id, "text": prompt.text} for prompt in prompts], "skipped": skipped,
            "candidates": [row.model_dump(mode="json") for row in self.rows],
        }  # fmt: skip
        atomic_write_json(self.folder / CANDIDATES_FILE, json.loads(canonical_json(record)))


def text_hash(text: str) -> str:
    """SHA-256 of a prompt's text, as 64 hex digits."""
    return sha256_bytes(text.encode())


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 over format, shape and values of a tensor on the CPU."""
    import torch

    head = f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()
    return sha256_bytes(head + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def edit_hash(folder: Path) -> str:
    """Hash of a saved edit; an erasure with the same edit has it too, wherever the two lie."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return sha256_bytes(
        canonical_json({f"edit/{name}": sha256_file(p) for name, p in files.items()}).encode()
    )
