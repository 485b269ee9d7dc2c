"""The erase stage: trains one erasure and keeps it as a folder.

Its identity hashes what changes the weights: method with its version, hyper-parameters (defaults resolved,
training seed included), the concept's whole content and the model; of a method from a file also the file's
content.
A method is a stranger's code: what it returns is verified, and so is that it left the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from zbench.errors import (
    MethodError,
    MissingExtraError,
    ModelChangedError,
    StoreError,
    TrainingDivergedError,
    UnknownNameError,
    WeightsError,
)
from zbench.store import StageFolder, Store, atomic_write_bytes, canonical_json, sha256_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.method import Method
    from zbench.model import Model
    from zbench.stages.inputs import ModelHandle

ORIGINAL_WEIGHTS = "original"
"""Stands where an erasure's weight hash stands, for the unerased model."""

PLUGIN_FILE = "plugin.py"
"""Copy of the file that a method came from, beside its erasure."""

_MEANT_FOR_USERS = (OSError, StoreError, WeightsError, MissingExtraError, UnknownNameError, SystemExit)
"""From a method's own code these must not stop the whole run."""

_TRACE = TypeAdapter(list[dict[str, Annotated[float, Field(strict=True, allow_inf_nan=False)]]])


def erase_folder(store: Store, method: Method, concept: Concept, model: ModelHandle) -> StageFolder:
    """Where this erasure lies, done or not.

    Args:
        store: The run folder.
        method: The method with all of its hyper-parameters.
        concept: What it erases.
        model: What it erases it from.
    """
    config = {
        "stage": "erase",
        **method.identity(),
        "concept": concept.model_dump(mode="json"),
        "model": model.identity,
    }
    return store.stage("erasures", config, prefix=f"{method.name}-{concept.name}-s{method.training_seed}")


