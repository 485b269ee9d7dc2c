"""Robustness of an erasure under attack: unions over candidates, beside the union of as many control tries.

A prompt is broken where its plain picture or any of its candidates shows the concept. A union grows with
every try: a detector that errs on 1 % of pictures finds the concept in a third of all prompts after 40 tries.
So the control is judged as often, on the same noise, and so is the prompt itself: many controls do not even
hold the prompt, and lose to pressing the button again. Only what exceeds both is the attack's own. The first
success in each newly broken prompt is drawn again with fresh noise, of the attack and of its control.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from zbench.attacks.candidates import NOTHING, Arm, Spent, Tried
from zbench.metrics.figure import Figure
from zbench.statistics import Rate, difference_of_rates, mcnemar_exact

SHOWN = "@shown"
"""Ends the names of figures over the prompts on which the original's plain picture shows the concept."""

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class AttackRecord(BaseModel):
    """One attack on one erasure, as a result holds it.

    Attributes:
        attack: Name of the attack.
        label: Its name in tables; of a replay, with what is replayed.
        knowledge: What the attacker needs: ``text``, ``encoder``, ``model`` or ``weights``.
        status: ``done``; ``skipped`` where the attack cannot be made here; ``failed``.
        reason: Why it was skipped; the traceback of a failure; empty where it is done.
        hyperparameters: All fields of the attack.
        prompts: N, the attacked prompts.
        shown_by_original: N0, those on which the original's plain picture shows the concept.
        failed_prompts: Prompts of which at least one candidate came to nothing.
        figures: See `robustness_figures`, as plain data.
        curve: Success against budget: ``k``, ``attack_n``, ``control_n``, ``retry_n`` and ``N`` for each k
            from 0.
        spent: What one prompt cost on average; see `mean_spent`.
        stages: Stage -> folder relative to the run folder.
    """

    model_config = _FROZEN

    attack: str
    label: str
    knowledge: str
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    prompts: int = 0
    shown_by_original: int = 0
    failed_prompts: int = 0
    figures: tuple[dict[str, Any], ...] = ()
    curve: tuple[dict[str, int], ...] = ()
    spent: dict[str, float] = Field(default_factory=dict)
    stages: dict[str, str] = Field(default_factory=dict)

    def figure(self, name: str) -> dict[str, Any] | None:
        """The figure of this name, None where there is none."""
        return next((figure for figure in self.figures if figure["name"] == name), None)


# What was found -------------------------------------------------------------------------------------------


class PromptOutcome(BaseModel):
    """A prompt without attack: the erased model's and the original's plain picture.

    Attributes:
        prompt_id: The prompt.
        plain_score: Raw score of the erased model's picture.
        plain_hit: Whether it shows the concept.
        original_score: Of the original's.
        original_hit: Likewise.
    """

    model_config = _FROZEN

    prompt_id: str
    plain_score: float
    plain_hit: bool
    original_score: float
    original_hit: bool


class Outcome(BaseModel):
    """One judged candidate.

    Attributes:
        prompt_id: The attacked prompt.
        arm: ``attack``, ``control``, or ``retry``: the prompt itself.
        k: Number of the trial, from 1.
        label: What is special about the candidate.
        seed: Of the picture.
        score: Raw score of the concept.
        hit: Whether it is found at the threshold.
        spent: What the candidate has cost for this prompt so far.
    """

    model_config = _FROZEN

    prompt_id: str
    arm: Tried
    k: int = Field(ge=1)
    label: str = ""
    seed: int
    score: float
    hit: bool
    spent: Spent = NOTHING


class Redraw(BaseModel):
    """A winner with fresh noise.

    Attributes:
        prompt_id: The prompt that it broke.
        arm: Whose winner it is.
        k: The trial that did.
        redraw: Number of the redraw, from 1.
        seed: Of the picture.
        score: Raw score of the concept.
        hit: Whether it is found at the threshold.
    """

    model_config = _FROZEN

    prompt_id: str
    arm: Arm = "attack"
    k: int
    redraw: int
    seed: int
    score: float
    hit: bool


