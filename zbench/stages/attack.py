"""The attack stage: an attack's candidates against one erasure, one folder for each batch of prompts.

Its identity hashes the attack with its fields, the erasure's weights, the model, the concept and the batch's
prompts. Each finished batch is a checkpoint: an interrupted attack goes on with the next one, and offers what
it would have offered. An attack is a stranger's code: what it offers is verified, texts that can be read as
being about minors are refused, and so is an attack that changes the model or asks for a detector.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.attacks.candidates import Arm, Candidate
from zbench.attacks.stored import CandidateWriter, read_candidates
from zbench.errors import AttackError
from zbench.stages.erase import (
    ORIGINAL_WEIGHTS,
    model_kept,
    own_errors,
    settings_kept,
    tensors_of,
    weights_hash,
)
from zbench.stages.offers import take
from zbench.store import StageFolder, Store

if TYPE_CHECKING:
    from zbench.attacks.base import Attack
    from zbench.attacks.context import Context
    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.prompts.sets import Prompt
    from zbench.stages.inputs import ModelHandle

__all__ = ["Batch", "Target", "attack", "attack_batches", "read_candidates"]

Progress = Callable[[int, int], None]

_END = object()


@dataclass(frozen=True)
class Target:
    """What is attacked.

    Attributes:
        model: The unerased model.
        erasure: A complete erasure; None for the unerased model itself.
        concept: What was erased.
        prompts: What is attacked.
        flagged: Whether texts are kept apart, unshown: they may be obscene.
        steps: Denoising steps of the pictures, which the attack is told are the model's; its own when None.
    """

    model: ModelHandle
    erasure: StageFolder | None
    concept: Concept
    prompts: tuple[Prompt, ...]
    flagged: bool = False
    steps: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What of the model an attack depends on."""
        return {**self.model.identity, "steps": self.steps or self.model.spec.steps}

    @property
    def weights(self) -> str:
        """Hash of the erasure's edit."""
        return ORIGINAL_WEIGHTS if self.erasure is None else weights_hash(self.erasure)

    def edit(self) -> Edit:
        """The erasure's edit as stored, detached; the empty one for the unerased model."""
        from zbench.erasure import Erasure

        return (Erasure.original() if self.erasure is None else Erasure.load(self.erasure.path)).edit


@dataclass(frozen=True)
class Batch:
    """Prompts that are attacked together.

    Attributes:
        folder: Where their candidates lie, finished or not.
        prompts: The prompts.
    """

    folder: StageFolder
    prompts: tuple[Prompt, ...]


def attack_batches(store: Store, attacker: Attack, target: Target) -> list[Batch]:
    """Where an attack's candidates lie, batch by batch; a model-wide attack has a single batch.

    Args:
        store: The run folder.
        attacker: The attack with all of its fields.
        target: What it attacks.

    Raises:
        MethodError: The attack's own code raised what would stop a whole run.
    """
    size = len(target.prompts) if attacker.model_wide else attacker.batch_size
    parts = [target.prompts[start : start + size] for start in range(0, len(target.prompts), size)]
    with own_errors(attacker.name):
        own = attacker.identity()
    shared = {
        "stage": "attack",
        "attack": own,
        "erasure": target.weights,
        "concept": target.concept.model_dump(mode="json"),
        "model": target.identity,
    }
    prefix = f"{attacker.name}-{target.concept.name}"
    return [
        Batch(store.stage("attacks", {**shared, "prompts": [[p.id, p.text] for p in part]}, prefix), part)
        for part in parts
    ]


def attack(
    batches: Sequence[Batch], attacker: Attack, target: Target, progress: Progress | None = None
) -> None:
    """Makes the candidates of the batches that are missing, and puts each batch's folder in place.

    Args:
        batches: From `attack_batches`.
        attacker: The attack.
        target: What it attacks.
        progress: Told (prompts done, prompts in all).

    Raises:
        AttackError: The attack offered what no attack may offer, or asked for what it must not see.
        MethodError: It raised what would stop a whole run.
        ModelChangedError: It left the model changed; that was dropped, and the next use loads it again.
        StoreError: A folder cannot be written.
        Exception: Whatever else the attack raises.
    """
    missing = [batch for batch in batches if not batch.folder.is_complete()]
    if not missing:
        return
    context, reason = _prepared(attacker, target, progress)
    count, done = sum(len(batch.prompts) for batch in missing), 0
    for batch in missing:
        own = replace(context.on(batch.prompts), progress=_part(progress, done, len(batch.prompts), count))
        batch.folder.write(lambda place, own=own: _fill(place, attacker, target, own, reason))  # type: ignore[misc]
        done += len(batch.prompts)
        if progress is not None:
            progress(done, count)


