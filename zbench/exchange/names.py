"""How an erased model from elsewhere is named among methods: `import:PATH` or `import:NAME=PATH`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zbench.errors import ConfigurationError

IMPORT = "import:"
"""Begins what names an erased model that zbench did not make."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_SAYS_NOTHING = frozenset(
    {"pytorch_lora_weights", "adapter_model", "diffusion_pytorch_model", "model", "transformer", "edit"}
)
"""Names that every such file or folder has: the folder above says more."""


@dataclass(frozen=True)
class ImportName:
    """An import by name and place.

    Attributes:
        name: What its row is called, without the prefix.
        place: Absolute path of the file or folder.
    """

    name: str
    place: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `import:PATH` or `import:NAME=PATH`; a name that is not given is that of the file or folder.

        Raises:
            ConfigurationError: There is no path, or a name that cannot name a row.
        """
        name, place = _split(text)
        if not place.strip():
            raise ConfigurationError(
                f"{text}: write import:PATH or import:NAME=PATH with the file or folder of an erased model."
            )
        path = Path(place).expanduser().absolute()
        return cls(_checked(name, text) if name else _name_of(path), path)

    @property
    def method(self) -> str:
        """What stands where the name of a method stands, the same on every machine."""
        return f"{IMPORT}{self.name}"


def is_import(method: str) -> bool:
    """Whether what stands for a method names an erased model from elsewhere."""
    return method.startswith(IMPORT)


def portable_name(method: str) -> str:
    """The name of a method as results hold it: without the place of an import."""
    return ImportName.parse(method).method if is_import(method) else method


def require_different_names(methods: Iterable[str]) -> None:
    """Refuses imports that would share a row.

    Raises:
        ConfigurationError: Two have one name.
    """
    seen: dict[str, str] = {}
    for text in filter(is_import, methods):
        method = portable_name(text)
        if method in seen:
            raise ConfigurationError(
                f"{seen[method]} and {text} would both be called {method}: write import:NAME=PATH."
            )
        seen[method] = text


def _split(text: str) -> tuple[str, str]:
    """Name, empty where none is given, and path as written; a path may hold an equals sign of its own."""
    name, equals, place = text.removeprefix(IMPORT).partition("=")
    return (name, place) if equals and "/" not in name else ("", text.removeprefix(IMPORT))


def _checked(name: str, text: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{text}: a name has letters, digits, '.', '_' and '-' only, not {name!r}.")
    return name


def _name_of(place: Path) -> str:
    """From the path as it is written: nothing is opened."""
    own = place.name.removesuffix(".safetensors")
    name = place.parent.name if own in _SAYS_NOTHING else own
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "unnamed"


def settings_of(method: str, settings: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What a run says about an import, by its name or as it is written among the methods."""
    return settings.get(method) or settings.get(portable_name(method)) or {}


def placed(method: str, folder: Path) -> str:
    """An import whose path is relative to a folder; anything else as it is."""
    if not is_import(method):
        return method
    name, place = _split(method)
    start = f"{IMPORT}{name}=" if name else IMPORT
    return f"{start}{folder / Path(place).expanduser()}" if place else method
