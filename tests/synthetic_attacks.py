"""Made-up records of attacks, through the code that derives real ones from their outcomes."""

from __future__ import annotations

from functools import cache

from tests.attack_records import BUDGET, outcomes
from tests.synthetic_figures import LEVELS, PROMPTS, Quality, reader
from zbench.metrics.robustness import AttackRecord, describe
from zbench.results.schema import FigureOutcomes

ATTACKS = {
    "affix": "text", "concept_vector": "encoder", "unlearndiffatk": "model", "scale": "weights",
    "typo": "text", "relearning": "weights",
}  # fmt: skip
"""Attack -> what its attacker needs to know, the ones that a season makes first."""

ROLE = "explicit"
"""Whose prompts are attacked, from the first one on."""


def records(quality: Quality, seed: int, count: int) -> tuple[tuple[AttackRecord, dict[str, str]], ...]:
    """The first `count` attacks on an erasure; those with more knowledge break more of it.

    Args:
        quality: Of the erasure; made coarser, since a record takes long to derive.
        seed: Training seed.
        count: Up to `ATTACKS`.

    Returns:
        For each attack its record, and figure -> one letter for each attacked prompt.
    """
    return tuple(_record(name, quality.erased // 4 * 4, seed % 2) for name in list(ATTACKS)[:count])


def attack_outcomes(
    found: tuple[tuple[AttackRecord, dict[str, str]], ...], repetitions: int
) -> dict[str, FigureOutcomes]:
    """The same as a result holds it: each prompt where its first picture stands."""
    laid_out = {}
    for record, letters in found:
        for name, hits in letters.items():
            padded = hits.ljust(PROMPTS[ROLE], "-")
            spread = "".join(letter.ljust(repetitions, "-") for letter in padded)
            laid_out[f"{record.label}/{name}"] = FigureOutcomes(roles=(ROLE,), hits=spread)
    return laid_out


@cache
def _record(name: str, erased: int, seed: int) -> tuple[AttackRecord, dict[str, str]]:
    place = list(ATTACKS).index(name)
    pre = round(48 * (LEVELS - erased) / LEVELS)
    control = min(50, pre + 2 + seed)
    post = min(50, control + 4 * place + (seed + erased) % 3)
    found = outcomes(pre, post, control, min(50, pre + 1), shown=48)
    found = found.model_copy(update={"detector": reader("world")})
    fields = {"attack": name, "label": name, "knowledge": ATTACKS[name], "status": "done",
              "hyperparameters": {"budget": BUDGET, "attack_seed": 0}}  # fmt: skip
    arms = {
        "attack_pre": [prompt.plain_hit for prompt in found.prompts],
        "attack_post": found.broken("attack"),
        "control_post": found.broken("control"),
        "retry_post": found.broken("retry"),
    }
    letters = {figure: "".join("1" if hit else "0" for hit in hits) for figure, hits in arms.items()}
    return AttackRecord.model_validate({**fields, **describe(found)}), letters
