"""What was rendered from a part of a tree, kept for as long as its files and zbench's code are the same."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from zbench.errors import StoreError
from zbench.results.tree import Part
from zbench.results.upgrade import Unreadable
from zbench.store import atomic_write_bytes, canonical_json, sha256_bytes

_Kept = TypeVar("_Kept")

_CODE = ("*.py", "*.toml", "*.j2", "*.css", "*.js")
"""Files of zbench that tables and pages follow from."""


@dataclass(frozen=True)
class Cache:
    """A folder with a file for each part.

    Attributes:
        folder: Where they are.
        code: Hash of the code that renders.
    """

    folder: Path
    code: str

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """Makes the folder if it is missing.

        Raises:
            StoreError: It cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot make {folder}: {error.strerror or error}.") from error
        return cls(folder, code_version())

    def get(self, part: Part, kind: type[_Kept], *, in_family: bool = False) -> _Kept | None:
        """What was kept of a part; None where it is missing, damaged, or of other files or code.

        Args:
            part: The part.
            kind: What was kept.
            in_family: Whether its tables stand in a folder of their family, which other parts decide.
        """
        try:
            stored = _form(cast(Any, kind)).validate_json((self._path(part)).read_bytes())
        except (OSError, ValidationError):
            return None
        kept: _Kept = stored.value
        return kept if stored.key and stored.key == self._key(part, in_family) else None

    def put(self, part: Part, value: Any, *, in_family: bool = False) -> None:
        """Keeps what was rendered; see `get`."""
        key = self._key(part, in_family)
        record = {"key": key, "value": TypeAdapter(type(value)).dump_python(value, mode="json")}
        atomic_write_bytes(self._path(part), canonical_json(record).encode())

    def _key(self, part: Part, in_family: bool) -> str:
        """Hash of what the tables follow from; empty where a file cannot be read."""
        try:
            return sha256_bytes(f"{self.code} {in_family} {part.digest}".encode())
        except Unreadable:
            return ""

    def _path(self, part: Part) -> Path:
        return self.folder / f"{sha256_bytes(str(part.place).encode())[:16]}.json"


@cache
def _form(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(make_dataclass("Stored", [("key", str), ("value", kind)], frozen=True))


def code_version() -> str:
    """Hash over zbench's own code, which tables and pages follow from besides results."""
    package = Path(str(files("zbench")))
    found = sorted(path for name in _CODE for path in package.rglob(name))
    lines = (f"{path.relative_to(package)} {sha256_bytes(path.read_bytes())}\n" for path in found)
    return sha256_bytes("".join(lines).encode())
