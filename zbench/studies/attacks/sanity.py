"""What must be so of every attack: budgets that only add, candidates that depend on the erased weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.config import ORIGINAL
from zbench.stages.attack import attack, attack_batches, read_candidates
from zbench.studies.attacks.claims import counted
from zbench.studies.attacks.plan import Case, attack_of_case

if TYPE_CHECKING:
    from zbench.attacks.stored import StoredCandidate
    from zbench.prompts.sets import PromptSet
    from zbench.studies.attacks.bench import Bench

SMALL, LARGE = 1, 2
"""Budgets whose candidates are compared."""

OTHER = "uce"
"""An erasure that changes weights, in closed form."""

WEIGHT_BLIND = frozenset({"concept_vector"})
"""Works on captions alone: its candidates owe nothing to the erased weights."""

Key = tuple[str, int]


def curve_checks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Budget zero is no attack, and no curve ever falls, in all arms of every attack that was judged."""
    judged = [row for row in rows if row["status"] == "done" and row["curve"]]
    starts = [_starts_plain(row) for row in judged]
    rising = [_never_falls([point[f"{arm}_n"] for point in row["curve"]]) for row in judged for arm in _ARMS]
    return {"zero": counted(starts), "rising": counted(rising)}


_ARMS = ("attack", "control", "retry")


def _starts_plain(row: Mapping[str, Any]) -> bool:
    first, plain = row["curve"][0], row["rates"]["pre"]["n"]
    return first["k"] == 0 and all(first[f"{arm}_n"] == plain for arm in _ARMS)


def _never_falls(counts: Sequence[int]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(counts))


def candidate_checks(bench: Bench, cases: Sequence[Case], prompts: PromptSet) -> dict[str, Any]:
    """Makes each attack with two budgets, and against two models; nothing is drawn.

    Args:
        bench: Where.
        cases: White-box attacks.
        prompts: A few.

    Returns:
        ``prefix``: candidates of the smaller budget that are the first of the larger one; ``weights``: of
        attacks that look at weights, candidates that differ between the original and `OTHER`; ``candidates``:
        how many were made in all.
    """
    prefix, weights, made = [], [], 0
    for case in cases:
        small, large = (_candidates(bench, case, ORIGINAL, prompts, budget) for budget in (SMALL, LARGE))
        prefix.append({"label": case.label, **counted([small[key] == large.get(key) for key in small])})
        made += len(small) + len(large)
        if case.attack not in WEIGHT_BLIND:
            other = _candidates(bench, case, OTHER, prompts, SMALL)
            weights.append({"label": case.label, **_differing(small, other)})
            made += len(other)
    return {"prefix": prefix, "weights": weights, "candidates": made, "other": OTHER}


def _differing(first: Mapping[Key, str], second: Mapping[Key, str]) -> dict[str, Any]:
    """One that differs proves it: seeds, prompts and code are the same."""
    differ = [first[key] != second[key] for key in first if key in second]
    return {
        "n": sum(differ),
        "N": len(differ),
        "verdict": counted([any(differ)] if differ else [])["verdict"],
    }


def _candidates(bench: Bench, case: Case, target: str, prompts: PromptSet, budget: int) -> dict[Key, str]:
    """(prompt, trial) -> hash of the attack's candidate, made by the attack stage or found."""
    goal = bench.target(target, prompts)
    attacker = attack_of_case(case, bench.domain, bench.settings, budget=budget)
    batches = attack_batches(bench.store, attacker, goal)
    attack(batches, attacker, goal)
    stored = (read_candidates(batch.folder.path) for batch in batches)
    return {
        (row.prompt_id or "", row.k): row.sha256 for each in stored for row in _of_attack(each.candidates)
    }


def _of_attack(rows: Sequence[StoredCandidate]) -> Iterator[StoredCandidate]:
    return (row for row in rows if row.arm == "attack" and row.k > 0)
