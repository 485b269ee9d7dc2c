"""Facts that a published result states about itself: model, concept, method, code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, cast

from zbench.concepts import DOMAINS, load_concept
from zbench.config import ORIGINAL
from zbench.docstrings import field_notes
from zbench.errors import ConfigurationError, ZbenchError
from zbench.exchange.names import is_import
from zbench.model.spec import load_spec, model_names
from zbench.prompts import load_prompt_set, prompt_set_names
from zbench.registry import METHODS, OWN_PACKAGE, load_method, package_of
from zbench.results.schema import ConceptFacts, MethodFacts, ModelFacts, PromptFacts, Release
from zbench.stages.inputs import ModelHandle

if TYPE_CHECKING:
    from zbench.method import Method
    from zbench.model.spec import ModelSpec
    from zbench.runner.specs import CellResult, CellSpec

Domain = Literal["world", "photograph"]

_SHOWN_DIGITS = 12


def model_facts(result: CellResult) -> ModelFacts:
    """The model, as the result's provenance and the catalogue know it.

    Raises:
        ConfigurationError: Nobody knows any more what its pictures show.
    """
    stored = result.provenance["model"]
    known, weights = _known_model(result.spec), str(stored["weights"])
    return ModelFacts(
        name=stored["name"],
        label=_label(stored["name"], weights, known),
        domain=cast(Domain, known.domain if known else _domain_of_prompts(result)),
        weights=weights,
        dtype=stored["dtype"],
        height=stored["height"],
        width=stored["width"],
        steps=result.spec.steps,
        guidance_scale=stored["guidance_scale"],
    )


def _known_model(spec: CellSpec) -> ModelSpec | None:
    """What is known of it here; a folder may lie on another machine."""
    try:
        return load_spec(spec.model)
    except ZbenchError:
        return None


def _label(name: str, weights: str, known: ModelSpec | None) -> str:
    """The name with what tells its revisions apart: of the Hub, the commit that was really used."""
    if weights.startswith("hub:"):
        return f"{name} (revision {weights.rpartition('@')[2][:_SHOWN_DIGITS]})"
    if known is not None and _local_weights(known.name) == weights:
        return known.label
    return f"{name} (weights {weights.removeprefix('sha256:')[:_SHOWN_DIGITS]})"


@cache
def _local_weights(name: str) -> str | None:
    """The weights of a model of the catalogue as they are here; None where it has no files here."""
    spec = load_spec(name) if name in model_names() else None
    if spec is None or spec.source.startswith("hub:"):
        return None
    return str(ModelHandle(name).identity["weights"])


def _domain_of_prompts(result: CellResult) -> str:
    """The domain whose shipped prompts the cell was measured on."""
    for domain in DOMAINS:
        if any(_is_shipped(sheet, domain) for sheet in result.provenance["prompts"].values()):
            return domain
    raise ConfigurationError(
        f"the model {result.spec.model} is not here, and nothing else says what its pictures show: collect"
        " where its folder is"
    )


def _is_shipped(sheet: Mapping[str, Any], domain: str) -> bool:
    if sheet["set"] not in prompt_set_names(domain):
        return False
    return load_prompt_set(sheet["set"], domain).head(sheet["size"]).sha256 == str(sheet["sha256"])


def concept_facts(result: CellResult, domain: str) -> ConceptFacts:
    """The concept.

    Raises:
        UnknownNameError: The catalogue has it no more.
    """
    concept = load_concept(result.spec.concept, domain)
    return ConceptFacts(name=concept.name, family=concept.family, members=concept.members)


def method_facts(result: CellResult) -> MethodFacts:
    """The method with its card; without where it is not installed here."""
    spec = result.spec
    if spec.method == ORIGINAL:
        return MethodFacts(name=ORIGINAL)
    method = _method(spec)
    known = method is not None and not is_import(spec.method)
    notes = field_notes(method) if known and method else {}
    return MethodFacts(
        name=spec.method,
        card=method.card if known and method else None,
        fields={name: notes.get(name, "") for name in method.model_fields} if known and method else {},
        source=_source(result),
    )


def _method(spec: CellSpec) -> type[Method] | None:
    plugins = () if spec.plugin is None else (spec.plugin,)
    try:
        return load_method(spec.method, plugins)
    except ZbenchError:
        return None


def _source(result: CellResult) -> str:
    """Where the method came from: what decides which code made the weights."""
    spec = result.spec
    if spec.plugin is not None:
        return f"{spec.plugin.path.name} sha256:{spec.plugin.sha256}"
    if is_import(spec.method):
        return f"made elsewhere, sha256:{spec.hyperparameters.get('sha256', 'unknown')}"
    package = package_of(METHODS, spec.method) or OWN_PACKAGE
    if package == OWN_PACKAGE:
        return f"{OWN_PACKAGE} {result.provenance['zbench']}"
    return f"{package} {metadata.version(package)}"


def release_of(provenance: Mapping[str, Any]) -> Release:
    """The code, as a result's provenance names it."""
    checkout, release = provenance.get("checkout") or {}, provenance.get("release") or {}
    return Release(
        version=provenance["zbench"],
        commit=checkout.get("commit"),
        wheel_sha256=release.get("record_sha256"),
    )


def prompt_facts(provenance: Mapping[str, Any]) -> dict[str, PromptFacts]:
    """Role -> prompt set."""
    return {
        role: PromptFacts(set=sheet["set"], sha256=sheet["sha256"], prompts=sheet["size"])
        for role, sheet in provenance["prompts"].items()
    }


# What a repository may hold ---------------------------------------------------------------------------------


def portable_spec(spec: CellSpec) -> CellSpec:
    """A spec without the folders of one machine; hashes in the result say what lay there."""
    published = spec.published()
    folders = ("references", "prompts_dir", "imported")
    places = {name: _name_alone(getattr(published, name)) for name in folders}
    plugin = published.plugin
    code = plugin and plugin.model_copy(update={"path": Path(plugin.path.name)})
    settings = {name: _portable(value) for name, value in published.hyperparameters.items()}
    model = PurePath(published.model.replace("\\", "/")).name
    more = {"plugin": code, "model": model, "hyperparameters": settings}
    return published.model_copy(update={**places, **more})


def _name_alone(path: Path | None) -> Path | None:
    return None if path is None else Path(path.name)


def _portable(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
