"""Several concepts at once: separately trained updates added up, against one joint training.

The Z-Erase paper (arXiv 2603.25074) erases several concepts by dtheta = sum_i w_i dtheta_i with w_i = 1 / N,
and remarks that a sum of weights above 1 erases too much. dtheta_i is the product B_i A_i: averaging the
factors A and B instead is something else (see `zbench.edits.combining`). The joint trainings see the prompts
of all members, once with as many steps as one member had, once with as many as all members together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.concepts import Concept, concept_names, load_concept
from zbench.errors import ConfigurationError, TrainingDivergedError
from zbench.studies import Progress, make_folder, write_study
from zbench.studies.multi_concept_page import comparisons, render_page
from zbench.studies.reading import Notebook, Reader, tuning_samples

if TYPE_CHECKING:
    from zbench.edits import LoraEdit
    from zbench.method import LoraMethod
    from zbench.stages.inputs import ModelHandle

VERSION = 2
"""Raised when the same trainings would be added up or read otherwise."""

MEMBERS: dict[str, tuple[str, ...]] = {
    "world": ("mira-solen", "tobin-vask", "odile-fenn", "rurik-dane"),
    "photograph": ("dali", "monet", "munch", "roerich"),
}
"""Per domain of models, what is erased together."""

Names = Sequence[str] | str | None


@dataclass(frozen=True)
class Arm:
    """One way of erasing.

    Attributes:
        method: Name of the method.
        label: As the tables print it.
        kind: ``single``, ``added`` or ``joint``.
        weight: Of every member's update, where they are added.
        parts: (concept, steps) of the trainings that it is made of.
    """

    method: str
    label: str
    kind: str
    weight: float
    parts: tuple[tuple[Concept, int], ...]


def multi_concept_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    members: Names = None,
    kept: Names = None,
    methods: Names = ("zerase", "ac"),
    weights: Sequence[float] = (1.0,),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    protocol: str = "zbench",
    explicit: int = 10,
    unrelated: int = 30,
    calibration: int = 60,
    drawn_at_once: int = 16,
    work: str | None = None,
) -> dict[str, Any]:
    """Erases some concepts one by one and together, and measures each member and what should stay.

    Trainings and readings that were finished before are found again. A training that diverges is written down
    and leaves what is made of it without figures; the study goes on.

    Args:
        out: Folder of the results: `study.json`, `study.md`.
        model: Catalogue name or folder.
        progress: Told about finished ways of erasing.
        members: Concepts of one family, names or one text with commas; four that suit the domain when None.
        kept: Other concepts of the family, which must stay; two of them when None.
        methods: Methods that train low-rank adapters.
        weights: Weights of the members' updates, beside 1 / N.
        settings: Method -> fields over its preset.
        protocol: Whose detectors, thresholds and CLIP; prompts are always those of the tuning split.
        explicit: Prompts of each member and of each kept concept.
        unrelated: Unrelated prompts.
        calibration: Unrelated prompts whose pictures calibrate the collapse flags.
        drawn_at_once: Pictures per batch.
        work: Folder of trainings and readings; `work` under `out` when None.

    Returns:
        What `study.json` holds.

    Raises:
        UnknownNameError: A name is unknown.
        ConfigurationError: Members of several families, fewer than two, or a method without adapters.
        StoreError: A folder cannot be used.
    """
    from zbench.protocols import load_protocol
    from zbench.stages.inputs import ModelHandle

    handle = ModelHandle(model)
    domain = handle.spec.domain
    chosen = _concepts(_names(members) or list(MEMBERS[domain]), domain)
    others = _names(kept) or _others(chosen, domain)
    table = load_protocol(protocol).table(domain, chosen[0].name, chosen[0].family)
    asked = {
        name: tuning_samples(f"{name}-explicit", domain, explicit) for name in (*_called(chosen), *others)
    }
    plain = tuning_samples("unrelated", domain, None)
    reader = Reader(handle, table, asked, plain[:unrelated], plain[:calibration], batch_size=drawn_at_once)
    make_folder(out)
    folder = Path(work) if work else out / "work"
    make_folder(folder / "readings")
    trainer = _Trainer(handle, folder, settings or {})
    arms = [arm for name in _names(methods) or [] for arm in trainer.arms(name, chosen, weights)]
    notebook, rows = Notebook(folder / "readings"), []
    original = _read(notebook, reader, None, trainer)
    for done, arm in enumerate(arms, start=1):
        about = {"method": arm.method, "label": arm.label, "kind": arm.kind, "weight": arm.weight}
        rows.append({**about, **_read(notebook, reader, arm, trainer)})
        if progress is not None:
            progress(done, len(arms))
    record = {
        "config": {
            "model": handle.spec.label,
            "identity": handle.identity,
            "protocol": protocol,
            "members": _called(chosen),
            "kept": list(others),
            "explicit": explicit,
            "unrelated": len(reader.unrelated),
            "detectors": [[d.name, d.file_sha256, d.threshold] for d in reader.detectors],
            "hyperparameters": trainer.described,
        },
        "original": original,
        "arms": rows,
    }
    record["comparisons"] = comparisons(record)
    write_study(out, "multi_concept", record, render_page(record), model=handle)
    return record


class _Trainer:
    """Trains members and their joint concept, and puts the edits of an arm together."""

    def __init__(self, handle: ModelHandle, folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
        from zbench.store import Store

        self.handle, self.settings = handle, settings
        self.store = Store.open(folder / "erasures")
        self.described: dict[str, dict[str, Any]] = {}
        self._diverged: dict[Path, str] = {}

    def arms(self, name: str, members: Sequence[Concept], weights: Sequence[float]) -> Iterator[Arm]:
        """All ways of erasing the members with one method."""
        steps = self._method(name).steps
        self.described[name] = self._method(name).model_dump(mode="json")
        parts = tuple((member, steps) for member in members)
        for part in parts:
            yield Arm(name, f"{part[0].name} alone", "single", 1.0, (part,))
        for weight in dict.fromkeys((1 / len(members), *map(float, weights))):
            yield Arm(name, f"added up, weight {weight:g}", "added", weight, parts)
        whole = joined(members, self.handle.spec.domain)
        for count in dict.fromkeys((steps, len(members) * steps)):
            yield Arm(name, f"joint training, {count} steps", "joint", 1.0, ((whole, count),))

    def _method(self, name: str, steps: int | None = None) -> LoraMethod:
        from zbench.method import LoraMethod
        from zbench.registry import load_method
        from zbench.runner.planning import choose_preset

        kind = load_method(name)
        if not issubclass(kind, LoraMethod):
            raise ConfigurationError(f"{name} trains no low-rank adapters: nothing of it can be added up.")
        spec = self.handle.spec
        values = dict(kind.presets.get(choose_preset(kind, None, spec) or "", {}))
        values |= {**self.settings.get(name, {}), **({} if steps is None else {"steps": steps})}
        return kind.of(values)

    def config(self, arm: Arm | None) -> list[Any]:
        """What an arm's edit depends on, beside the model."""
        if arm is None:
            return ["original"]
        trained = [
            [concept.model_dump(mode="json"), self._method(arm.method, steps).identity()]
            for concept, steps in arm.parts
        ]
        return [arm.weight, trained]

    def edit(self, arm: Arm) -> tuple[LoraEdit, float]:
        """The edit of an arm, and the seconds that its trainings took.

        Raises:
            TrainingDivergedError: One of its trainings diverged.
        """
        from zbench.edits import LoraEdit

        erasures = [self._erasure(arm.method, concept, steps) for concept, steps in arm.parts]
        edits = [erasure.edit for erasure in erasures if isinstance(erasure.edit, LoraEdit)]
        if len(edits) < len(erasures):
            raise ConfigurationError(f"{arm.method} gives more than one LoRA: it cannot be added up.")
        seconds = sum(erasure.cost.seconds for erasure in erasures)
        return LoraEdit.combined(edits, [arm.weight] * len(edits)), seconds

    def _erasure(self, name: str, concept: Concept, steps: int) -> Any:
        from zbench.erasure import Erasure
        from zbench.stages.erase import erase, erase_folder

        method = self._method(name, steps)
        with self.store.lock():
            folder = erase_folder(self.store, method, concept, self.handle)
            if folder.path in self._diverged:  # a member that diverged is part of several arms
                raise TrainingDivergedError(self._diverged[folder.path])
            try:
                if not folder.is_complete():
                    erase(folder, method, concept, self.handle)
            except TrainingDivergedError as error:
                self._diverged[folder.path] = f"{concept.name}, {steps} steps: {error}"
                raise TrainingDivergedError(self._diverged[folder.path]) from error
        return Erasure.load(folder.path)


