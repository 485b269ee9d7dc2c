"""What lies at a path that somebody calls an erased model: recognised by its files, named by their content.

Nothing here imports torch: a run that is planned must say early, and cheaply, what it cannot read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from zbench.errors import ConfigurationError, StoreError, WeightsError
from zbench.stages.file_hashes import file_hash
from zbench.store import canonical_json, read_json, sha256_bytes

Form = Literal["edit", "adapter", "checkpoint", "pipeline"]
"""`edit`: as zbench saves it; `adapter`: LoRA factors; `checkpoint`: weights of a transformer; `pipeline`: of
all three networks."""

NETWORKS = ("transformer", "text_encoder", "vae")

EDIT_FILE = "edit.json"
PEFT_FILE = "adapter_config.json"
PIPELINE_FILE = "model_index.json"

_PICKLED = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth"})
_OF_ADAPTERS = ("lora_", ".lora.", ".lokr_", ".hada_", ".dora_scale", ".oft_")


@dataclass(frozen=True)
class Foreign:
    """An erased model made elsewhere, as it lies on disk.

    Attributes:
        place: What the user named.
        form: How it is stored.
        root: The folder that names of files are relative to.
        files: What decides its effect, sorted.
    """

    place: Path
    form: Form
    root: Path
    files: tuple[Path, ...]

    @classmethod
    def at(cls, place: Path | str) -> Self:
        """Recognises a file or folder.

        Raises:
            ConfigurationError: There is nothing, or nothing that can be read; says what can.
            WeightsError: A file is truncated or altered.
        """
        path = Path(place).expanduser().absolute()
        if path.is_file():
            return cls(path, _form_of_file(path), path.parent, (path,))
        if not path.is_dir():
            raise ConfigurationError(f"There is no erased model at {path}: no such file or folder.")
        form, root, files = _form_of_folder(path)
        return cls(path, form, root, tuple(sorted(files)))

    @cached_property
    def sha256(self) -> str:
        """Hash of the content, the same wherever it lies; of a single file just that of the file.

        Raises:
            StoreError: A file cannot be read.
        """
        try:
            if len(self.files) == 1:
                return file_hash(self.files[0])
            hashes = [[path.relative_to(self.root).as_posix(), file_hash(path)] for path in self.files]
        except OSError as error:
            raise StoreError(f"Cannot read {self.place}: {error.strerror or error}.") from error
        return sha256_bytes(canonical_json(hashes).encode())

    def weights(self, network: str | None = None) -> tuple[Path, ...]:
        """The safetensors files, those of one network of a pipeline where it is named."""
        folder = self.root if network is None else self.root / network
        return tuple(path for path in self.files if path.suffix == ".safetensors" and folder in path.parents)


def read_header(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors in a safetensors file, and its metadata; no tensor is read.

    Raises:
        WeightsError: It is truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys()), dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read (truncated or altered?): {error}") from error


def is_adapter(names: Iterable[str]) -> bool:
    """Whether tensors of these names are added to weights, rather than weights."""
    return any(part in name for name in names for part in _OF_ADAPTERS)


def _form_of_file(path: Path) -> Form:
    if path.suffix.lower() in _PICKLED:
        raise ConfigurationError(
            f"{path} is a pickle, which can run anything when it is read: convert it with "
            "safetensors.torch.save_file, or save the pipeline again with save_pretrained."
        )
    if path.suffix != ".safetensors":
        raise ConfigurationError(f"{path} is no safetensors file: give one, or a folder that holds them.")
    return "adapter" if is_adapter(read_header(path)[0]) else "checkpoint"


def _form_of_folder(path: Path) -> tuple[Form, Path, list[Path]]:
    edit = path / "edit" if (path / "erasure.json").is_file() and not (path / EDIT_FILE).is_file() else path
    if (edit / EDIT_FILE).is_file():
        return "edit", edit, _edit_files(edit)
    if (path / PEFT_FILE).is_file():
        return "adapter", path, [path / PEFT_FILE, _only_file(path, "adapter_model.safetensors")]
    if (path / PIPELINE_FILE).is_file():
        return "pipeline", path, [each for name in NETWORKS for each in _network_files(path / name)]
    if (path / "config.json").is_file():
        return "checkpoint", path, _network_files(path)
    if (path / "zbench.json").is_file():
        raise ConfigurationError(f"{path} is a run folder: name one of its erasures, {path}/erasures/ID.")
    file = _only_file(path, "pytorch_lora_weights.safetensors")
    return _form_of_file(file), path, [file]


def _edit_files(folder: Path) -> list[Path]:
    """Every part of an edit; a model card and copies in other formats may lie beside it."""
    description = _description(folder)
    named = [folder / EDIT_FILE, *(folder / name for name in description.get("files", {}))]
    inner = [path for path in folder.iterdir() if path.is_dir() and (path / EDIT_FILE).is_file()]
    return [*named, *(file for path in inner for file in _edit_files(path))]


def _description(folder: Path) -> Mapping[str, Any]:
    try:
        description = read_json(folder / EDIT_FILE)
    except StoreError as error:
        raise WeightsError(f"{folder / EDIT_FILE} is truncated or altered.") from error
    if not isinstance(description, dict) or not isinstance(description.get("files", {}), dict):
        raise WeightsError(f"{folder / EDIT_FILE} describes no edit.")
    for name in description.get("files", {}):
        if Path(name).name != name or not (folder / name).is_file():
            raise WeightsError(f"{folder / name} is missing, though {EDIT_FILE} lists it.")
    return description


def _network_files(folder: Path) -> list[Path]:
    """Weights of a network as diffusers saves it: one file, or shards that an index lists."""
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if len(indexes) == 1:
        shards = set(read_json(indexes[0]).get("weight_map", {}).values())
        files = [folder / Path(name).name for name in sorted(shards)]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise WeightsError(f"{missing[0]} is missing, though {indexes[0].name} lists it.")
        return files
    return [_only_file(folder, "diffusion_pytorch_model.safetensors")]


def _only_file(folder: Path, usual: str) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if (folder / usual) in found:
        return folder / usual
    if len(found) == 1:
        return found[0]
    pickled = [path.name for path in sorted(folder.glob("*")) if path.suffix in _PICKLED]
    why = f"{len(found)} safetensors files, none called {usual}" if found else "no safetensors file"
    why += f" ({pickled[0]} is a pickle, which is not read)" if pickled and not found else ""
    raise ConfigurationError(
        f"No erased model is recognised in {folder}: {why}. Give the file itself, or a folder of an adapter, "
        "a transformer, a pipeline or an erasure."
    )
