"""Why a cell is not published: each reason in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zbench.code import code_fault
from zbench.config import ORIGINAL
from zbench.exchange.names import is_import

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult

COMBINED = frozenset({"h_a", "h_c", "h_o"})
"""Figures that combine several rates by a formula, which stands in their settings."""

COUNTED = ("wilson", "exact")
"""How the names of intervals begin that belong to n of N; others are of sums over prompts."""


def refusals(result: CellResult, *, shortened: bool = False) -> list[str]:
    """Why a cell may not be published, for all that its result alone can say; empty where it may.

    Args:
        result: As its run folder holds it.
        shortened: Whether a cell of shortened prompt sets is wanted.
    """
    if result.status != "done":
        return [f"{result.status}: {result.reason or 'nothing is said of why'}"]
    if not any(figure["value"] is not None for figure in result.figures):
        return ["a placeholder: nothing was measured"]
    return [
        *_of_prompts(result, shortened),
        *_of_seed(result),
        *_of_code(result.provenance),
        *_of_weights(result.provenance),
        *_of_attacks(result),
        *unsupported(result.figures),
        *(line for record in result.attacks for line in unsupported(record.figures, record.label)),
    ]


def _of_prompts(result: CellResult, shortened: bool) -> Iterator[str]:
    if result.spec.prompts is not None and not shortened:
        yield (
            f"only the first {result.spec.prompts} prompts of each set were used (--prompts): run it without,"
            " or collect it with --shortened"
        )


def _of_seed(result: CellResult) -> Iterator[str]:
    spec = result.spec
    if spec.method != ORIGINAL and not is_import(spec.method) and spec.training_seed is None:
        yield "no training seed: run it with --training-seeds"


def _of_code(provenance: Mapping[str, Any]) -> Iterator[str]:
    fault = code_fault(provenance)
    if fault is not None:
        yield f"{fault}: commit or install, and run it again in a new folder (--out)"


def _of_weights(provenance: Mapping[str, Any]) -> Iterator[str]:
    weights = str(provenance.get("model", {}).get("weights", ""))
    if not weights or weights.endswith("@unpinned"):
        yield "which weights of the model it was made from is not recorded"


def _of_attacks(result: CellResult) -> Iterator[str]:
    for record in result.attacks:
        if record.status == "failed":
            *_, last = record.reason.strip().splitlines() or ["nothing is said of why"]
            yield f"the attack {record.label} failed ({last}): the same command tries it again"


def unsupported(figures: Iterable[Mapping[str, Any]], where: str = "") -> Iterator[str]:
    """Rates without what a reader must know: n of N and an interval.

    Args:
        figures: As plain data.
        where: What they belong to, such as the label of an attack.
    """
    for figure in figures:
        if figure["unit"] == "rate" and figure["value"] is not None:
            missing = list(_missing(figure))
            if missing:
                name = f"{where}/{figure['name']}" if where else figure["name"]
                yield f"the rate {name} has no {' and no '.join(missing)}: score it again"


def _missing(figure: Mapping[str, Any]) -> Iterator[str]:
    method = figure["interval"] or ""
    if not method and figure["name"] in COMBINED and "formula" in figure["settings"]:
        return  # resampling says nothing where all outcomes agree; its parts have intervals of their own
    if figure["low"] is None or figure["high"] is None or not method:
        yield "interval"
    if not figure["N"]:
        yield "N"
    # Rates over other things than pictures, or corrected ones, are no n of N; their intervals are resampled.
    if figure["n"] is None and (not method or method.startswith(COUNTED)):
        yield "n"
