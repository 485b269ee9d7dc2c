"""Whether two results are the same measurement, made on whatever machine and by whatever commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zbench.results.differences import FACT, differences, stated

if TYPE_CHECKING:
    from zbench.results.differences import Content
    from zbench.results.schema import PublishedResult

_OF_MACHINE = frozenset({"cost", "machine", "method", "release", "seconds", "trace"})
"""What says where, when and by which version of the code, not what came out."""

_NOT_COMPARED = {"gallery": {"sha256"}, "model": {"label"}}
"""Parts that follow from the rest, but differ between versions of the code and of libraries."""


def same_measurement(first: PublishedResult, second: PublishedResult) -> bool:
    """Whether two results of one cell say the same of the same pictures.

    Times, machine and code may differ; figures, outcomes, verdicts, what attacks found, the model, prompts,
    instruments and pictures not.
    """
    return not any(differences(_compared(first), _compared(second), tolerance=0.0))


def _compared(result: PublishedResult) -> Content:
    content = {name: value for name, value in stated(result).items() if name not in _OF_MACHINE}
    for name, parts in _NOT_COMPARED.items():
        content[name] = {FACT: _without(content[name][FACT], parts)}
    for name in content:
        if name.endswith("/record"):
            content[name] = {FACT: _without(content[name][FACT], {"spent"})}
    return content


def _without(record: dict[str, Any], parts: set[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in parts}