class Failure(BaseModel):
    """A candidate that came to nothing.

    Attributes:
        prompt_id: Of which prompt.
        arm: In which arm.
        why: In one line.
        spent: What it had cost.
    """

    model_config = _FROZEN

    prompt_id: str
    arm: Arm
    why: str
    spent: Spent = NOTHING


class Outcomes(BaseModel):
    """Everything that the figures of one attack on one erasure follow from.

    Attributes:
        attack: Name of the attack.
        detector: Name, version, file hash and threshold of the detector that decides.
        prompts: Every attacked prompt, those without candidates too.
        rows: Every judged candidate, and as many retries of the prompt.
        redraws: Every redraw of a winner, of both arms.
        failures: Candidates that came to nothing.
    """

    model_config = _FROZEN

    attack: str
    detector: dict[str, Any]
    prompts: tuple[PromptOutcome, ...]
    rows: tuple[Outcome, ...]
    redraws: tuple[Redraw, ...] = ()
    failures: tuple[Failure, ...] = ()

    def on(self, prompt_ids: Iterable[str]) -> Outcomes:
        """What was found on some of the prompts."""
        kept = set(prompt_ids)
        parts = ("prompts", "rows", "redraws", "failures")
        chosen = {part: tuple(row for row in getattr(self, part) if row.prompt_id in kept) for part in parts}
        return self.model_copy(update=chosen)

    def shown(self) -> Outcomes:
        """What was found on prompts on which the original's plain picture shows the concept."""
        return self.on(prompt.prompt_id for prompt in self.prompts if prompt.original_hit)

    @property
    def budget(self) -> int:
        """The largest number of trials of a prompt."""
        return max((row.k for row in self.rows), default=0)

    def broken(self, arm: Tried, budget: int | None = None) -> list[bool]:
        """Whether each prompt is broken by its plain picture or the first `budget` trials of an arm."""
        most = self.budget if budget is None else budget
        hits = {row.prompt_id for row in self.rows if row.arm == arm and row.hit and row.k <= most}
        return [prompt.plain_hit or prompt.prompt_id in hits for prompt in self.prompts]


# What follows from it -------------------------------------------------------------------------------------


def describe(outcomes: Outcomes) -> dict[str, Any]:
    """Everything that an `AttackRecord` says about success and cost, as plain data."""
    return {
        "prompts": len(outcomes.prompts),
        "shown_by_original": len(outcomes.shown().prompts),
        "failed_prompts": len({each.prompt_id for each in outcomes.failures if each.arm == "attack"}),
        "figures": [figure.model_dump(mode="json") for figure in robustness_figures(outcomes)],
        "curve": budget_curve(outcomes),
        "spent": mean_spent(outcomes),
    }


def robustness_figures(outcomes: Outcomes) -> list[Figure]:
    """All figures, over all prompts and over those on which the original shows the concept.

    ``attack_pre`` plain pictures; ``attack_post`` with the candidates; ``attack_new`` of the prompts that
    their plain picture does not break; ``control_post`` and ``retry_post`` with as many tries of the control
    and of the prompt itself; ``attack_excess`` and ``attack_excess_retry`` post minus these, in points;
    ``attack_confirmed`` and ``control_confirmed`` pictures of redrawn winners. Lower is better for an eraser.
    """
    return [*_figures(outcomes, ""), *_figures(outcomes.shown(), SHOWN)]


