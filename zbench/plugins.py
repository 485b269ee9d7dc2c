"""Methods in a file that is not packaged yet: `--plugin path/to/file.py`.

The bytes that are hashed are the bytes that are executed. The hash is part of an erasure's identity, so that
an edited file erases again, and a fresh process refuses a file that is no longer the one that was planned.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

from zbench.errors import ConfigurationError
from zbench.store import sha256_bytes

if TYPE_CHECKING:
    from zbench.method import Method

RESERVED = frozenset({"all", "original"})
"""Names that mean something else where methods are named."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_HASH_DIGITS = 12


class PluginFile(BaseModel):
    """A Python file that defines methods, by place and content.

    Attributes:
        path: Absolute path.
        sha256: Hash of its content, 64 hex digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    sha256: str

    @classmethod
    def at(cls, path: Path | str) -> Self:
        """The file as it is now.

        Raises:
            ConfigurationError: There is no such file, or it cannot be read.
        """
        absolute = Path(path).expanduser().absolute()
        return cls(path=absolute, sha256=sha256_bytes(_content(absolute)))

    @property
    def label(self) -> str:
        """File name with the beginning of the hash, for headers and messages."""
        return f"{self.path.name} (sha256 {self.sha256[:_HASH_DIGITS]})"

    def source(self) -> bytes:
        """The content.

        Raises:
            ConfigurationError: It is missing, or not what it was when its hash was taken.
        """
        content = _content(self.path)
        if sha256_bytes(content) != self.sha256:
            raise ConfigurationError(f"{self.path} was edited since this run was planned: run it again.")
        return content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The plugin {path} cannot be read ({error.strerror or error}): give the path of a Python file."
        ) from error


_loaded: dict[PluginFile, dict[str, type[Method]]] = {}


def load_plugin(file: PluginFile) -> dict[str, type[Method]]:
    """Imports a file, once for each content, and finds the methods that it defines.

    A method is a class of `zbench.Method` that is defined in the file itself, can be made (is not abstract)
    and does not begin with an underscore; it goes by the `name` that it gives itself.

    Args:
        file: The file.

    Returns:
        Name -> class. Each class knows the file as its `plugin`.

    Raises:
        ConfigurationError: The file cannot be imported, defines no method, or one that is not whole.
    """
    if file not in _loaded:
        _loaded[file] = _methods_of(_executed(file), file)
    return _loaded[file]


def _executed(file: PluginFile) -> ModuleType:
    """The file as a module of its own, which keeps its name when the content changes."""
    place = sha256_bytes(str(file.path).encode())[:_HASH_DIGITS]
    module = ModuleType(f"zbench_plugin_{place}_{re.sub(r'[^0-9A-Za-z]', '_', file.path.stem)}")
    module.__file__ = str(file.path)
    content, before = file.source(), sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, str(file.path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        _put_back(module.__name__, before)
        raise ConfigurationError(f"The plugin {file.path} cannot be imported: {describe(error)}") from error
    return module


def _put_back(name: str, module: ModuleType | None) -> None:
    if module is None:
        del sys.modules[name]
    else:
        sys.modules[name] = module


def describe(error: BaseException) -> str:
    """An error in one line: its type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _methods_of(module: ModuleType, file: PluginFile) -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for method in _method_classes(module):
        require_method(method, f"The class {method.__name__} of {file.path}")
        if method.name in found:
            raise ConfigurationError(f"{file.path} defines two methods of the name {method.name!r}.")
        method.plugin = file
        found[method.name] = method
    if not found:
        raise ConfigurationError(
            f"The plugin {file.path} defines no method: it needs a class derived from zbench.Method."
        )
    return found


def _method_classes(module: ModuleType) -> Iterator[type[Method]]:
    from zbench.method import Method

    for value in dict.fromkeys(each for each in vars(module).values() if isinstance(each, type)):
        own = value.__module__ == module.__name__ and not value.__name__.startswith("_")
        if own and issubclass(value, Method) and not inspect.isabstract(value):
            yield value


def require_method(method: Any, what: str) -> None:
    """Refuses a class that is no whole method.

    Args:
        method: The class.
        what: What to call it in messages.

    Raises:
        ConfigurationError: Its name, card, presets or version are missing or of the wrong kind.
    """
    from zbench.method import MethodCard

    name = getattr(method, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
        raise ConfigurationError(
            f"{what} has the name {name!r}: a method needs one such as 'fade', or 'package/fade' where others"
            f" install it ({' and '.join(sorted(RESERVED))} are taken)."
        )
    if not isinstance(getattr(method, "card", None), MethodCard):
        raise ConfigurationError(f"{what} needs a `card`: a zbench.MethodCard.")
    presets = getattr(method, "presets", None)
    if not isinstance(presets, dict) or not all(isinstance(values, dict) for values in presets.values()):
        raise ConfigurationError(f"{what} needs `presets`: a dictionary of dictionaries, which may be empty.")
    version = getattr(method, "version", None)
    if type(version) is not int or version < 1:
        raise ConfigurationError(f"{what} has the version {version!r}: count versions 1, 2, 3 ...")
