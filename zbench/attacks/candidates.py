"""What an attack offers: prompts, embeddings, or changed models, with what each has cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.edits import Edit

Arm = Literal["attack", "control"]
Tried = Literal["attack", "control", "retry"]
"""The two arms that an attack offers, and the prompt itself with fresh noise, beside every attack."""
Kind = Literal["text", "embedding", "edit", "failed"]


class Spent(BaseModel):
    """What an attack has spent on one prompt up to a candidate; a batch's work is shared out evenly.

    Attributes:
        seconds: Wall time.
        forwards: Samples that the transformer evaluated: a batch counts as many as it holds.
        backwards: Samples of backward passes through it.
        encodings: Texts (or rows of token embeddings) that went through the text encoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0
    encodings: float = 0.0


NOTHING = Spent()


@dataclass(frozen=True)
class Candidate:
    """One thing to try.

    Attributes:
        prompt_id: The attacked prompt; None where the payload is a changed model, tried on every prompt.
        payload: A prompt's text; embeddings [L, D] that the transformer is given in the place of the
            prompt's, past every edit on the conditioning seam; or the edit that stands in the place of the
            erasure's own, usually composed with it.
        label: What is special about it, such as ``strength 2`` or ``step 40``.
        spent: What it has cost for this prompt so far.
        failure: Why there is no payload, in one line; such a prompt counts as not broken.
    """

    prompt_id: str | None
    payload: str | Tensor | Edit | None
    label: str = ""
    spent: Spent = NOTHING
    failure: str = ""

    @classmethod
    def failed(cls, prompt_id: str | None, why: str, spent: Spent | None = None) -> Candidate:
        """A prompt whose attack came to nothing, such as a loss that is not a number."""
        return cls(prompt_id, None, "failed", spent or NOTHING, why)

    @property
    def kind(self) -> Kind:
        """What the payload is."""
        if self.payload is None:
            return "failed"
        if isinstance(self.payload, str):
            return "text"
        return "embedding" if hasattr(self.payload, "shape") else "edit"
