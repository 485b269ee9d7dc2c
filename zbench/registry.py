"""Finding methods, detectors and reference pictures by name, through package entry points.

Listing reads installed metadata only and imports nothing; loading imports the one module that was asked for.
A package of anyone's can add a name: zbench's own have no privilege.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError, UnknownNameError

if TYPE_CHECKING:
    from zbench.method import Method

METHODS = "zbench.methods"
DETECTORS = "zbench.detectors"
REFERENCES = "zbench.references"


def _found(group: str, name: str | None = None) -> dict[str, EntryPoint]:
    """Entry points of a group by name. When one is asked for, a clash of two others does no harm."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        known = found.setdefault(point.name, point)
        # The same distribution can be seen twice (editable install and working directory): that is no clash.
        if known.value != point.value and name in (None, point.name):
            raise ConfigurationError(
                f"Two installed packages provide {group} {point.name!r} ({known.value} and {point.value}):"
                " uninstall one of them."
            )
    return found


def names(group: str) -> list[str]:
    """Sorted names of an entry-point group, nothing imported.

    Raises:
        ConfigurationError: Two packages provide the same name.
    """
    return sorted(_found(group))


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
    found = _found(group, name)
    if name not in found:
        raise UnknownNameError.of(kind, name, found)
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        where = found[name].value
        raise ConfigurationError(f"The {kind} {name!r} ({where}) cannot be imported: {error}") from error


def method_names() -> list[str]:
    """Names of the installed methods; none is imported."""
    return names(METHODS)


def load_method(name: str) -> type[Method]:
    """The class of an installed method.

    Raises:
        UnknownNameError: No method has this name.
        ConfigurationError: It cannot be imported, or is not a method of this name.
    """
    from zbench.method import Method

    loaded = load(METHODS, name, "method")
    if not (isinstance(loaded, type) and issubclass(loaded, Method)) or loaded.name != name:
        raise ConfigurationError(f"The entry point {name!r} of {METHODS} is not a Method with that name.")
    return loaded


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
