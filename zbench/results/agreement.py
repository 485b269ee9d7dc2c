"""Whether what a result says twice is said alike: its file stands where its facts say, and its cell did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.results.schema import PublishedResult


def disagreements(result: PublishedResult) -> Iterator[str]:
    """What a result says in one place and otherwise in another, each in one line."""
    for what, said, otherwise in _said_twice(result):
        if said != otherwise:
            yield f"{what} is {_shown(said)} in one place and {_shown(otherwise)} in another"


def _said_twice(result: PublishedResult) -> Iterator[tuple[str, Any, Any]]:
    spec, facts = result.result.spec, result.result.provenance
    yield "the method", result.method.name, spec.method
    yield "the concept", result.concept.name, spec.concept
    yield "the model", PurePath(result.model.name).name, PurePath(spec.model).name
    yield "the number of steps", result.model.steps, spec.steps
    yield "the protocol", result.protocol.rpartition(" ")[0], spec.protocol
    yield from _of_model(result, _part(facts, "model"))
    checkout, installed = _part(facts, "checkout"), _part(facts, "release")
    yield "the version of zbench", result.release.version, facts.get("zbench")
    yield "the commit", result.release.commit, checkout.get("commit")
    yield "the hash of the release", result.release.wheel_sha256, installed.get("record_sha256")
    yield "what attacked it", _attacks(result), sorted(record.label for record in result.result.attacks)


def _of_model(result: PublishedResult, stored: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in ("name", "weights", "dtype", "guidance_scale", "height", "width"):
        yield f"the model's {name}", getattr(result.model, name), stored.get(name)


def _attacks(result: PublishedResult) -> list[str]:
    return sorted(each.label for each in result.result.spec.attacks)


def _part(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return facts.get(name) or {}


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
