"""Loads a pipeline and refuses one that is missing, truncated, altered or only half there.

The stock loaders leave tensors that a file lacks at random values and only warn; here every tensor of every
network must come from the files.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ZImagePipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from zbench.errors import ConfigurationError, WeightsError
from zbench.model.memory import keep_freed_memory
from zbench.model.model import Model
from zbench.model.offload import is_tight, settle
from zbench.model.rows import padded
from zbench.model.spec import ModelSpec, load_spec
from zbench.store import sha256_file

MANIFEST = "manifest.json"
"""Beside the folder of packaged weights: {file relative to the manifest: SHA-256}."""


def load_model(
    name_or_path: str | Path,
    device: str | torch.device | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
) -> Model:
    """Loads a model of the catalogue, or any saved `ZImagePipeline`.

    Args:
        name_or_path: A name from `model_names()`, or a folder written by `save_pretrained`.
        device: Where to run; CUDA when there is one by default.
        height: Picture height in pixels instead of the model's own.
        width: Picture width in pixels likewise.

    Raises:
        UnknownNameError: Neither a known name nor a folder.
        WeightsError: Weights are missing, truncated, altered or incomplete; says where to get them.
        ConfigurationError: A picture size that the networks cannot draw.
    """
    spec = load_spec(name_or_path)
    sides = {"height": height or spec.height, "width": width or spec.width}
    spec = spec.model_copy(update=sides)
    folder = _folder_of(spec)
    pipeline = _load_pipeline(spec, folder)
    _check_complete(pipeline, folder)
    _check_sizes(pipeline, spec)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cpu":
        # Tiny gradients become denormal numbers, on which a CPU is several times slower.
        torch.set_flush_denormal(True)
        keep_freed_memory()
    if spec.is_large:
        # One picture after the other: a batch of large ones would take more memory than the transformer.
        pipeline.vae.enable_slicing()
    settle(pipeline, chosen, tight=is_tight(spec, chosen))
    return Model(spec, pipeline)


def _folder_of(spec: ModelSpec) -> Path:
    kind, _, place = spec.source.partition(":")
    if kind == "path":
        return Path(place)
    return _packaged(spec, place) if kind == "package" else _downloaded(spec, place)


def _packaged(spec: ModelSpec, place: str) -> Path:
    package, _, inner = place.partition("/")
    folder = Path(str(resources.files(package))) / inner
    if not (folder / "model_index.json").is_file():
        raise WeightsError(
            f"The weights of {spec.name!r} are missing at {folder}: reinstall zbench, or make them with "
            "`zbench miniature train`, or give a saved pipeline with --model PATH."
        )
    _check_manifest(spec, folder)
    return folder


def _downloaded(spec: ModelSpec, hub_id: str) -> Path:
    """Folder in the local Hub cache, filled over the network where needed."""
    try:
        with _quiet(bars=True):
            return Path(DiffusionPipeline.download(hub_id, revision=spec.revision, use_safetensors=True))
    except Exception as error:  # the Hub client raises a dozen types; the remedy is one
        raise WeightsError(
            f"The weights of {spec.name!r} are neither in the local cache nor to be had from the Hub: run "
            f"`hf download {hub_id}` where there is a network, or give a saved pipeline with --model PATH."
        ) from error


def _check_manifest(spec: ModelSpec, folder: Path) -> None:
    manifest = folder.parent / MANIFEST
    if not manifest.is_file():
        return
    try:
        recorded: dict[str, str] = json.loads(manifest.read_text("utf-8"))
        wrong = [name for name, digest in recorded.items() if _differs(manifest.parent / name, digest)]
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"The manifest {manifest} cannot be read: {error}") from error
    if wrong:
        raise WeightsError(
            f"{spec.name!r}: {manifest.parent / wrong[0]} is missing or differs from its recorded SHA-256 "
            f"({len(wrong)} such file(s)). Reinstall zbench."
        )


def _differs(path: Path, digest: str) -> bool:
    return not path.is_file() or sha256_file(path) != digest


def _load_pipeline(spec: ModelSpec, folder: Path) -> Any:
    try:
        with _quiet():
            pipeline = ZImagePipeline.from_pretrained(
                folder, torch_dtype=getattr(torch, spec.dtype), use_safetensors=True, local_files_only=True
            )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # three libraries read these files, each with its own error types
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"The pipeline at {folder} cannot be read (truncated or altered?): {reason}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _quiet(bars: bool = False) -> Iterator[None]:
    """No lines of the libraries' own: what is wrong is said once, by this module; bars only for downloads."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity(logging.CRITICAL)
        if not bars:
            library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level in zip((diffusers_logging, transformers_logging), levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def _check_complete(pipeline: Any, folder: Path) -> None:
    """Every tensor of every network came from a file, and is finite."""
    for name in ("transformer", "text_encoder", "vae"):
        stored = _stored_names(folder / name)
        state = getattr(pipeline, name).state_dict()
        missing = [key for key in state if key not in stored]
        if missing:
            raise WeightsError(
                f"{folder / name} lacks {len(missing)} of {len(state)} tensors, {missing[0]} first."
            )
        broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise WeightsError(f"{folder / name}: {broken[0]} is not finite ({len(broken)} such tensors).")


def _stored_names(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, framework="pt") as file:
                names.update(file.keys())
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read (truncated or altered?): {error}") from error
    # A text encoder saved from a language model carries that model's prefix.
    return names | {name.removeprefix("model.") for name in names}


def _check_sizes(pipeline: Any, spec: ModelSpec) -> None:
    """The picture fills whole patches, and every position has an entry in the rotary tables."""
    cell = pipeline.vae_scale_factor * 2
    for side, pixels in (("height", spec.height), ("width", spec.width)):
        if pixels < cell or pixels % cell:
            raise ConfigurationError(
                f"{side} {pixels} does not fit {spec.name!r}: it must be a multiple of {cell}, for example "
                f"{max(cell, round(pixels / cell) * cell)}."
            )
    # Captions take positions 1..L, the picture L + 1, on the first axis.
    needed = (padded(spec.max_sequence_length) + 2, spec.height // cell, spec.width // cell)
    offered = pipeline.transformer.config.axes_lens
    if any(have < want for have, want in zip(offered, needed, strict=True)):
        raise ConfigurationError(
            f"{spec.name!r} has positions for {tuple(offered)} (caption, rows, columns) but "
            f"{spec.width}x{spec.height} pictures with {spec.max_sequence_length} tokens need {needed}."
        )
