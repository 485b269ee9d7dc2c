"""The erase stage: trains one erasure and keeps it as a folder.

Its identity hashes what changes the weights: method, hyper-parameters (defaults resolved, training seed
included), the concept's whole content and the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.store import StageFolder, Store, canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.method import Method
    from zbench.stages.inputs import ModelHandle

ORIGINAL_WEIGHTS = "original"
"""Stands where an erasure's weight hash stands, for the unerased model."""


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
        "method": method.name,
        "hyperparameters": method.model_dump(mode="json"),
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
        TrainingDivergedError: A loss stopped being finite; nothing is kept.
        StoreError: The folder cannot be written.
    """

    def fill(temporary: Path) -> None:
        erasure = method.erase(model.model, concept, progress=progress)
        erasure.save(temporary, model.model)

    folder.write(fill)


def weights_hash(folder: StageFolder) -> str:
    """Hash of the edit alone: two erasures with the same one draw the same pictures.

    Costs and traces lie in the same folder and are left out, because seconds differ from run to run.
    """
    files: dict[str, Any] = folder.done()["files"]
    edit = {name: digest for name, digest in files.items() if name.startswith("edit/")}
    return sha256_bytes(canonical_json(edit).encode())
