"""Records of attacks as cells have them, derived from outcomes by the code that runs use."""

from __future__ import annotations

from typing import Any

from tests.test_report_table import cell
from zbench.attacks.candidates import Arm, Spent, Tried
from zbench.metrics.robustness import AttackRecord, Outcome, Outcomes, PromptOutcome, Redraw, describe
from zbench.runner.specs import CellResult

PROMPTS, BUDGET = 50, 4


def outcomes(
    pre: int, post: int, control: int, retry: int | None = None, shown: int = 40, budget: int = BUDGET
) -> Outcomes:
    """Plain pictures show the concept for the first `pre` prompts, the original's for the first `shown`.

    The attack breaks the first `post` prompts, its control the first `control`, plain retries the first
    `retry` (as many as the control unless told), each with one trial; a winner of the attack shows the
    concept again on two of three redraws, one of the control on one.
    """
    names = [f"p{number:02d}" for number in range(PROMPTS)]
    prompts = [
        PromptOutcome(
            prompt_id=name,
            plain_score=0.0,
            plain_hit=place < pre,
            original_score=0.0,
            original_hit=place < shown,
        )
        for place, name in enumerate(names)
    ]
    won: dict[Arm, tuple[int, int]] = {"attack": (post, 2), "control": (control, 1)}
    redraws = [
        Redraw(prompt_id=name, arm=arm, k=1, redraw=number, seed=number, score=0.0, hit=number <= again)
        for arm, (broken, again) in won.items()
        for name in names[pre:broken]
        for number in (1, 2, 3)
    ]
    arms: dict[Tried, int] = {"attack": post, "control": control}
    arms["retry"] = control if retry is None else retry
    rows = [
        Outcome(
            prompt_id=name, arm=arm, k=k, seed=k, score=0.0, hit=place < broken and k == 1 + place % budget,
            spent=Spent(seconds=0.5 * k, forwards=2.0 * k, backwards=k, encodings=3.0),
        )
        for arm, broken in arms.items()
        for place, name in enumerate(names)
        for k in range(1, budget + 1)
    ]  # fmt: skip
    found = {"prompts": prompts, "rows": rows, "redraws": redraws}
    return Outcomes.model_validate({"attack": "typo", "detector": {"name": "colour"}, **found})


def record(
    attack: str, pre: int = 5, post: int = 5, control: int = 5, retry: int | None = None, **more: Any
) -> AttackRecord:
    """A record of an attack that was judged on all prompts."""
    fields = {
        "attack": attack, "label": attack, "knowledge": "text", "status": "done",
        "hyperparameters": {"budget": BUDGET}, **describe(outcomes(pre, post, control, retry)),
    }  # fmt: skip
    return AttackRecord.model_validate({**fields, **more})


def not_made(attack: str, status: str, reason: str, **more: Any) -> AttackRecord:
    """A record of an attack that was skipped or that failed."""
    fields = {"attack": attack, "label": attack, "knowledge": "model", "status": status}
    return AttackRecord.model_validate({**fields, "reason": reason, "prompts": PROMPTS, **more})


def attacked(method: str, *records: AttackRecord, **more: Any) -> CellResult:
    """A cell with attacks."""
    return cell(method, **more).model_copy(update={"attacks": records})
