"""Throughput of UnlearnDiffAtk over a batch of prompts against one prompt at a time, side by side.

Run by `nox -s bench`; `--prompts 4 --repeats 1` for a quick look.
"""

from __future__ import annotations

import argparse
from typing import Any

from tests.bench_tools import Row, alternate, medians, ratio, show
from zbench.attacks import context_for
from zbench.attacks.unlearndiffatk import UnlearnDiffAtk
from zbench.concepts import load_concept
from zbench.model import load_model
from zbench.prompts import load_prompt_set
from zbench.registry import load_method

CONCEPT = "violence"
LEAST = 3.0


def measure_attack(prompts: int, repeats: int) -> list[Row]:
    """Seconds per prompt of the same attack on the same erasure and prompts, batched and not.

    Args:
        prompts: How many are attacked together.
        repeats: Rounds.
    """
    model, concept = load_model("miniature", "cpu"), load_concept(CONCEPT)
    erasure = load_method("uce").with_preset("miniature").erase(model, concept).edit
    chosen = load_prompt_set(f"{CONCEPT}-explicit-tuning").prompts[:prompts]

    def attacked(batch_size: int, number: int) -> int:
        seeded: dict[str, Any] = {"attack_seed": number + 1, "batch_size": batch_size}
        attack = UnlearnDiffAtk.with_preset("miniature", **seeded)
        context = context_for(attack, model, erasure, concept, chosen)
        batches = (chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size))
        return sum(len(list(attack.attack(context.on(batch)))) for batch in batches)

    seconds = alternate(
        {"batched": lambda number: attacked(prompts, number), "single": lambda number: attacked(1, number)},
        repeats,
    )
    detail = {"prompts": prompts, "seconds per prompt": medians(seconds, per=prompts)}
    return [
        Row("unlearndiffatk, batched over one by one", ratio(seconds, "single", "batched"), "x", LEAST,
            "at least", detail),
        Row("unlearndiffatk, per prompt", detail["seconds per prompt"]["batched"], "s", 1.2),
    ]  # fmt: skip


def main() -> None:
    """Prints a table, ratios first, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    show(measure_attack(chosen.prompts, chosen.repeats))


if __name__ == "__main__":
    main()
