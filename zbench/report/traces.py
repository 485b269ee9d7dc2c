"""Finding the training traces of erasures on disk: by cell, by erasure, or all of a method in a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from zbench.config import ORIGINAL
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.store import MARKER, Store, read_json

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult

Rows = Sequence[dict[str, float]]

ERASURE, RESULT, TRACE = "erasure.json", "result.json", "trace.json"


@dataclass(frozen=True)
class StoredTrace:
    """The trace of one stored erasure.

    Attributes:
        folder: The erasure's folder.
        method: Name of the method.
        concept: Name of the concept.
        training_seed: Of the erasure.
        rows: One row of figures per training step.
    """

    folder: Path
    method: str
    concept: str
    training_seed: int
    rows: Rows

    @property
    def run_folder(self) -> Path | None:
        """The run folder that it lies in; None for an erasure that was saved elsewhere."""
        root = self.folder.parent.parent
        return root if (root / MARKER).is_file() else None


def find_traces(name: str, run: Path, method: str | None = None) -> list[StoredTrace]:
    """Finds the traces that a user means.

    Args:
        name: Folder of an erasure, of a cell or of a run, or the id of a cell or erasure in `run`, or the
            unambiguous beginning of one.
        run: Run folder in which ids are looked up.
        method: Which method of a run folder, all training seeds of it; may be left out where there is one.

    Returns:
        One trace; of a run folder one for each training seed and concept.

    Raises:
        StoreError: The folder holds nothing of the kind.
        UnknownNameError: No such cell, erasure or method.
        ConfigurationError: There is no trace: the original, a closed form, a cell that failed.
    """
    folder = Path(name)
    if (folder / ERASURE).is_file():
        return [_read(folder)]
    if (folder / RESULT).is_file():
        return [_of_cell(folder)]
    if folder.is_dir():
        return _of_run(folder, method)
    root = Store.open(run, create=False).root
    places = {place.name: place for kind in ("cells", "erasures") for place in _folders(root / kind)}
    fitting = [name] if name in places else [each for each in places if each.startswith(name)]
    # The beginning of a cell's name is often that of its own erasure's: both mean one trace.
    meant = {_erasure_of(places[each], root) for each in fitting}
    if len(meant) != 1:
        what = "cell or erasure" if not fitting else "cell or erasure (several begin so)"
        raise UnknownNameError.of(what, name, fitting or places)
    return find_traces(str(places[fitting[0]]), run)


def _erasure_of(place: Path, root: Path) -> Path:
    """The erasure that a cell's or an erasure's folder stands for; the cell itself where it has none."""
    if not (place / RESULT).is_file():
        return place
    stages = _result(place).stages
    return root / stages["erase"] if "erase" in stages else place


def _folders(parent: Path) -> Iterator[Path]:
    """Finished stages below a folder."""
    return (path for path in sorted(parent.glob("*")) if path.is_dir() and not path.name.startswith("."))


def _read(folder: Path) -> StoredTrace:
    record, rows = read_json(folder / ERASURE), _rows(folder / TRACE)
    try:
        found = StoredTrace(
            folder.absolute(),
            record["method"],
            record["concept"],
            int(record["hyperparameters"].get("training_seed", 0)),
            rows,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{folder / ERASURE} is malformed; run the erasure again.") from error
    if not found.rows:
        raise ConfigurationError(f"{found.method} is not trained step by step: it has no trace.")
    return found


def _rows(path: Path) -> Rows:
    from zbench.stages.erase import plain_trace

    try:
        return plain_trace(read_json(path))
    except ValueError as error:
        raise StoreError(f"{path} is malformed ({error}); run the erasure again.") from error


def _of_cell(folder: Path) -> StoredTrace:
    return _of_result(_result(folder), folder.absolute().parent.parent)


def _result(folder: Path) -> CellResult:
    from zbench.runner.specs import CellResult

    try:
        return CellResult.model_validate(read_json(folder / RESULT))
    except ValidationError as error:
        raise StoreError(f"{folder / RESULT} is malformed; run the cell again.") from error


def _of_result(result: CellResult, root: Path) -> StoredTrace:
    if result.spec.is_original:
        raise ConfigurationError(f"{ORIGINAL} is the unerased model: it has no trace.")
    if "erase" not in result.stages:
        raise ConfigurationError(f"The cell {result.id} has no erasure ({result.status}): run it again.")
    return _read(root / result.stages["erase"])


def _of_run(folder: Path, method: str | None) -> list[StoredTrace]:
    """All erasures of a method in the last run of a run folder."""
    from zbench.report.run_folder import read_record

    record = read_record(folder)
    root = folder.parent.parent if folder.resolve().parent.name == "reports" else folder
    erased = [cell for cell in record.cells if "erase" in cell.stages]
    methods = list(dict.fromkeys(cell.spec.method for cell in erased))
    if method is None and len(methods) != 1:
        names = ", ".join(methods) or "none"
        raise ConfigurationError(f"{folder} holds erasures of {names}: choose one with --method.")
    chosen = method or methods[0]
    if chosen not in methods:
        raise UnknownNameError.of(f"erasure in {folder}", chosen, methods)
    return [_of_result(cell, root.absolute()) for cell in erased if cell.spec.method == chosen]
