"""What the checks of several methods share: the model, the instruments, and the original's pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.protocols import UNRELATED, load_protocol
from zbench.stages.generate import planned_samples
from zbench.stages.inputs import ModelHandle

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.protocols import DomainProtocol
    from zbench.stages.integrity import ModelState
    from zbench.stages.samples import Sample, SamplesView
    from zbench.stages.scorer import Scorer

PROTOCOL = "tuning"
"""Nothing that is reported is looked at here."""

EXPLICIT, OTHERS = 20, 30
"""Prompts that name the concept, and unrelated ones, of which pictures are drawn."""

Progress = Callable[[int, int], None]


class Bench:
    """A model that is as it was delivered, and what its pictures are judged with.

    Args:
        model: Catalogue name or folder.
        device: Torch device, None for the automatic choice.
        explicit: Prompts that name the concept.
        others: Unrelated prompts.
        batch_size: Pictures drawn at once.
    """

    def __init__(
        self,
        model: str | Path = "miniature",
        device: str | None = None,
        explicit: int = EXPLICIT,
        others: int = OTHERS,
        batch_size: int = 16,
    ) -> None:
        self.handle = ModelHandle(str(model), device)
        self.limits = {"explicit": explicit, UNRELATED: others}
        self.batch_size = batch_size
        self._scorers: dict[str, Scorer] = {}
        self._original: dict[str, SamplesView] = {}

    @cached_property
    def state(self) -> ModelState:
        """The state of the model as it was delivered."""
        from zbench.stages.integrity import ModelState

        return ModelState.of(self.handle.model)

    def model(self) -> Any:
        """The model, loaded again where it is no longer what it was delivered as."""
        if self.handle.is_loaded and self.state.changes(self.handle.model):
            self.renew()
        _ = self.state
        return self.handle.model

    def renew(self) -> None:
        """Forgets the model: it was changed."""
        self.handle.drop()
        vars(self).pop("state", None)

    # Pictures ---------------------------------------------------------------------------------------------

    def table(self, concept: Concept) -> DomainProtocol:
        """What is measured, by the tuning protocol.

        Raises:
            ConfigurationError: The protocol does not cover models of this kind.
        """
        return load_protocol(PROTOCOL).table(self.handle.spec.domain, concept.name, concept.family)

    def scorer(self, concept: Concept) -> Scorer:
        """Detectors and CLIP."""
        from zbench.stages.scorer import load_scorer

        if concept.name not in self._scorers:
            self._scorers[concept.name] = load_scorer(
                self.table(concept), concept.name, members=concept.members, device=self.handle.device
            )
        return self._scorers[concept.name]

    def samples(self, concept: Concept) -> tuple[Sample, ...]:
        """What is drawn.

        Raises:
            UnknownNameError: The concept has no tuning prompts for models of this kind.
        """
        from zbench.runner.roles import prompt_sets_of

        sets = prompt_sets_of(self.table(concept), concept, self.handle.spec.domain)
        rows = {role: sets[role].head(limit) for role, limit in self.limits.items()}
        return tuple(each for role, prompts in rows.items() for each in planned_samples(prompts, role, 1))

    def original(self, concept: Concept, progress: Progress | None = None) -> SamplesView:
        """The unerased model's pictures, drawn once."""
        if concept.name not in self._original:
            self._original[concept.name] = self._view(concept, progress)
        return self._original[concept.name]

    def pictures(self, edit: Edit, concept: Concept, progress: Progress | None = None) -> SamplesView:
        """Pictures with an edit attached."""
        with self.model().edited(edit):
            return self._view(concept, progress, self.handle.model)

    def _view(self, concept: Concept, progress: Progress | None, model: Any = None) -> SamplesView:
        from zbench.stages.samples import SamplesView
        from zbench.store import sha256_bytes

        samples = self.samples(concept)
        drawn: Tensor = (model or self.model()).generate(
            [each.prompt for each in samples],
            [each.seed for each in samples],
            batch_size=self.batch_size,
            progress=progress,
        )
        hashes = [sha256_bytes(picture.numpy().tobytes()) for picture in drawn]
        named = (each.model_copy(update={"sha256": of}) for each, of in zip(samples, hashes, strict=True))
        return SamplesView(tuple(named), drawn)

    def score(self, concept: Concept, own: SamplesView) -> dict[str, Any]:
        """Figures and verdict of some pictures, beside those of the original's own."""
        from zbench.stages.score import score

        original, scorer = self.original(concept), self.scorer(concept)
        record, frozen = score(own, original, scorer), score(original, original, scorer)
        return {
            "verdict": record["verdict"],
            "own": {figure["name"]: figure for figure in record["figures"]},
            "original": {figure["name"]: figure for figure in frozen["figures"]},
        }
