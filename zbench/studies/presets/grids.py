"""Which configurations are tried: the product of a few values for a few fields, drawn up beforehand."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any

from zbench.errors import ConfigurationError, UnknownNameError

CONFIGURATIONS = 12
"""For every method; fewer only where a method has no more choices that mean something."""


@cache
def _grids(domain: str) -> dict[str, dict[str, list[Any]]]:
    source = files("zbench.studies.presets") / "grids" / f"{domain}.toml"
    if not source.is_file():
        raise ConfigurationError(f"No grids of configurations are drawn up for models of domain {domain!r}.")
    return tomllib.loads(source.read_text(encoding="utf-8"))


def grid_names(domain: str) -> tuple[str, ...]:
    """Methods that a grid is drawn up for, in the order of the file.

    Raises:
        ConfigurationError: There are no grids for this domain of models.
    """
    return tuple(_grids(domain))


def configurations(method: str, domain: str) -> list[dict[str, Any]]:
    """The configurations of one method, each a mapping field -> value over the preset.

    Raises:
        UnknownNameError: No grid is drawn up for this method.
        ConfigurationError: There are no grids for this domain, or this one is larger than every method's.
    """
    grids = _grids(domain)
    if method not in grids:
        raise UnknownNameError.of("method with a grid", method, grids)
    fields = grids[method]
    found = [dict(zip(fields, values, strict=True)) for values in product(*fields.values())]
    if len(found) > CONFIGURATIONS:
        raise ConfigurationError(f"The grid of {method} has {len(found)} points; {CONFIGURATIONS} are fair.")
    return found
