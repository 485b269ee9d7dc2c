"""Finding a cell of a run folder by whatever people call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from zbench.errors import StoreError, UnknownNameError
from zbench.runner.specs import CellResult
from zbench.store import Store, read_json

_SAME = ("concept", "model", "protocol", "prompts", "repetitions", "steps", "height", "width")
"""What two cells must share to be rows of one table."""


def find_result(store: Store, name: str) -> CellResult:
    """The result of the one cell that a name stands for.

    Args:
        store: The run folder.
        name: Id of a cell, the beginning of one, its label (`zerase s0`) or its method.

    Raises:
        UnknownNameError: No cell is called so, or several are.
        StoreError: Its result cannot be read.
    """
    ids = sorted(path.parent.name for path in (store.root / "cells").glob("*/result.json"))
    fitting = [each for each in ids if each == name] or [each for each in ids if each.startswith(name)]
    if len(fitting) == 1:
        return read_result(store, fitting[0])
    results = list(_read(store, fitting or ids))
    called = results if fitting else _called(results, name)
    if len(called) != 1:
        kind = "cell (several are called so)" if called else "cell"
        known = [each.id for each in called] or sorted({each.spec.label for each in results})
        raise UnknownNameError.of(kind, name, known)
    return called[0]


def read_result(store: Store, cell: str) -> CellResult:
    """The result of a cell.

    Raises:
        StoreError: It is missing, truncated or malformed.
    """
    path = store.root / "cells" / cell / "result.json"
    try:
        return CellResult.model_validate(read_json(path))
    except ValidationError as error:
        raise StoreError(f"{path} is malformed: run the same command again to renew it.") from error


def find_original(store: Store, result: CellResult) -> CellResult | None:
    """The unerased model's row beside a result; None where it is not there."""
    ids = sorted(path.name for path in (store.root / "cells").glob("original-*"))
    wanted = _alike(result)
    found = (each for each in _read(store, ids) if each.spec.is_original and each.status == "done")
    return next((each for each in found if _alike(each) == wanted), None)


def _alike(result: CellResult) -> list[object]:
    return [getattr(result.spec, field) for field in _SAME]


def _called(results: Sequence[CellResult], name: str) -> list[CellResult]:
    ways: tuple[Callable[[CellResult], str], ...] = (lambda r: r.spec.label, lambda r: r.spec.method)
    found = ([each for each in results if way(each) == name] for way in ways)
    return next((each for each in found if each), [])


def _read(store: Store, ids: Sequence[str]) -> Iterator[CellResult]:
    for cell in ids:
        if Path(store.root / "cells" / cell / "result.json").is_file():
            yield read_result(store, cell)