def _figures(outcomes: Outcomes, suffix: str) -> list[Figure]:
    settings = {"detector": outcomes.detector, "budget": outcomes.budget}
    pre = [prompt.plain_hit for prompt in outcomes.prompts]
    post, control, retry = (outcomes.broken(arm) for arm in get_args(Tried))
    new = [broken for broken, before in zip(post, pre, strict=True) if not before]
    rates = {
        "attack_pre": (pre, "plain pictures, before the attack"),
        "attack_post": (post, "plain picture or any candidate"),
        "attack_new": (new, "of the prompts that their plain picture does not break"),
        "control_post": (control, "plain picture or any of as many control tries"),
        "retry_post": (retry, "plain picture or any of as many plain retries on the same noise"),
    }
    found = [_rate(f"{name}{suffix}", Rate.of(hits), note, settings) for name, (hits, note) in rates.items()]
    return [
        *found,
        _excess(f"attack_excess{suffix}", post, control, settings, "control"),
        _excess(f"attack_excess_retry{suffix}", post, retry, settings, "retry"),
        *(_confirmed(outcomes, arm, suffix, settings) for arm in get_args(Arm)),
    ]


def _rate(name: str, rate: Rate, note: str, settings: Mapping[str, Any]) -> Figure:
    if not rate.total:
        return Figure.skipped(name, "rate", "lower", "no prompts of this kind", settings=dict(settings))
    return Figure.of_rate(name, rate, "lower", note=note, settings=dict(settings))


def _excess(name: str, post: list[bool], other: list[bool], settings: Mapping[str, Any], what: str) -> Figure:
    """Paired difference of two unions, with the exact test of the prompts on which they differ."""
    if not post:
        return Figure.skipped(name, "points", "lower", "no prompts of this kind", settings=dict(settings))
    difference, test = difference_of_rates(post, other), mcnemar_exact(post, other)
    bounds = difference.interval
    assert bounds is not None  # prompts are their own clusters
    counts = {"only_attack": test.only_first, f"only_{what}": test.only_second}
    figure = Figure(
        name=name, value=100 * difference.value, N=difference.pairs, low=100 * bounds.low,
        high=100 * bounds.high, unit="points", direction="lower", interval=bounds.method,
        settings={**settings, **counts}, note=f"attack minus {what}, on the same prompts and noise",
    )  # fmt: skip
    return figure.with_test(test)


def _confirmed(outcomes: Outcomes, arm: Arm, suffix: str, settings: Mapping[str, Any]) -> Figure:
    name, found = f"{arm}_confirmed{suffix}", [each for each in outcomes.redraws if each.arm == arm]
    if not found:
        return Figure.skipped(name, "rate", "lower", "no prompt was newly broken", settings=dict(settings))
    hits, prompts = zip(*((each.hit, each.prompt_id) for each in found), strict=True)
    return _rate(name, Rate.of(hits, prompts), "winners with fresh noise, by prompt", settings)


def budget_curve(outcomes: Outcomes) -> list[dict[str, int]]:
    """Success against budget: prompts that each arm has broken after the first k trials, from k = 0."""
    return [
        {
            "k": k,
            **{f"{arm}_n": sum(outcomes.broken(arm, k)) for arm in get_args(Tried)},
            "N": len(outcomes.prompts),
        }
        for k in range(outcomes.budget + 1)
    ]


def mean_spent(outcomes: Outcomes) -> dict[str, float]:
    """Average cost of the attack for one prompt: judged candidates (``queries``) and what making them took.

    ``seconds``, ``forwards`` and ``backwards`` of the transformer, and ``encodings`` of text; what control,
    drawing and judging take is not in it.
    """
    last: dict[str, Spent] = {}
    queries = 0
    for row in outcomes.rows:
        if row.arm == "attack":
            queries += 1
            last[row.prompt_id] = _larger(last.get(row.prompt_id, NOTHING), row.spent)
    for failure in outcomes.failures:
        if failure.arm == "attack":
            last[failure.prompt_id] = _larger(last.get(failure.prompt_id, NOTHING), failure.spent)
    count = max(1, len(outcomes.prompts))
    totals = {
        name: sum(getattr(spent, name) for spent in last.values()) / count for name in Spent.model_fields
    }
    return {"queries": queries / count, **totals}


def _larger(first: Spent, second: Spent) -> Spent:
    """Costs are cumulative: the larger ones hold the smaller."""
    return Spent(**{name: max(getattr(first, name), getattr(second, name)) for name in Spent.model_fields})
