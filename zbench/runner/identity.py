"""What names a cell and its stages: everything that can change its figures.

Cells of a grid share most of it (model, concept, prompts, instruments), so what is shared is read, hashed and
serialised once: ten thousand cells are named in a second or two.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.concepts import load_concept
from zbench.errors import MethodError, UnknownNameError
from zbench.protocols import load_protocol
from zbench.registry import load_method
from zbench.runner.attacks import attacks_identity, is_flagged
from zbench.runner.roles import prompt_sets_of, prompts_left_out
from zbench.runner.specs import BY_CONTENT, EXCLUDED
from zbench.stages.draw_candidates import ROLE
from zbench.stages.generate import generate_folder, planned_samples
from zbench.store import StageFolder, canonical_json, identity_of, safe_name

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.method import Method
    from zbench.prompts import PromptSet
    from zbench.protocols import DomainProtocol, Protocol
    from zbench.runner.specs import AttackSpec, CellSpec
    from zbench.stages.inputs import ModelHandle
    from zbench.stages.samples import Sample
    from zbench.store import Store

CELLS = "cells"
"""Name of the folder of a run folder where cells lie."""

_NOT_AS_WRITTEN = set(EXCLUDED | BY_CONTENT)


@dataclass
class CellInputs:
    """What a cell starts from, and shares with the cells that differ from it only in method and settings.

    Attributes:
        spec: Any one of these cells; read are only the fields that they share.
        model: The model, not loaded yet where nobody needed it.
        concept: The concept.
        protocol: The protocol.
        table: Its table for the model's domain and the concept.
    """

    spec: CellSpec
    model: ModelHandle
    concept: Concept
    protocol: Protocol
    table: DomainProtocol

    @classmethod
    def of(cls, spec: CellSpec, model: ModelHandle) -> CellInputs:
        """Finds concept and protocol by name.

        Raises:
            UnknownNameError: There is no such concept or protocol; close matches are named.
            ConfigurationError: The protocol does not cover the model's domain.
        """
        domain = model.spec.domain
        concept, protocol = load_concept(spec.concept, domain), load_protocol(spec.protocol)
        return cls(spec, model, concept, protocol, protocol.table(domain, concept.name, concept.family))

    @property
    def flagged(self) -> bool:
        """Whether texts of attacks are kept apart, unshown."""
        return is_flagged(self.concept, self.model.spec)

    @cached_property
    def prompt_sets(self) -> dict[str, PromptSet]:
        """Role -> prompts, as many as the spec wants.

        Raises:
            UnknownNameError: A set that every concept needs does not exist.
            ConfigurationError: A set cannot be fetched, or is of another split than the protocol's.
        """
        domain = self.model.spec.domain
        return prompt_sets_of(self.table, self.concept, domain, self.spec.prompts, self.spec.prompts_dir)

    @cached_property
    def left_out(self) -> set[tuple[str, str]]:
        """(set, id) of prompts that are drawn for other concepts and not scored for this one."""
        return prompts_left_out(self.prompt_sets, self.concept)

    @cached_property
    def instruments(self) -> dict[str, Any]:
        """Identity of detectors, CLIP and references.

        Raises:
            ZbenchError: One of them is missing.
        """
        from zbench.stages.scorer import instruments_config

        return instruments_config(self.table, self.concept.name, self.spec.references)

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """Role -> what is drawn."""
        repetitions = self.spec.repetitions
        return {role: planned_samples(of, role, repetitions) for role, of in self.prompt_sets.items()}

    def pictures(self, store: Store, erasure: StageFolder | None, role: str) -> StageFolder:
        """Where the pictures of a role lie, drawn or not.

        Args:
            store: The run folder.
            erasure: A complete erasure, None for the unerased model.
            role: Role of the prompts.
        """
        return generate_folder(store, erasure, self.model, self.samples[role], self.spec.steps)

    def scores(
        self, store: Store, own: Sequence[StageFolder], original: Sequence[StageFolder]
    ) -> StageFolder:
        """Where the scores lie, measured or not.

        Args:
            store: The run folder.
            own: Complete pictures of every role.
            original: Those of the unerased model.
        """
        config = {
            "stage": "score",
            "samples": [manifest_hash(folder) for folder in own],
            "left_out": sorted(self.left_out),
            "members": list(self.concept.members),
            "original": [manifest_hash(folder) for folder in original],
            "instruments": self.instruments,
        }
        return store.stage("scores", config, prefix=f"scores-{self.concept.name}")

    @property
    def attacked_prompts(self) -> PromptSet:
        """The explicit prompts that are attacked."""
        return self.prompt_sets[ROLE].head(self.spec.attack_prompts)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The part of a cell's configuration that it shares."""
        return {
            "stage": "cell",
            "concept": self.concept.model_dump(mode="json"),
            "model": self.model.identity,
            "prompts": {role: prompts.sha256 for role, prompts in self.prompt_sets.items()},
            "protocol": {"version": self.protocol.version, **self.table.model_dump(mode="json")},
            "instruments": self.instruments,
            **(self._attacks_config() if self.spec.attacks else {}),
        }

    def _attacks_config(self) -> dict[str, Any]:
        return {
            "attacks": attacks_identity(self.spec.attacks, self.flagged),
            "attacked": self.attacked_prompts.sha256,
        }

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """`config`, each value as canonical JSON."""
        return {name: canonical_json(value) for name, value in self.config.items()}


