"""Exporting an erasure: a folder that works without zbench, as far as the erasure allows, with a model card.

The folder is the saved edit, byte for byte, so that `zbench import` and `import:DIR` read it back exactly;
beside it lie the same factors as diffusers and peft name them, the loader and the card.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from zbench.errors import ConfigurationError, StoreError
from zbench.exchange.card import CardFacts, card, loading_lines
from zbench.exchange.finding import find_original, find_result
from zbench.exchange.kinds import Kind
from zbench.runner.specs import CellResult
from zbench.store import (
    DONE,
    StageFolder,
    Store,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    read_json,
)

CARD_FILE = "README.md"
LOADER_FILE = "load_erasure.py"
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Exported:
    """What an export left behind.

    Attributes:
        folder: Where.
        cell: Id of the cell whose erasure it is.
        kind: What it is.
        lines: Python that loads it, the best way that there is.
    """

    folder: Path
    cell: str
    kind: Kind
    lines: tuple[str, ...]


def export_erasure(cell: str, folder: Path | str, out: Path | str = "runs") -> Exported:
    """Writes the erasure of a cell to a folder of its own.

    Args:
        cell: Id of a cell, the beginning of one, its label or its method.
        folder: Where to; must not exist, or be empty.
        out: The run folder.

    Raises:
        UnknownNameError: No cell is called so, or several are.
        ConfigurationError: The folder holds something, or the cell has no erasure.
        StoreError: The erasure is missing or altered, or the folder cannot be written.
    """
    store, target = Store.open(out, create=False), Path(folder).expanduser().absolute()
    result = find_result(store, cell)
    erasure = _erasure_of(store, result)
    _require_empty(target)
    facts = CardFacts(result, find_original(store, result), erasure.done()["config"], _read(erasure))
    _put_in_place(target, erasure.path, facts)
    return Exported(target, result.id, facts.kind, loading_lines(facts))


def _erasure_of(store: Store, result: CellResult) -> StageFolder:
    """The complete erasure of a cell, its hashes checked."""
    if result.spec.is_original:
        raise ConfigurationError(
            f"{result.id} is the unerased model: there is no erasure to export; its own weights are"
            f" {result.spec.model!r}."
        )
    place = result.stages.get("erase")
    if place is None:
        raise ConfigurationError(f"{result.id} has no erasure: {result.status} ({result.reason}).")
    path = store.root / place
    folder = StageFolder(path, path.name, read_json(path / DONE).get("config", {}), store.notify)
    if not folder.is_complete():
        raise StoreError(f"{path} is missing files or was altered; run the same command again to renew it.")
    return folder


def _read(erasure: StageFolder) -> dict[str, Any]:
    record: dict[str, Any] = read_json(erasure.path / "erasure.json")
    return record


def _require_empty(target: Path) -> None:
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise StoreError(f"Cannot write {target}: {error.strerror or error}.") from error
    if taken:
        raise ConfigurationError(f"{target} is there already: give another folder, or remove it.")


def _put_in_place(target: Path, erasure: Path, facts: CardFacts) -> None:
    """Fills a sibling and renames it: nobody ever sees half an export."""
    temporary = target.parent / f".writing-{target.name}-{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(erasure / "edit", temporary)
        shutil.copyfile(erasure / "erasure.json", temporary / "erasure.json")
        _fill(temporary, facts)
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(f"Cannot write {target}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: Path, facts: CardFacts) -> None:
    if facts.kind.adapter:
        _write_peft(folder, facts)
    if facts.kind.standalone:
        source = resources.files("zbench.exchange").joinpath(LOADER_FILE).read_text("utf-8")
        atomic_write_text(folder / LOADER_FILE, source)
    atomic_write_text(folder / CARD_FILE, card(facts))


def _write_peft(folder: Path, facts: CardFacts) -> None:
    """The same factors as peft names them, with its configuration."""
    from zbench.edits.files import read_tensors, safetensors_bytes

    tensors, metadata = read_tensors(folder / "pytorch_lora_weights.safetensors")
    factors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    named = {f"base_model.model.{name}": value for name, value in factors.items()}
    content = safetensors_bytes(named, {"zbench": metadata["zbench"]})
    atomic_write_bytes(folder / PEFT_WEIGHTS, content)
    paths = sorted({name.rpartition(".lora_")[0] for name in factors})
    settings = read_json(folder / "edit.json")["settings"]
    atomic_write_json(folder / PEFT_CONFIG, _peft_config(settings, paths, facts.base_name))


def _peft_config(settings: Mapping[str, Any], paths: list[str], base: str) -> dict[str, Any]:
    from peft import LoraConfig

    ranks, alphas = settings.get("ranks", {}), settings.get("alphas", {})
    config = LoraConfig(
        r=settings.get("rank", max(ranks.values(), default=1)),
        lora_alpha=settings.get("alpha", 1),
        rank_pattern=dict(ranks),
        alpha_pattern=dict(alphas),
        base_model_name_or_path=base,
        inference_mode=True,
    )
    # A list in order: peft keeps modules as a set, whose order is another one in every process.
    return {**config.to_dict(), "target_modules": paths}
