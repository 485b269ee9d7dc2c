"""The generate stage: draws the pictures of one prompt set with one erasure.

Its identity hashes the erasure's weights, the model, the prompts, the seeds and the sampler. What does not
change a picture (batch size, device) is not in it, nor is the method: equal weights share their pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zbench.stages.drawing import Painter
from zbench.stages.erase import ORIGINAL_WEIGHTS, model_kept, own_errors, settings_kept, weights_hash
from zbench.stages.samples import Sample
from zbench.store import StageFolder, Store, canonical_json

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.edits import Edit
    from zbench.prompts import PromptSet
    from zbench.stages.inputs import ModelHandle

_SEED_BITS = 48
"""Room enough that two prompts practically never share a seed, and exact in any JSON reader."""


def picture_seed(prompt_id: str, repetition: int) -> int:
    """Seed of one picture: derives from prompt and repetition and from nothing else.

    All methods, concepts and training seeds so face the same noise, and share the original's pictures.
    """
    digest = hashlib.sha256(canonical_json([prompt_id, repetition]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def planned_samples(prompts: PromptSet, role: str, repetitions: int) -> list[Sample]:
    """One description per picture: every prompt of the set, `repetitions` times, in order."""
    return [
        Sample(
            prompt_id=prompt.id,
            prompt=prompt.text,
            role=role,
            repetition=repetition,
            seed=picture_seed(prompt.id, repetition),
            prompt_set=prompts.name,
            object=prompt.object,
            truth=prompt.truth,
        )
        for prompt in prompts.prompts
        for repetition in range(repetitions)
    ]


def generate_folder(
    store: Store, erasure: StageFolder | None, model: ModelHandle, samples: list[Sample], steps: int
) -> StageFolder:
    """Where these pictures lie, drawn or not.

    Args:
        store: The run folder.
        erasure: A complete erasure, None for the unerased model.
        model: The unerased model.
        samples: What to draw.
        steps: Denoising steps.
    """
    weights = ORIGINAL_WEIGHTS if erasure is None else weights_hash(erasure)
    return samples_folder(store, weights, model, samples, steps)


def samples_folder(
    store: Store, weights: str, model: ModelHandle, samples: Sequence[Sample], steps: int, **more: Any
) -> StageFolder:
    """Where pictures lie that were drawn with an edit of which only the hash is known.

    Args:
        store: The run folder.
        weights: Hash of the edit.
        model: The unerased model.
        samples: What to draw.
        steps: Denoising steps.
        **more: What else decides the pictures, as plain values.
    """
    config = {
        "stage": "generate",
        "erasure": weights,
        # The model's own number of steps matters to training, but not to pictures drawn with another number.
        "model": {**model.identity, "steps": steps},
        "samples": [sample.model_dump(mode="json", exclude={"sha256"}) for sample in samples],
        **more,
    }
    return store.stage("samples", config, prefix=f"pictures-{samples[0].prompt_set}")


def generate(
    folder: StageFolder,
    erasure: StageFolder | None,
    model: ModelHandle,
    samples: list[Sample],
    steps: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draws the pictures and puts their folder in place; what was drawn before a kill is not drawn again.

    Args:
        folder: From `generate_folder`.
        erasure: A complete erasure, None for the unerased model.
        model: The unerased model.
        samples: What to draw, N of them.
        steps: Denoising steps.
        batch_size: Pictures drawn at once, fewer where memory does not suffice.
        progress: Told how many of the N are drawn.

    Raises:
        StoreError: The folder cannot be written.
        OutOfMemoryError: Memory does not suffice for a single picture.
        MethodError: The erasure's edit raised what would stop a whole run.
        ModelChangedError: It left the model changed; that was dropped, and the next use loads it again.
        Exception: Whatever else the edit raises.
    """
    _ = model.model  # missing weights show here, where they are not the edit's fault

    def captions(rows: Sequence[int]) -> list[Tensor]:
        return model.model.encode([samples[row].prompt for row in rows])

    Painter(model, captions, erased_model(model, erasure), steps, batch_size, progress).fill(folder, samples)


@contextmanager
def erased_model(model: ModelHandle, erasure: StageFolder | None) -> Iterator[None]:
    """The model with an erasure as stored, so that a resumed run draws what an undisturbed one does.

    Args:
        model: The unerased model.
        erasure: A complete erasure; None leaves the model as it is.

    Raises:
        MethodError: The edit raised what would stop a whole run.
        ModelChangedError: It left the model changed; that was dropped.
    """
    if erasure is None:
        yield
        return
    from zbench.erasure import Erasure

    with edited_model(model, str(erasure.config["method"]), lambda: Erasure.load(erasure.path).edit):
        yield


@contextmanager
def edited_model(model: ModelHandle, name: str, load: Callable[[], Edit]) -> Iterator[None]:
    """The model with any edit: a stranger's code, whose errors are its own, and which leaves no trace.

    Args:
        model: The unerased model.
        name: Whose edit it is.
        load: Reads it.
    """
    with model_kept(model, name), settings_kept(), own_errors(name):
        edit = load()
        with model.model.edited(edit):
            yield