def method_of(spec: CellSpec) -> Method | None:
    """A cell's method with its hyper-parameters; None for the unerased model.

    Raises:
        MethodError: It was there when the run was planned, and is there no more: this cell's trouble alone.
        ConfigurationError: It cannot be imported, or does not take these hyper-parameters any more.
    """
    if spec.is_original:
        return None
    try:
        return load_method(spec.method, [spec.plugin] if spec.plugin else []).of(spec.method_fields)
    except UnknownNameError as error:
        raise MethodError(f"{spec.method} is not what it was when this was planned: {error}") from error


def manifest_hash(folder: StageFolder) -> str:
    """Hash of a samples folder's manifest, which holds the hash of every picture."""
    return str(folder.done()["files"]["manifest.json"])


class Identities:
    """Names cells; see the module.

    Attributes:
        model: Gives the model of a cell, such as `Workshop.model`; equal cells get the same one.
    """

    def __init__(self, model: Callable[[CellSpec], ModelHandle]) -> None:
        self.model = model
        self._known: dict[Hashable, list[tuple[tuple[AttackSpec, ...], CellInputs]]] = {}

    def inputs(self, spec: CellSpec) -> CellInputs:
        """What the cell starts from; see `CellInputs.of` for what may be raised."""
        sharing = self._known.setdefault(_shared_fields(spec), [])
        # Cells of one plan hold the very same attacks, which compares at once.
        for attacks, known in sharing:
            if attacks == spec.attacks:
                return known
        inputs = CellInputs.of(spec, self.model(spec))
        sharing.append((spec.attacks, inputs))
        return inputs

    def name(self, spec: CellSpec) -> str:
        """The cell's id, which is the name of its folder.

        Raises:
            ZbenchError: Something that the cell starts from is missing.
        """
        inputs = self.inputs(spec)
        texts = {name: canonical_json(value) for name, value in _own_config(spec).items()}
        prefix = safe_name(f"{spec.label}-{inputs.concept.name}")
        return identity_of(prefix, {**inputs.texts, **texts})

    def folder(self, spec: CellSpec, store: Store) -> StageFolder:
        """The cell's own folder, named by everything that can change its figures.

        Args:
            spec: The cell.
            store: The run folder.

        Raises:
            ZbenchError: Something that the cell starts from is missing.
        """
        name, config = self.name(spec), {**self.inputs(spec).config, **_own_config(spec)}
        return StageFolder(store.root / CELLS / name, name, config, store.notify)


def _own_config(spec: CellSpec) -> dict[str, Any]:
    """The part of a cell's configuration that it does not share."""
    plugin = {} if spec.plugin is None else {"plugin": spec.plugin.sha256}
    return {"spec": spec.model_dump(mode="json", exclude=_NOT_AS_WRITTEN), **plugin}


def _shared_fields(spec: CellSpec) -> Hashable:
    places: tuple[Path | None, ...] = (spec.references, spec.prompts_dir)
    size = (spec.height, spec.width, spec.guidance_scale)
    return (
        *(spec.concept, spec.model, spec.protocol, spec.prompts, spec.repetitions, spec.steps),
        *(*size, *places, spec.attack_prompts, spec.device),
    )