def _part(progress: Progress | None, before: int, size: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(before + min(size, size * done // max(total, 1)), count)


def _prepared(attacker: Attack, target: Target, progress: Progress | None) -> tuple[Context, str | None]:
    """A context with what all prompts share, or the reason why the attack cannot be made here."""
    from zbench.attacks.context import Context

    model = target.model.model  # missing weights show here, where they are not the attack's fault
    context = Context(
        model, target.edit(), target.concept, target.prompts, attacker.attack_seed, progress=progress
    )
    with _watched(attacker, target, context, "prepare"), own_errors(attacker.name):
        reason = attacker.supports(context)
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            raise AttackError(
                f"{attacker.name}.supports returned {reason!r}: it must be None or a reason in one sentence."
            )
        # No prompts: what it makes of them would be lost when an interrupted attack goes on.
        shared = None if reason else attacker.prepare(context.on(()))
    return replace(context, shared=shared), reason


def _fill(place: Path, attacker: Attack, target: Target, context: Context, reason: str | None) -> None:
    writer = CandidateWriter(place, target.flagged)
    if reason is None:
        with _watched(attacker, target, context, context.prompts[0].id):
            for arm, verb in _arms(attacker):
                for offered in _offers(attacker, verb, context):
                    take(writer, offered, arm, attacker, context)
    writer.finish(attacker, context.prompts, reason)


def _arms(attacker: Attack) -> tuple[tuple[Arm, Callable[[Context], Iterator[Candidate]]], ...]:
    return ("attack", attacker.attack), ("control", attacker.control)


# A stranger's code ----------------------------------------------------------------------------------------


@contextmanager
def _watched(attacker: Attack, target: Target, context: Context, purpose: str) -> Iterator[None]:
    """Lets an attack work, and verifies that it left everything as it was and read nothing that measures it.

    Raises:
        ModelChangedError: It left the model changed.
        AttackError: It changed the erasure, or asked for evaluation prompts or an instrument that judges it.
    """
    from zbench.stages.integrity import checksum
    from zbench.stages.watching import forbidden, watching

    before = {name: checksum(tensor) for name, tensor in tensors_of(context.erasure)}
    with _sampled(target), model_kept(target.model, attacker.name), _seeded(context.seed("process", purpose)):
        with watching() as watch:
            yield
        asked = forbidden(watch, attacker.prompt_sets)
        if asked:
            raise AttackError(
                f"{attacker.name} asked for {asked[0]}: an attack sees no prompts but those under attack, and"
                " never what judges it."
            )
    if before != {name: checksum(tensor) for name, tensor in tensors_of(context.erasure)}:
        raise AttackError(f"{attacker.name} changed the erasure under attack: work on a copy of its edit.")


@contextmanager
def _sampled(target: Target) -> Iterator[None]:
    """The model with as many denoising steps as the pictures are drawn with."""
    model = target.model.model
    spec = model.spec
    model.spec = spec.model_copy(update={"steps": target.identity["steps"]})
    try:
        yield
    finally:
        model.spec = spec


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random states of the process that depend on nothing that ran before; put back afterwards."""
    import numpy as np
    import torch

    with settings_kept():
        # An attack should use its context's generators; one that does not is reproducible all the same.
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        yield


def _offers(attacker: Attack, verb: Callable[[Context], Any], context: Context) -> Iterator[Any]:
    """What an attack yields; its generator is closed in any case, so that its own blocks are left."""
    with own_errors(attacker.name):
        offers = verb(context)
        if not hasattr(offers, "__iter__"):
            raise AttackError(f"{attacker.name} returned {type(offers).__name__}: it must yield candidates.")
        iterator = iter(offers)
    try:
        while True:
            with own_errors(attacker.name):
                offered = next(iterator, _END)
            if offered is _END:
                return
            yield offered
    finally:
        if hasattr(iterator, "close"):
            iterator.close()
