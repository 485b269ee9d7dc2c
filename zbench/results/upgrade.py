"""Files of older schemas: each version is brought to the next by a function of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from zbench.results.schema import KIND, SCHEMA_VERSION
from zbench.runner.specs import SCHEMA_VERSION as SCHEMA_VERSION_CELL
from zbench.runner.specs import SCHEMA_VERSION_ATTACKED

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version of a published result -> function that gives it the form of the next one."""

CELL_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Likewise for the results of cells in run folders."""

CURRENT_CELLS = (SCHEMA_VERSION_CELL, SCHEMA_VERSION_ATTACKED)
"""Schema versions of cells that need no upgrade: without attacks, and with them."""


_SHOWN = 20
"""Characters of a number that are shown."""


class Unreadable(Exception):
    """A file that is no published result, or none that can be read; its text says why in one line."""


def is_current(version: int, of_cell: int) -> bool:
    """Whether the schema versions of a result and of its cell need no upgrade."""
    return version == SCHEMA_VERSION and of_cell in CURRENT_CELLS


def upgraded(content: bytes) -> dict[str, Any]:
    """A file's record in the form of the current schema.

    Raises:
        Unreadable: It is no JSON object, no published result, of an unknown schema, or holds NaN.
    """
    record = _parsed(content)
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise Unreadable("not a published result of zbench (`zbench collect` writes them)")
    record = _stepped(record, UPGRADES, (SCHEMA_VERSION,), "collect it again")
    if not isinstance(record.get("result"), dict):
        return record
    return {**record, "result": _current_cell(record["result"])}


def upgraded_cell(content: bytes) -> dict[str, Any]:
    """A cell's record from a run folder in the form of the current schema.

    Raises:
        Unreadable: It is no JSON object, of an unknown schema, or holds NaN.
    """
    record = _parsed(content)
    if not isinstance(record, dict):
        raise Unreadable("not the result of a cell")
    return _current_cell(record)


def _current_cell(record: dict[str, Any]) -> dict[str, Any]:
    return _stepped(record, CELL_UPGRADES, CURRENT_CELLS, "run the cell again")


def _stepped(
    record: dict[str, Any],
    upgrades: dict[int, Callable[[dict[str, Any]], dict[str, Any]]],
    current: tuple[int, ...],
    remedy: str,
) -> dict[str, Any]:
    while True:
        version = record.get("schema_version")
        if not isinstance(version, int) or isinstance(version, bool):
            raise Unreadable(f"has no schema version: {remedy}")
        if version in current:
            return record
        if version > max(current):
            raise Unreadable(
                f"schema version {version}; this zbench knows up to {max(current)}: upgrade zbench"
            )
        if version not in upgrades:
            raise Unreadable(f"schema version {version} is unknown: {remedy}")
        record = upgrades[version](record)


def _parsed(content: bytes) -> Any:
    try:
        record = json.loads(content.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8 text") from error
    except UnicodeEncodeError as error:
        raise Unreadable("holds half of a character (a lone surrogate): collect it again") from error
    except RecursionError as error:
        raise Unreadable("nested too deeply to be a result") from error
    except ValueError as error:
        raise Unreadable(f"truncated or not JSON ({error})") from error
    return record


def _refuse(constant: str) -> NoReturn:
    raise Unreadable(f"holds {constant}, which is no number: collect it again")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits[:_SHOWN])
