"""What stages work on: a model that is loaded only when work is really left, and its identity.

A run whose stages are all complete must neither load nor even import the networks; so a model's identity
comes from its files and settings, not from its tensors.
"""

from __future__ import annotations

from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.model import load_spec
from zbench.stages.embeddings import EmbeddingFiles
from zbench.stages.file_hashes import file_hash
from zbench.store import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.model import Model, ModelSpec

_WEIGHTS = {".safetensors", ".json", ".txt", ".model", ".jinja"}
"""Endings of the files that a pipeline is loaded from; anything else in the folder changes no picture."""

_SIDECAR = "zbench-model.json"

_SETTINGS = {"height", "width", "steps", "guidance_scale", "max_sequence_length", "dtype"}


class ModelHandle:
    """A model by name, loaded on first use and kept.

    Attributes:
        name: Catalogue name or folder, as the user gave it.
        spec: What is known about it before it is loaded, the picture size and guidance of the run included.
        device: Torch device, None for the automatic choice.
    """

    def __init__(
        self,
        name: str,
        device: str | None = None,
        height: int | None = None,
        width: int | None = None,
        guidance_scale: float | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.size = (height, width)
        spec = load_spec(name)
        sides = {"height": height or spec.height, "width": width or spec.width}
        guidance = spec.guidance_scale if guidance_scale is None else guidance_scale
        self.spec: ModelSpec = spec.model_copy(update={**sides, "guidance_scale": guidance})

    @cached_property
    def model(self) -> Model:
        """The loaded model.

        Raises:
            WeightsError: Weights are missing, truncated or altered.
        """
        from zbench.model import load_model

        loaded = load_model(self.name, self.device, height=self.size[0], width=self.size[1])
        loaded.spec = loaded.spec.model_copy(update={"guidance_scale": self.spec.guidance_scale})
        if loaded.spec.is_large:
            loaded.prompts.store = EmbeddingFiles(partial(self._encoding, loaded))
        return loaded

    @property
    def is_loaded(self) -> bool:
        """Whether `model` has been asked for; asking this loads nothing."""
        return "model" in vars(self)

    def drop(self) -> None:
        """Forgets the loaded model; the next use loads it again."""
        vars(self).pop("model", None)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything about the model that training and pictures depend on, as plain JSON.

        For weights on the Hub this is the commit in the local cache; they are fetched first where they are
        not there yet, so that the identity before and after the download is the same.
        """
        settings = self.spec.model_dump(include=_SETTINGS)
        return {**settings, "weights": self._weights()}

    def _encoding(self, loaded: Model) -> dict[str, Any]:
        """What an embedding depends on beside its prompt; each kind of device rounds in its own way."""
        settings = {key: self.identity[key] for key in ("weights", "max_sequence_length", "dtype")}
        return {**settings, "device": loaded.device.type}

    def _weights(self) -> str:
        kind, _, place = self.spec.source.partition(":")
        if kind != "hub":
            return f"sha256:{_folder_hash(_local_folder(kind, place))}"
        commit = _cached_commit(place, self.spec.revision)
        if commit is None:
            _ = self.model
            commit = _cached_commit(place, self.spec.revision)
        return f"hub:{place}@{commit or 'unpinned'}"


def _local_folder(kind: str, place: str) -> Path:
    if kind == "path":
        return Path(place)
    package, _, inner = place.partition("/")
    return Path(str(resources.files(package))) / inner


def _folder_hash(folder: Path) -> str:
    """Hash over names and contents of a pipeline's files; the same wherever the folder lies."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in _WEIGHTS and path.name != _SIDECAR]
    return sha256_bytes(
        canonical_json([[p.relative_to(folder).as_posix(), file_hash(p)] for p in files]).encode()
    )


def _cached_commit(repository: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "model_index.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None
