"""What the cells of one process share: loaded models and instruments, and the names of cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.runner.identity import Identities
from zbench.stages.inputs import ModelHandle

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.detectors.base import Detector
    from zbench.protocols import DomainProtocol
    from zbench.runner.specs import CellSpec
    from zbench.stages.scorer import Scorer


@dataclass
class Workshop:
    """Models, instruments and identities, each by what it was made from."""

    models: dict[tuple[Any, ...], ModelHandle] = field(default_factory=dict)
    scorers: dict[tuple[Any, ...], Scorer] = field(default_factory=dict)
    detectors: dict[tuple[Any, ...], Detector] = field(default_factory=dict)

    @cached_property
    def identities(self) -> Identities:
        """Names the cells."""
        return Identities(self.model)

    def model(self, spec: CellSpec) -> ModelHandle:
        """The model of a cell, not loaded yet where nobody needed it."""
        key = (spec.model, spec.device, spec.height, spec.width, spec.guidance_scale)
        if key not in self.models:
            self.models[key] = ModelHandle(*key)
        return self.models[key]

    def scorer(self, spec: CellSpec, concept: Concept, table: DomainProtocol, cache: Path) -> Scorer:
        """The instruments of a cell."""
        from zbench.stages.scorer import load_scorer

        key = self._instruments_key(spec)
        if key not in self.scorers:
            self.scorers[key] = load_scorer(
                table, concept.name, members=concept.members,
                references=spec.references, cache=cache, device=spec.device,
            )  # fmt: skip
        return self.scorers[key]

    def detector(self, spec: CellSpec, table: DomainProtocol) -> Detector:
        """The detector that judges attacks: the scorer's own where it is loaded already."""
        from zbench.stages.scorer import first_detector

        key = self._instruments_key(spec)
        if key in self.scorers:
            return self.scorers[key].detectors[0]
        if key not in self.detectors:
            self.detectors[key] = first_detector(table, spec.device or "cpu")
        return self.detectors[key]

    def _instruments_key(self, spec: CellSpec) -> tuple[Any, ...]:
        return (spec.protocol, spec.concept, spec.references, spec.device, self.model(spec).spec.domain)
