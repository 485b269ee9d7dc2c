"""The oracle defence: whatever is encoded, the transformer is given the caption of the concept's anchor.

No text can bring anything back, since no text reaches the model; an attack by texts that exceeds its control
here would prove a leak in the harness. It is useless as an erasure (every picture shows the anchor), so it is
no method. Embeddings are handed to the transformer past the conditioning seam, and bypass it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from zbench.edits.seams import ConditioningEdit
from zbench.erasure import Erasure
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model


class OracleEdit(ConditioningEdit):
    """Every caption is the anchor's.

    Args:
        anchor: The prompt whose caption it is.
    """

    kind = "study-oracle"

    def __init__(self, anchor: str) -> None:
        super().__init__()
        self.anchor = anchor
        self._caption: Tensor | None = None

    def settings(self) -> dict[str, Any]:
        """The anchor."""
        return {"anchor": self.anchor}

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        """The anchor's caption [L, D] for every prompt."""
        assert self._caption is not None
        return [self._caption] * len(embeddings)

    def _install(self, model: Model) -> None:
        [self._caption] = model.encode([self.anchor])
        super()._install(model)

    def _remove(self, model: Model) -> None:
        super()._remove(model)
        self._caption = None

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls(str(settings["anchor"]))


class Oracle(Method):
    """Makes the oracle of a concept; for this study only, so that the stages of a run can use it."""

    name: ClassVar[str] = "oracle"
    card: ClassVar[MethodCard] = MethodCard(
        title="Oracle defence", paper="none: a probe of the attacks", arxiv="", reference_code_licence="none",
        rows="text", weights="none: every caption is the anchor's",
        needs_training=False, needs_pictures=False,
    )  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Nothing is computed."""
        return Erasure(OracleEdit(concept.anchor), self.name, concept.name, self.model_dump(mode="json"))
