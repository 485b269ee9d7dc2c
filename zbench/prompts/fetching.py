"""Getting the file of a prompt set from the Hub or from an address, once; later from the user's cache."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import ConfigurationError
from zbench.prompts.rows import ENDINGS
from zbench.store import atomic_write_bytes, sha256_bytes

if TYPE_CHECKING:
    from zbench.prompts.external import ExternalSet

CACHE_VARIABLE = "ZBENCH_CACHE"
_SECONDS = 60
_LARGEST = 64 << 20
"""Bytes; a list of prompts is far smaller, an error page in a loop is not."""


def cache_folder() -> Path:
    """Where fetched files are kept: `ZBENCH_CACHE`, otherwise `zbench` in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zbench"


def fetch(known: ExternalSet, local: bool = False) -> Path:
    """The file of a set, from the cache where it lies there.

    Args:
        known: The set.
        local: Look into the cache and nowhere else.

    Raises:
        ConfigurationError: It cannot be had here; one line says what to do.
    """
    return _from_hub(known, local) if known.hub else _from_url(known, local)


def _elsewhere(known: ExternalSet) -> str:
    return f"or put the file as {known.name}.csv, .jsonl or .parquet into a folder and give --prompts-dir"


def _from_hub(known: ExternalSet, local: bool) -> Path:
    from huggingface_hub.errors import GatedRepoError

    try:
        # The cache goes first: what was fetched once stays as it was, with a network and without.
        return _data_file(known, _snapshot(known, local_files_only=True))
    except (OSError, ConfigurationError) as error:
        if local:
            raise ConfigurationError(_absent(known)) from error
    try:
        folder = _snapshot(known, local_files_only=False)
    except GatedRepoError as error:
        raise ConfigurationError(_gated(known)) from error
    except Exception as error:  # the Hub client raises a dozen types; the remedy is one
        raise ConfigurationError(
            f"The prompt set {known.name!r} is not in the cache and cannot be fetched from the Hub "
            f"({known.hub}): run `zbench prompts pin {known.name}` where there is a network"
            f"{_login(known)}, {_elsewhere(known)}."
        ) from error
    return _data_file(known, folder)


def _absent(known: ExternalSet) -> str:
    return (
        f"The prompt set {known.name!r} is not in the cache: run `zbench prompts pin {known.name}` where "
        f"there is a network{_login(known)}, {_elsewhere(known)}."
    )


def _snapshot(known: ExternalSet, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    assert known.hub is not None
    folder = snapshot_download(
        known.hub,
        repo_type="dataset",
        revision=known.revision,
        allow_patterns=[f"*{ending}" for ending in ENDINGS],
        local_files_only=local_files_only,
    )
    return Path(folder)


def _login(known: ExternalSet) -> str:
    return " and after `hf auth login`" if known.gated else ""


def _gated(known: ExternalSet) -> str:
    return (
        f"The prompt set {known.name!r} is gated: accept its conditions at "
        f"https://huggingface.co/datasets/{known.hub}, then `hf auth login`, {_elsewhere(known)}."
    )


def _data_file(known: ExternalSet, folder: Path) -> Path:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    # Data sets with splits name their files after them; the prompts are the training split of all these sets.
    chosen = found if len(found) == 1 else [path for path in found if "train" in path.name]
    if len(chosen) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise ConfigurationError(
            f"{known.hub} holds no single file of prompts (found: {names}); choose one, "
            f"{_elsewhere(known).removeprefix('or ')}."
        )
    return chosen[0]


def _from_url(known: ExternalSet, local: bool) -> Path:
    assert known.url is not None
    # The address is part of the name: a new commit in the catalogue is a new file, never the old one.
    name = f"{known.name}-{sha256_bytes(known.url.encode())[:12]}{Path(known.url).suffix}"
    path = cache_folder() / "prompts" / name
    if not path.is_file() and local:
        raise ConfigurationError(_absent(known))
    if not path.is_file():
        data = _download(known)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"Cannot write to {path.parent}; set {CACHE_VARIABLE}.") from error
        atomic_write_bytes(path, data)
    return path


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _download(known: ExternalSet) -> bytes:
    assert known.url is not None
    try:
        if _is_offline():
            raise OSError("HF_HUB_OFFLINE is set")
        with urllib.request.urlopen(known.url, timeout=_SECONDS) as answer:
            data: bytes = answer.read(_LARGEST + 1)
    except (OSError, urllib.error.URLError) as error:
        raise ConfigurationError(
            f"The prompt set {known.name!r} is not in the cache and cannot be fetched from {known.url} "
            f"({error}): run `zbench prompts pin {known.name}` where there is a network, {_elsewhere(known)}."
        ) from error
    if len(data) > _LARGEST:
        raise ConfigurationError(f"{known.url} is larger than any list of prompts; nothing was kept.")
    return data