def joined(members: Sequence[Concept], domain: str) -> Concept:
    """All members as one concept: the catalogue's composite of exactly these, or one made of their prompts.

    Args:
        members: Concepts of one family.
        domain: Of the catalogue.
    """
    for name in concept_names(domain):
        known = load_concept(name, domain)
        if known.members == tuple(_called(members)):
            return known
    every: dict[str, tuple[str, ...]] = {
        key: tuple(text for member in members for text in getattr(member, key))
        for key in ("phrases", "training_prompts", "anchor_prompts", "preserve_prompts")
    }
    every["preserve_prompts"] = tuple(dict.fromkeys(every["preserve_prompts"]))
    return Concept(
        name="-and-".join(_called(members)),
        family=members[0].family,
        anchor=members[0].anchor,
        members=tuple(_called(members)),
        **every,
    )


def _read(notebook: Notebook, reader: Reader, arm: Arm | None, trainer: _Trainer) -> dict[str, Any]:
    config = {"version": VERSION, "reader": reader.identity(), "arm": trainer.config(arm)}
    found = notebook.find("reading", config)
    if found is None:
        found = notebook.keep("reading", config, _figures(reader, arm, trainer))
    return found


def _figures(reader: Reader, arm: Arm | None, trainer: _Trainer) -> dict[str, Any]:
    try:
        edit, seconds = (None, 0.0) if arm is None else trainer.edit(arm)
    except TrainingDivergedError as error:
        return {"seconds": 0.0, "reading": None, "diverged": str(error)}
    return {"seconds": round(seconds, 1), "reading": reader.read(edit).record, "diverged": None}


def _concepts(names: Sequence[str], domain: str) -> list[Concept]:
    concepts = [load_concept(name, domain) for name in names]
    if len(set(names)) < 2 or len({concept.family for concept in concepts}) > 1:
        raise ConfigurationError(
            f"Give two or more different concepts of one family, not {', '.join(names)}."
        )
    return concepts


def _others(members: Sequence[Concept], domain: str) -> list[str]:
    """The first two single concepts of the family that are no members."""
    every = (load_concept(name, domain) for name in concept_names(domain))
    taken = {member.name for member in members}
    family = members[0].family
    return [c.name for c in every if c.family == family and not c.members and c.name not in taken][:2]


def _called(concepts: Sequence[Concept]) -> list[str]:
    return [concept.name for concept in concepts]


def _names(given: Names) -> list[str]:
    listed = given.split(",") if isinstance(given, str) else list(given or ())
    return [name.strip() for name in listed if name.strip()]
