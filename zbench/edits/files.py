"""The files of a saved edit: safetensors, and `edit.json` with their hashes, written last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zbench.errors import StoreError, WeightsError
from zbench.store import atomic_write_bytes, atomic_write_json, sha256_bytes, sha256_file

DESCRIPTION = "edit.json"
SCHEMA_VERSION = 1

Content = tuple[Mapping[str, Tensor], Mapping[str, str]]
"""Tensors and header metadata of one safetensors file."""


def write_edit(folder: Path, description: Mapping[str, Any], contents: Iterable[tuple[str, Content]]) -> None:
    """Writes an edit; until `edit.json` is there, nobody takes the folder for one.

    Args:
        folder: Made if it does not exist.
        description: What `edit.json` says beside the files.
        contents: File name and content, asked for one after the other: only one is held at a time.

    Raises:
        StoreError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot write {folder}: {error.strerror or error}.") from error
    hashes: dict[str, str] = {}
    for name, (tensors, metadata) in contents:
        content = safetensors_bytes(tensors, metadata)
        atomic_write_bytes(folder / name, content)
        hashes[name] = sha256_bytes(content)
    atomic_write_json(
        folder / DESCRIPTION, {**description, "schema_version": SCHEMA_VERSION, "files": hashes}
    )


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; equal tensors and metadata give equal bytes."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return _with_sorted_header(safetensors.torch.save(plain, {"format": "pt", **metadata}))


def _with_sorted_header(content: bytes) -> bytes:
    """The same safetensors file with its header in order.

    The library writes metadata in the order of a hash table, another one each time; but equal edits must be
    equal files, because pictures are found again by the hash of an edit.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def read_description(folder: Path) -> dict[str, Any]:
    """Reads `edit.json` and checks the files it lists.

    Raises:
        WeightsError: There is none, it is newer than this version, or a file is missing or altered.
    """
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        version, hashes = description["schema_version"], description["files"]
        _ = description["kind"], description["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder} holds no complete edit ({DESCRIPTION} is missing or unreadable)."
        ) from error
    if version > SCHEMA_VERSION:
        raise WeightsError(
            f"{folder} was written by a newer zbench (layout {version}): upgrade zbench to read it."
        )
    for name, digest in hashes.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != digest:
            raise WeightsError(f"{folder / name} is missing or was altered since it was written.")
    return description


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors and header metadata, onto the CPU.

    Raises:
        WeightsError: The file is missing, truncated, or holds a value that is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read (missing, truncated or altered?): {error}") from error
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise WeightsError(f"{path}: {broken[0]} is not finite ({len(broken)} such tensors).")
    return tensors, metadata
