"""Finding methods, detectors and reference pictures by name, through package entry points.

Listing reads installed metadata only and imports nothing; loading imports the one module that was asked for.
A package of anyone's can add a name, `package/name` for methods: zbench's own have no privilege beyond being
bare. Methods may also come from files that are not packaged yet (`zbench.plugins`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError, UnknownNameError, ZbenchError
from zbench.exchange.names import is_import

if TYPE_CHECKING:
    from zbench.attacks.base import Attack
    from zbench.method import Method
    from zbench.plugins import PluginFile

METHODS = "zbench.methods"
DETECTORS = "zbench.detectors"
REFERENCES = "zbench.references"
ATTACKS = "zbench.attacks"

OWN_PACKAGE = "zbench"


def _found(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points of a group by name; several where packages claim the same one."""
    return _scanned(group, tuple(_places()))


@lru_cache(maxsize=64)
def _scanned(group: str, places: tuple[tuple[str, int], ...]) -> dict[str, list[EntryPoint]]:
    """Reading the metadata of every installed package takes longer than naming a hundred cells."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        known = found.setdefault(point.name, [])
        # The same distribution can be seen twice (editable install and working directory): that is no clash.
        if point.value not in (other.value for other in known):
            known.append(point)
    return found


def _places() -> Iterator[tuple[str, int]]:
    """Where packages can be, and when one was last installed or removed there."""
    for path in sys.path:
        try:
            yield os.path.abspath(path), os.stat(path or ".").st_mtime_ns
        except OSError:
            continue


def names(group: str) -> list[str]:
    """Sorted names of an entry-point group, nothing imported."""
    return sorted(_found(group))


def package_of(group: str, name: str) -> str | None:
    """The package that installs a name of an entry-point group; None where none, or several, do."""
    packages = {point.dist.name for point in _found(group).get(name, []) if point.dist}
    return packages.pop() if len(packages) == 1 else None


def load(group: str, name: str, kind: str) -> Any:
    """Imports what a name of an entry-point group stands for.

    Args:
        group: Entry-point group, such as `zbench.methods`.
        name: Name within the group.
        kind: What to call it in messages ("method").

    Raises:
        UnknownNameError: Nothing has this name; close matches are named.
        ConfigurationError: Two packages provide it, or its module cannot be imported.
    """
    # Whoever watches what a method uses (`zbench check`) sees it.
    sys.audit("zbench.load", group, name)
    found = _found(group)
    if name not in found:
        raise UnknownNameError.of(kind, name, found)
    return _imported(_only(group, name, found[name]), kind)


def _only(group: str, name: str, points: Sequence[EntryPoint]) -> EntryPoint:
    if len(points) > 1:
        raise ConfigurationError(
            f"Two installed packages provide {group} {name!r} ({points[0].value} and {points[1].value}):"
            " uninstall one of them."
        )
    return points[0]


def _imported(point: EntryPoint, kind: str) -> Any:
    from zbench.plugins import describe

    try:
        return point.load()
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything
        raise ConfigurationError(
            f"The {kind} {point.name!r} ({point.value}) cannot be imported: {describe(error)}"
        ) from error


# Methods --------------------------------------------------------------------------------------------------


def plugin_files(plugins: Sequence[PluginFile | Path | str]) -> list[PluginFile]:
    """Files given by path as they are now, each once; those with a known content as they are.

    Raises:
        ConfigurationError: There is no such file.
    """
    from zbench.plugins import PluginFile

    files = [each if isinstance(each, PluginFile) else PluginFile.at(each) for each in plugins]
    return list(dict.fromkeys(files))


def method_names(plugins: Sequence[PluginFile | Path | str] = ()) -> list[str]:
    """Sorted names of the methods: installed ones, of which none is imported, and those of some files.

    Args:
        plugins: Files; one that cannot be imported adds no name.

    Raises:
        ConfigurationError: There is no such file.
    """
    own = {name for _, methods, _ in _of_files(plugins) for name in methods}
    return sorted({*names(METHODS), *own})


def own_method_names() -> tuple[str, ...]:
    """Sorted names of the methods of zbench's own package; a stranger's bare name is none of them."""
    points = (point for found in _found(METHODS).values() for point in found)
    return tuple(sorted({each.name for each in points if each.dist and each.dist.name == OWN_PACKAGE}))


def load_method(name: str, plugins: Sequence[PluginFile | Path | str] = ()) -> type[Method]:
    """The class of a method, installed or from a file.

    Args:
        name: Its name; what begins with ``import:`` is the class of all erased models made elsewhere.
        plugins: Files that may define it.

    Raises:
        UnknownNameError: No method has this name.
        ConfigurationError: It cannot be imported, or is not a method of this name, or several packages or
            files provide it; or nobody knows it, and one of the files cannot be imported.
    """
    if is_import(name):
        from zbench.exchange.imported import Imported

        return Imported
    files = list(_of_files(plugins))
    offered = {file: methods[name] for file, methods, _ in files if name in methods}
    installed = _found(METHODS)
    if offered:
        _require_one(name, offered, installed.get(name, []))
        return next(iter(offered.values()))
    broken = next((problem for _, _, problem in files if problem is not None), None)
    if name not in installed and broken is not None:
        raise ConfigurationError(f"No installed method is called {name!r}. {broken}") from broken
    if name not in installed:
        known = {*installed, *(each for _, methods, _ in files for each in methods)}
        raise UnknownNameError.of("method", name, known)
    return _installed(name, installed[name])


Found = tuple["PluginFile", "dict[str, type[Method]]", "ConfigurationError | None"]


def _of_files(plugins: Sequence[PluginFile | Path | str]) -> Iterator[Found]:
    """Each file with its methods by name, or with what is wrong with it."""
    from zbench.plugins import load_plugin

    for file in plugin_files(plugins):
        try:
            yield file, load_plugin(file), None
        except ConfigurationError as error:
            yield file, {}, error


def _require_one(name: str, offered: dict[PluginFile, type[Method]], installed: list[EntryPoint]) -> None:
    claims = [str(file.path) for file in offered] + [point.value for point in installed]
    if len(claims) > 1:
        raise ConfigurationError(
            f"Both {claims[0]} and {claims[1]} provide the method {name!r}: give one of them another `name`."
        )


def _installed(name: str, points: Sequence[EntryPoint]) -> type[Method]:
    from zbench.method import Method
    from zbench.plugins import require_method

    loaded = _imported(_only(METHODS, name, points), "method")
    if not (isinstance(loaded, type) and issubclass(loaded, Method)) or getattr(loaded, "name", None) != name:
        raise ConfigurationError(f"The entry point {name!r} of {METHODS} is not a Method with that name.")
    require_method(loaded, f"The method {name!r}")
    return loaded


@dataclass(frozen=True)
class Listed:
    """A method in a listing.

    Attributes:
        name: Its name.
        origin: Package or file that it comes from.
        method: The class; None where it was not imported.
        problem: Why it cannot be used; None where it can, or where nobody tried.
    """

    name: str
    origin: str
    method: type[Method] | None = None
    problem: str | None = None


def list_methods(plugins: Sequence[PluginFile | Path | str] = ()) -> list[Listed]:
    """All methods, sorted: zbench's own and those of files with their class, other packages' by name only.

    Nothing breaks the listing: what cannot be imported, or is claimed twice, is listed with its problem.

    Raises:
        ConfigurationError: There is no such file.
    """
    installed, files = _found(METHODS), list(_of_files(plugins))
    own = {name: file.path.name for file, methods, _ in files for name in methods}
    broken = [Listed("?", file.path.name, None, str(problem)) for file, _, problem in files if problem]
    found = [_listed(name, points) for name, points in installed.items() if name not in own]
    found += [_tried(name, origin, partial(load_method, name, plugins)) for name, origin in own.items()]
    return sorted(found, key=lambda each: each.name) + broken


def _listed(name: str, points: list[EntryPoint]) -> Listed:
    origins = sorted({point.dist.name if point.dist else "?" for point in points})
    if len(points) == 1 and origins != [OWN_PACKAGE]:
        return Listed(name, origins[0])
    return _tried(name, ", ".join(origins), lambda: _installed(name, points))


def _tried(name: str, origin: str, loading: Callable[[], type[Method]]) -> Listed:
    try:
        return Listed(name, origin, loading())
    except ZbenchError as error:
        return Listed(name, origin, None, str(error))


# Detectors ------------------------------------------------------------------------------------------------


def detector_names() -> list[str]:
    """Names of the installed detectors; none is imported."""
    return names(DETECTORS)


def load_detector(name: str, **options: Any) -> Any:
    """Builds an installed detector.

    Args:
        name: Its name.
        **options: Passed to its factory (such as `device`).

    Raises:
        UnknownNameError: No detector has this name.
    """
    return load(DETECTORS, name, "detector")(**options)


# Attacks --------------------------------------------------------------------------------------------------


def attack_names() -> list[str]:
    """Sorted names of the installed attacks; none is imported."""
    return names(ATTACKS)


def own_attack_names() -> tuple[str, ...]:
    """Sorted names of the attacks of zbench's own package."""
    points = (point for found in _found(ATTACKS).values() for point in found)
    return tuple(sorted({each.name for each in points if each.dist and each.dist.name == OWN_PACKAGE}))


def load_attack(name: str) -> type[Attack]:
    """The class of an installed attack.

    Args:
        name: Its name.

    Raises:
        UnknownNameError: No attack has this name.
        ConfigurationError: It cannot be imported, is no attack of this name, or several packages provide it.
    """
    from zbench.attacks.base import Attack

    loaded = load(ATTACKS, name, "attack")
    if not (isinstance(loaded, type) and issubclass(loaded, Attack)) or getattr(loaded, "name", None) != name:
        raise ConfigurationError(f"The entry point {name!r} of {ATTACKS} is not an Attack with that name.")
    return loaded
