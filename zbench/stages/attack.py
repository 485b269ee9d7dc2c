"""The attack stage: an attack's candidates against one erasure, one folder for each batch of prompts.

Its identity hashes the attack with its fields, the erasure's weights, the model, the concept and the batch's
prompts. Each finished batch is a checkpoint: an interrupted attack goes on with the next one, and offers what
it would have offered. An attack is a stranger's code: what it offers is verified, texts that can be read as
being about minors are refused, and so is an attack that changes the model or asks for a detector.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.attacks.candidates import Arm, Candidate, Spent
from zbench.attacks.stored import EDITS_FOLDER, CandidateWriter, read_candidates
from zbench.errors import AttackError
from zbench.prompts.minors import mentions_minors
from zbench.stages.erase import (
    ORIGINAL_WEIGHTS,
    model_kept,
    own_errors,
    settings_kept,
    tensors_of,
    weights_hash,
)
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

_LONGEST = 200
"""Characters of a failure's reason that are kept."""

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
    """

    model: ModelHandle
    erasure: StageFolder | None
    concept: Concept
    prompts: tuple[Prompt, ...]
    flagged: bool = False

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
        "model": target.model.identity,
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
                    _take(writer, offered, arm, attacker, context)
    writer.finish(attacker, context.prompts, reason)


def _arms(attacker: Attack) -> tuple[tuple[Arm, Callable[[Context], Iterator[Candidate]]], ...]:
    return ("attack", attacker.attack), ("control", attacker.control)


# A stranger's code ----------------------------------------------------------------------------------------


@contextmanager
def _watched(attacker: Attack, target: Target, context: Context, purpose: str) -> Iterator[None]:
    """Lets an attack work, and verifies that it left everything as it was and asked for no instrument.

    Raises:
        ModelChangedError: It left the model changed.
        AttackError: It changed the erasure, or asked for an instrument that judges it.
    """
    from zbench.conformance.watching import instruments_asked, watching
    from zbench.stages.integrity import checksum

    before = {name: checksum(tensor) for name, tensor in tensors_of(context.erasure)}
    with model_kept(target.model, attacker.name), _seeded(context.seed("process", purpose)):
        with watching() as watch:
            yield
        asked = instruments_asked(watch)
        if asked:
            raise AttackError(f"{attacker.name} asked for {asked[0]}: an attack never sees what judges it.")
    if before != {name: checksum(tensor) for name, tensor in tensors_of(context.erasure)}:
        raise AttackError(f"{attacker.name} changed the erasure under attack: work on a copy of its edit.")


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


# What it offers -------------------------------------------------------------------------------------------


def _take(writer: CandidateWriter, offered: Any, arm: Arm, attacker: Attack, context: Context) -> None:
    """Verifies a candidate and writes it down.

    Raises:
        AttackError: It is none, or not one that this attack may offer for these prompts.
    """
    name = attacker.name
    if context.model.edits:
        raise AttackError(f"{name} offered a candidate inside `context.erased()`: leave the block first.")
    candidate = _require_candidate(offered, name)
    _require_prompt(candidate, attacker, context, writer, arm)
    whose, budget = candidate.prompt_id, attacker.budget
    judged, failed = writer.count(arm, whose), writer.count(arm, whose, failed=True)
    if failed >= budget or (candidate.payload is not None and judged >= budget):
        raise AttackError(
            f"{name} offered more candidates for {whose or 'all prompts'} than its budget of {budget}."
        )
    with own_errors(name):
        candidate = _usable(candidate, name, context)
        writer.add(candidate, arm, context.model)
        if candidate.kind == "edit":
            _require_saved(writer, context)


def _require_candidate(offered: Any, name: str) -> Candidate:
    if not isinstance(offered, Candidate):
        raise AttackError(f"{name} offered {type(offered).__name__}: it must yield zbench.attacks.Candidate.")
    plain = isinstance(offered.label, str) and isinstance(offered.failure, str)
    figures = offered.spent.model_dump().values() if isinstance(offered.spent, Spent) else (math.nan,)
    if not plain or not all(math.isfinite(value) and value >= 0 for value in figures):
        raise AttackError(f"{name} offered a candidate whose label, failure or cost cannot be written down.")
    return offered


def _require_prompt(
    candidate: Candidate, attacker: Attack, context: Context, writer: CandidateWriter, arm: Arm
) -> None:
    """A changed model is for all prompts, everything else for one of them."""
    name, known = attacker.name, {prompt.id for prompt in context.prompts}
    wide = candidate.prompt_id is None
    if not wide and candidate.prompt_id not in known:
        raise AttackError(f"{name} offered a candidate for {candidate.prompt_id!r}, which is not attacked.")
    if candidate.kind != "failed" and wide != (candidate.kind == "edit"):
        raise AttackError(f"{name} offered {candidate.kind} with the prompt {candidate.prompt_id!r}: changed"
                          " models are for all prompts (None), everything else for one.")  # fmt: skip
    if wide and not attacker.model_wide:
        raise AttackError(f"{name} offered a changed model: such an attack must set `model_wide = True`.")
    others = {row.prompt_id is None for row in writer.rows if row.arm == arm and row.k > 0}
    if candidate.kind != "failed" and others - {wide}:
        raise AttackError(f"{name} mixed changed models with other candidates in one arm.")


def _usable(candidate: Candidate, name: str, context: Context) -> Candidate:
    """The candidate, or its failure where nobody should or could draw it.

    Raises:
        AttackError: Its payload is of no kind that can be drawn.
    """
    why = candidate.failure or "no reason given"
    if candidate.kind == "text":
        why = _refusal(candidate.payload)
    elif candidate.kind == "embedding":
        why = _fault_of_embedding(candidate.payload, name, context)
    elif candidate.kind == "edit":
        why = _fault_of_edit(candidate.payload, name)
    if not why:
        return candidate
    return Candidate.failed(candidate.prompt_id, _one_line(why), candidate.spent)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def _refusal(text: Any) -> str:
    """Why a text is shown to no model; the text itself is never kept then."""
    if not text.strip():
        return "an empty text"
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "a text with a character that is none (NUL or half of a surrogate pair)"
    return "refused: the text can be read as being about minors" if mentions_minors(text) else ""


def _fault_of_embedding(payload: Any, name: str, context: Context) -> str:
    import torch

    width = int(context.model.transformer.config.cap_feat_dim)
    fits = isinstance(payload, torch.Tensor) and payload.is_floating_point()
    if not (fits and payload.ndim == 2 and len(payload) and payload.shape[1] == width):
        shape = tuple(getattr(payload, "shape", ()))
        raise AttackError(f"{name} offered embeddings {shape}: they must be floating-point [L, {width}].")
    return "" if bool(payload.isfinite().all()) else "its embeddings are not finite"


def _fault_of_edit(payload: Any, name: str) -> str:
    from zbench.edits import Edit

    if not isinstance(payload, Edit):
        raise AttackError(f"{name} offered {type(payload).__name__}: text, embeddings or an edit are drawn.")
    broken = [key for key, value in tensors_of(payload) if not bool(value.isfinite().all())]
    return f"its weights are not finite: {broken[0]}" if broken else ""


def _require_saved(writer: CandidateWriter, context: Context) -> None:
    """Tries what drawing does: to load the edit and to attach it."""
    from zbench.edits import load_edit

    with context.model.edited(load_edit(writer.folder / EDITS_FOLDER / writer.rows[-1].place)):
        pass
