"""What an attack offers, verified before it is written down: a stranger's candidates are drawn and judged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zbench.attacks.candidates import Arm, Candidate, Spent
from zbench.attacks.stored import EDITS_FOLDER, CandidateWriter
from zbench.errors import (
    AttackError,
    MethodError,
    MissingExtraError,
    StoreError,
    UnknownNameError,
    WeightsError,
)
from zbench.prompts.minors import mentions_minors
from zbench.stages.erase import own_errors, tensors_of

if TYPE_CHECKING:
    from zbench.attacks.base import Attack
    from zbench.attacks.context import Context

_LONGEST = 200
"""Characters of a failure's reason that are kept."""


def take(writer: CandidateWriter, offered: Any, arm: Arm, attacker: Attack, context: Context) -> None:
    """Verifies a candidate and writes it down.

    Args:
        writer: Of the batch's folder.
        offered: Whatever the attack has yielded.
        arm: By which of its verbs.
        attacker: The attack.
        context: What it was given.

    Raises:
        MethodError: The candidate's own code raised what would stop a whole run.
        StoreError: The folder cannot be written.
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
    with _saving(name):
        writer.add(candidate, arm, context.model)
    if candidate.kind == "edit":
        with own_errors(name):
            _require_saved(writer, context)


@contextmanager
def _saving(name: str) -> Iterator[None]:
    """An edit saves itself, and what it raises is its own; a full disk is a `StoreError`, and nobody's fault.

    Raises:
        MethodError: The edit raised what would stop a whole run.
    """
    try:
        yield
    except StoreError:
        raise
    except (OSError, WeightsError, MissingExtraError, UnknownNameError, SystemExit) as error:
        raise MethodError(f"What {name} offered cannot be saved: {type(error).__name__}: {error}") from error


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