def erase(
    folder: StageFolder,
    method: Method,
    concept: Concept,
    model: ModelHandle,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Trains the erasure and puts its folder in place.

    Raises:
        TrainingDivergedError: A loss or a weight stopped being finite; nothing is kept.
        MethodError: The method returned something else than a whole erasure.
        ModelChangedError: It left the model changed; that was dropped, and the next use loads it again.
        StoreError: The folder cannot be written.
    """
    loaded = model.model  # missing weights show here, where they are not the method's fault

    def fill(temporary: Path) -> None:
        with model_kept(model, method.name):
            with settings_kept():
                erasure = erased(method, concept, loaded, progress)
            _save(erasure, temporary, loaded)
        if method.plugin is not None:
            atomic_write_bytes(temporary / PLUGIN_FILE, method.plugin.source())

    folder.write(fill)


@contextmanager
def model_kept(model: ModelHandle, name: str) -> Iterator[None]:
    """Verifies that a block leaves the model as it was, also where it raises.

    Raises:
        ModelChangedError: The model changed; it was dropped.
    """
    from zbench.stages.integrity import ModelState

    before = ModelState.of(model.model)
    try:
        yield
    except Exception as error:
        _require_unchanged(before, model, name, error)
        raise
    _require_unchanged(before, model, name, None)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Puts random states and settings of the process back: other methods run in it too."""
    from zbench.stages.integrity import ProcessState

    process = ProcessState.now()
    try:
        yield
    finally:
        process.restore()


def _require_unchanged(before: Any, model: ModelHandle, name: str, error: Exception | None) -> None:
    changes = before.changes(model.model)
    if changes:
        model.drop()
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ModelChangedError(
            f"{name} left the model changed ({changes[0]}{more}): only its edit, attached, may change it."
        ) from error


# What a method says and returns ---------------------------------------------------------------------------


def refusal(method: Method, concept: Concept) -> str | None:
    """Why a method refuses a concept, None where it does not.

    Raises:
        MethodError: It gives neither a reason nor None, or raises what would stop a whole run.
    """
    with own_errors(method.name):
        reason = method.supports(concept)
    if reason is None or (isinstance(reason, str) and reason.strip()):
        return reason
    raise MethodError(
        f"{method.name}.supports returned {reason!r}: it must be None or a reason in one sentence."
    )


def erased(
    method: Method,
    concept: Concept,
    model: Model,
    progress: Callable[[int, int], None] | None = None,
) -> Erasure:
    """Calls a method and verifies what it returns.

    Raises:
        MethodError: No erasure, or one of another name, or one whose edit is attached or empty.
        TrainingDivergedError: A weight is not finite.
        Exception: Whatever else the method raises.
    """
    with own_errors(method.name):
        erasure = method.erase(model, concept, progress=progress)
        require_erasure(erasure, method, concept)
    return erasure


@contextmanager
def own_errors(name: str) -> Iterator[None]:
    """Turns what would stop a whole run, raised by the code of a method or its edit, into its own failure.

    Raises:
        MethodError: The method `name` raised such an error.
    """
    try:
        yield
    except _MEANT_FOR_USERS as error:
        raise MethodError(f"{name} raised {type(error).__name__}: {error}") from error


def require_erasure(erasure: Any, method: Method, concept: Concept) -> None:
    """Verifies what a method returned; an edit that is still attached is detached.

    Raises:
        MethodError: It is no erasure by this method of this concept, with a detached edit that does something
            and a trace of rows of figures.
        TrainingDivergedError: A weight is not finite.
    """
    from zbench.edits import Edit, NoEdit
    from zbench.erasure import Erasure

    if not isinstance(erasure, Erasure) or not isinstance(erasure.edit, Edit):
        what = "an erasure without an edit" if isinstance(erasure, Erasure) else type(erasure).__name__
        raise MethodError(
            f"{method.name}.erase returned {what}: it must return a zbench.Erasure with an edit."
        )
    if erasure.edit.attached:
        erasure.edit.detach()
        raise MethodError(f"{method.name}.erase returned an edit that is still attached: detach it.")
    if isinstance(erasure.edit, NoEdit):
        raise MethodError(f"{method.name}.erase returned no edit: say in `supports` what it cannot erase.")
    if (erasure.method, erasure.concept) != (method.name, concept.name):
        raise MethodError(
            f"{method.name}.erase of {concept.name!r} returned an erasure of {erasure.concept!r} by"
            f" {erasure.method!r}: give it the method's and the concept's names."
        )
    try:
        plain_trace(erasure.trace)
    except ValueError as error:
        raise MethodError(f"{method.name} returned a trace that cannot be used: {error}.") from error
    _require_finite(erasure.edit, method.name)


def plain_trace(trace: Any) -> list[dict[str, float]]:
    """A training trace: one row of figures for each step.

    Raises:
        ValueError: It is not a list of dictionaries from names to finite numbers; says where.
    """
    try:
        return _TRACE.validate_python(trace, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place, value = "".join(f"[{part!r}]" for part in first["loc"]), first["input"]
        found = repr(value) if isinstance(value, float | bool) else f"a {type(value).__name__}"
        raise ValueError(
            f"trace{place} is {found}; a trace is a list of dictionaries from names to finite numbers"
        ) from error


def _require_finite(edit: Edit, name: str) -> None:
    tensors = dict(tensors_of(edit))
    broken = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if broken:
        raise TrainingDivergedError(
            f"{name} returned weights that are not finite: {broken[0]} ({len(broken)} of {len(tensors)}"
            " tensors). If it trains, lower its learning rate."
        )


def tensors_of(edit: Edit, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of an edit, those of its parts included."""
    for name, value in edit.tensors().items():
        yield prefix + name, value
    for index, part in enumerate(getattr(edit, "edits", ())):
        yield from tensors_of(part, f"{prefix}{index}.")


def _save(erasure: Erasure, folder: Path, model: Model) -> None:
    """Saves an erasure and tries what every later stage does: to load it and to attach it.

    Raises:
        MethodError: It cannot be read back, or does not reproduce its probe.
        StoreError: The folder cannot be written.
    """
    from zbench.erasure import Erasure

    try:
        erasure.save(folder, model)
        with model.edited(Erasure.load(folder).edit):
            pass
    except WeightsError as error:
        raise MethodError(f"What {erasure.method} returned does not survive saving: {error}") from error
    except (OSError, MissingExtraError, UnknownNameError, SystemExit) as error:
        # A disk that is full would be a StoreError: this is the edit's own.
        raise MethodError(
            f"What {erasure.method} returned cannot be saved: {type(error).__name__}: {error}"
        ) from error


def weights_hash(folder: StageFolder) -> str:
    """Hash of the edit alone: two erasures with the same one draw the same pictures.

    Costs and traces lie in the same folder and are left out, because seconds differ from run to run.
    """
    files: dict[str, Any] = folder.done()["files"]
    edit = {name: digest for name, digest in files.items() if name.startswith("edit/")}
    return sha256_bytes(canonical_json(edit).encode())
