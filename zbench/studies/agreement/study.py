"""The study itself: draw, ask, count, choose, and, once there are verdicts by eye, weigh them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from zbench.errors import ConfigurationError
from zbench.store import DONE, canonical_json, read_json
from zbench.studies import Progress, make_folder, write_study
from zbench.studies.agreement.choice import Sheet, choose_sheet
from zbench.studies.agreement.errors import ErrorRates, error_rates, error_records
from zbench.studies.agreement.evidence import LABELS, SHEET, write_evidence
from zbench.studies.agreement.labels import read_labels
from zbench.studies.agreement.page import render_page
from zbench.studies.agreement.pictures import Drawn, Source, Studio, sources_of
from zbench.studies.agreement.plan import Order, choose_concepts, divided, orders_for
from zbench.studies.agreement.questions import agreement_table, ask

if TYPE_CHECKING:
    from zbench.detectors.base import Detector
    from zbench.prompts import PromptSet
    from zbench.protocols import DomainProtocol
    from zbench.stages.inputs import ModelHandle

NAME = "agreement"
PICTURES = 1500
METHODS = ("uce", "zerase")
ERASED_FAMILIES = ("nsfw", "style", "entity")
"""Families of which one concept each is erased where the user names none."""

LEVELS = (0.1, 0.2, 0.4)

Names = Sequence[str] | str | None


def agreement_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    pictures: int = PICTURES,
    concepts: Names = None,
    methods: Names = METHODS,
    erased: Names = None,
    levels: Sequence[float] | float = LEVELS,
    run: str | None = None,
    protocol: str = "zbench",
    disagreements: Annotated[int, Field(ge=0)] = 100,
    agreements: Annotated[int, Field(ge=0)] = 100,
    seed: int = 0,
    work: str | None = None,
) -> dict[str, Any]:
    """Agreement of a protocol's first two detectors on generated pictures, and what the eye says about them.

    The first call draws and leaves blind contact sheets and an empty `labels.csv`. Fill in its verdicts and
    call again with the same options: nothing is drawn, and the page gains the detectors' errors.

    Args:
        out: Folder of the results.
        model: Catalogue name or folder.
        progress: Told about finished pictures.
        pictures: How many to draw, equally many with the original, with erased and with damaged models.
        concepts: Names, or one text with commas; two of each family when None.
        methods: Erasure methods, with the presets that suit the model.
        erased: Concepts that each method erases; the first studied one of three families when None.
        levels: Relative size of the damage (`zbench.studies.damage`).
        run: Run folder whose finished erasures are taken instead; `methods` and `erased` then mean nothing.
        protocol: Whose detectors, thresholds and prompt sets.
        disagreements: Pictures on the sheet about which the detectors differ.
        agreements: Pictures on the sheet about which they do not.
        seed: Of the damage, of the choice and of the intervals.
        work: Run folder for pictures and erasures; `work` under `out` when None.

    Returns:
        What `study.json` holds.

    Raises:
        ConfigurationError: The protocol has no two detectors that know the concepts, an option cannot be
            used, or `labels.csv` holds verdicts about other pictures.
        StoreError: A folder cannot be used.
    """
    study = _Study(model, protocol, _names(concepts), seed)
    damage = [levels] if isinstance(levels, int | float) else levels
    sources = study.sources(_names(methods) or (), _names(erased), damage, Path(run) if run else None)
    if pictures < 3 * len(sources):
        raise ConfigurationError(
            f"{len(sources)} models need at least {3 * len(sources)} pictures, not {pictures}."
        )
    options = {"pictures": pictures, "disagreements": disagreements, "agreements": agreements}
    config = study.config(sources, options)
    if not _is_current(out, config):
        _refuse_labelled(out)
        make_folder(out)
        drawn = study.draw(Path(work) if work else out / "work", sources, pictures, progress)
        answers = ask(drawn, study.detectors, study.all_concepts(sources))
        names = (study.detectors[0].name, study.detectors[1].name)
        sheet = choose_sheet(answers, names, disagreements, agreements, seed)
        write_evidence(out, drawn, answers, sheet)
        _write(out, {"config": config, "agreement": agreement_table(answers)}, sheet, None)
    return _weigh(out)


class _Study:
    """Everything that is known before a picture is drawn."""

    def __init__(self, model: str, protocol: str, concepts: Sequence[str] | None, seed: int) -> None:
        from zbench.protocols import load_protocol
        from zbench.stages.inputs import ModelHandle
        from zbench.stages.scorer import load_detectors

        self.model: ModelHandle = ModelHandle(model)
        self.seed = seed
        self.protocol = load_protocol(protocol)
        self.table: DomainProtocol = self.protocol.domain(self.model.spec.domain)
        found = load_detectors(self.table)
        if len(found) < 2:
            raise ConfigurationError(
                f"The protocol {protocol!r} has one detector for {self.model.spec.domain} pictures;"
                " agreement needs two."
            )
        self.detectors: tuple[Detector, Detector] = (found[0], found[1])
        self.known = self._known()
        self.concepts = choose_concepts(self.known, concepts)

    def _known(self) -> dict[str, str]:
        """Single concepts that both detectors know and that have explicit prompts, with their families."""
        from zbench.concepts import concept_names, load_concept
        from zbench.prompts import prompt_set_names

        domain = self.model.spec.domain
        sets = set(prompt_set_names(domain))
        names = [
            name
            for name in concept_names(domain)
            if all(detector.columns(name) for detector in self.detectors)
            and self.table.sets_for(name).get("explicit") in sets
        ]
        known = [load_concept(name, domain) for name in names]
        return {concept.name: concept.family for concept in known if not concept.members}

    def sources(
        self, methods: Sequence[str], erased: Sequence[str] | None, levels: Sequence[float], run: Path | None
    ) -> list[Source]:
        """The models to draw with, methods with the presets that suit the model."""
        from zbench.registry import load_method
        from zbench.runner.planning import choose_preset

        made = []
        for method in map(load_method, () if run else methods):
            preset = choose_preset(method, None, self.model.spec)
            made.append(method.of(method.presets.get(preset or "", {})))
        names = self._default_erased() if erased is None else tuple(choose_concepts(self.known, erased))
        return sources_of(made, names, levels, run)

    def _default_erased(self) -> tuple[str, ...]:
        """The first studied concept of each of `ERASED_FAMILIES`."""
        firsts = {family: name for name, family in reversed(self.concepts.items())}
        return tuple(firsts[family] for family in ERASED_FAMILIES if family in firsts)

    def all_concepts(self, sources: Sequence[Source]) -> dict[str, str]:
        """Studied concepts, with the erased ones that both detectors know."""
        erased = [source.concept for source in sources if source.concept in self.known]
        names = {**self.concepts, **{name: self.known[name] for name in erased if name is not None}}
        return dict(sorted(names.items(), key=lambda pair: list(self.known).index(pair[0])))

    def config(self, sources: Sequence[Source], options: dict[str, Any]) -> dict[str, Any]:
        """Everything that the pictures, the answers and the sheet depend on."""
        concepts = self.all_concepts(sources)
        sets = [*(self._explicit(concept) for concept in concepts), self._unrelated()]
        return {
            **options,
            "seed": self.seed,
            "model": {"name": self.model.spec.name, **self.model.identity},
            "protocol": self.protocol.label,
            "steps": self.steps,
            "concepts": concepts,
            "sources": [_described(source) for source in sources],
            "detectors": [
                {"name": d.name, "file_sha256": d.file_sha256, "threshold": d.threshold}
                for d in self.detectors
            ],
            "prompts": {prompts.name: prompts.sha256 for prompts in sets},
        }

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return self.table.steps or self.model.spec.steps

    def draw(
        self, work: Path, sources: Sequence[Source], pictures: int, progress: Progress | None
    ) -> list[Drawn]:
        """Draws equally many pictures with each kind of model, and with each model of a kind."""
        explicit = {concept: self._explicit(concept) for concept in self.all_concepts(sources)}
        unrelated = self._unrelated()
        orders: list[tuple[Source, Sequence[Order]]] = []
        kinds = list(dict.fromkeys(source.kind for source in sources))
        for kind, count in zip(kinds, divided(pictures, [1.0] * len(kinds)), strict=True):
            members = [source for source in sources if source.kind == kind]
            for source, number in zip(members, divided(count, [1.0] * len(members)), strict=True):
                if number:
                    orders.append((source, orders_for(number, explicit, unrelated, source.concept)))
        return Studio(work, self.model, self.steps, self.seed).draw(orders, progress)

    def _explicit(self, concept: str) -> PromptSet:
        return self._prompts(self.table.sets_for(concept)["explicit"])

    def _unrelated(self) -> PromptSet:
        return self._prompts(self.table.prompt_sets["unrelated"])

    def _prompts(self, name: str) -> PromptSet:
        from zbench.prompts import load_prompt_set

        return load_prompt_set(name, self.model.spec.domain)


def _names(value: Names) -> tuple[str, ...] | None:
    """Names from the command line or from Python."""
    if value is None:
        return None
    return tuple(name.strip() for name in (value.split(",") if isinstance(value, str) else value))


def _described(source: Source) -> dict[str, Any]:
    """What a record says about a source; a stored erasure is known by the hash of its weights."""
    record: dict[str, Any] = {
        "kind": source.kind,
        "label": source.label,
        "concept": source.concept,
        "level": source.level,
    }
    if source.method is not None:
        record["method"] = {"name": source.method.name, **source.method.model_dump(mode="json")}
    if source.folder is not None:
        files = read_json(source.folder / DONE)["files"]
        record["edit"] = {name: digest for name, digest in files.items() if name.startswith("edit/")}
    return {key: value for key, value in record.items() if value is not None}


def _is_current(out: Path, config: dict[str, Any]) -> bool:
    """Whether the folder holds the results of exactly these settings."""
    if not (out / "study.json").is_file() or not (out / SHEET).is_file():
        return False
    return canonical_json(read_json(out / "study.json").get("config")) == canonical_json(config)


def _refuse_labelled(out: Path) -> None:
    """Verdicts are hours of somebody's work: they are not put beside other pictures, let alone lost."""
    if not (out / LABELS).is_file() or not (out / SHEET).is_file():
        return
    if read_labels(out / LABELS, _read_sheet(out)):
        raise ConfigurationError(
            f"{out / LABELS} holds verdicts about pictures of other settings or weights:"
            " choose another --out, or move the folder away."
        )


def _read_sheet(out: Path) -> Sheet:
    return Sheet.model_validate(read_json(out / SHEET))


def _weigh(out: Path) -> dict[str, Any]:
    """Writes record and page again, with the verdicts that there are."""
    stored, sheet = read_json(out / "study.json"), _read_sheet(out)
    labels = read_labels(out / LABELS, sheet) if (out / LABELS).is_file() else {}
    rates = error_rates(labels, sheet, seed=stored["config"]["seed"]) if labels else None
    return _write(out, stored, sheet, rates)


def _write(out: Path, stored: dict[str, Any], sheet: Sheet, rates: ErrorRates | None) -> dict[str, Any]:
    record: dict[str, Any] = {key: stored[key] for key in ("config", "agreement")}
    record["errors"] = None if rates is None else rates.model_dump(mode="json")
    record["error_records"] = [] if rates is None else error_records(rates, record["config"])
    write_study(out, NAME, record, render_page(record, sheet, rates))
    return record
