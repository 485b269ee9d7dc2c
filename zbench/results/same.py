"""Whether two results are the same measurement, made on whatever machine and by whatever commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.results.schema import PublishedResult

_OF_MACHINE = frozenset({"checkout", "device", "packages", "platform", "python", "release", "zbench"})
"""Parts of the provenance that say where and when, not what."""


def same_measurement(first: PublishedResult, second: PublishedResult) -> bool:
    """Whether two results of one cell say the same of the same pictures.

    Times, machine and code may differ; figures, verdicts, what attacks found, prompts and instruments not.
    """
    return _measured(first) == _measured(second)


def _measured(result: PublishedResult) -> dict[str, Any]:
    cell = result.result
    facts = {name: value for name, value in cell.provenance.items() if name not in _OF_MACHINE}
    record = cell.model_dump(
        mode="json", exclude={"seconds", "cost", "provenance", "attacks", "schema_version"}
    )
    attacks = [each.model_dump(mode="json", exclude={"spent"}) for each in cell.attacks]
    return {"cell": record, "facts": facts, "attacks": attacks, "samples": result.samples_sha256}
