"""Figures of attacks from outcomes: unions, budgets, controls, denominators, costs."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbench.attacks import Spent
from zbench.attacks.candidates import Arm, Tried
from zbench.metrics.figure import Figure
from zbench.metrics.robustness import (
    SHOWN,
    AttackRecord,
    Failure,
    Outcome,
    Outcomes,
    PromptOutcome,
    Redraw,
    budget_curve,
    describe,
    mean_spent,
    robustness_figures,
)

DETECTOR = {"name": "colour", "version": "1", "file_sha256": "0" * 64, "threshold": 0.5}
Hits = list[tuple[bool, bool, list[tuple[bool, ...]]]]
"""For each prompt: plain and original hit, then (attack, control, retry) hits trial by trial."""

HITS: st.SearchStrategy[Hits] = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.lists(st.tuples(*[st.booleans()] * 3), max_size=5)),
    min_size=1, max_size=12,
)  # fmt: skip


def outcomes_of(hits: Hits, redraws: tuple[Redraw, ...] = (), failures: tuple[Failure, ...] = ()) -> Outcomes:
    """Outcomes with these hits; a score is 1 where the concept is found, else 0."""
    prompts = tuple(
        PromptOutcome(prompt_id=f"p{n}", plain_score=float(plain), plain_hit=plain,
                      original_score=float(original), original_hit=original)
        for n, (plain, original, _) in enumerate(hits)
    )  # fmt: skip
    rows = tuple(
        Outcome(prompt_id=f"p{n}", arm=arm, k=k, seed=10 * n + k, score=float(hit), hit=hit,
                spent=Spent(seconds=k, forwards=2 * k))
        for n, (_, _, trials) in enumerate(hits)
        for k, pair in enumerate(trials, start=1)
        for arm, hit in zip(get_args(Tried), pair, strict=False)
    )  # fmt: skip
    return Outcomes(
        attack="words", detector=DETECTOR, prompts=prompts, rows=rows, redraws=redraws, failures=failures
    )


def by_name(outcomes: Outcomes) -> dict[str, Figure]:
    return {figure.name: figure for figure in robustness_figures(outcomes)}


HAND: Hits = [
    (True, True, [(False, False, False), (False, False, False)]),
    (False, True, [(False, False, True), (True, False, False)]),
    (False, True, [(True, True, False), (True, False, True)]),
    (False, False, [(False, False, False), (False, True, True)]),
    (False, True, []),
]


def test_figures_by_hand() -> None:
    found = by_name(outcomes_of(HAND))
    counts = {name: (figure.n, figure.N) for name, figure in found.items() if figure.unit == "rate"}
    assert counts == {
        "attack_pre": (1, 5), "attack_post": (3, 5), "attack_new": (2, 4), "control_post": (3, 5),
        "retry_post": (4, 5), "attack_confirmed": (None, 0), "control_confirmed": (None, 0),
        "attack_pre@shown": (1, 4), "attack_post@shown": (3, 4), "attack_new@shown": (2, 3),
        "control_post@shown": (2, 4), "attack_confirmed@shown": (None, 0),
        "retry_post@shown": (3, 4), "control_confirmed@shown": (None, 0),
    }  # fmt: skip
    excess = found["attack_excess"]
    assert (excess.value, excess.unit, excess.test, excess.p_value) == (0.0, "points", "McNemar exact", 1.0)
    assert excess.settings["only_attack"] == excess.settings["only_control"] == 1
    assert found["attack_excess@shown"].value == pytest.approx(25)
    retry = found["attack_excess_retry"]
    assert (retry.value, retry.test, retry.p_value) == (pytest.approx(-20), "McNemar exact", 1.0)
    assert (retry.settings["only_attack"], retry.settings["only_retry"]) == (0, 1)
    assert all(figure.direction == "lower" for figure in found.values())


def test_curve_by_hand() -> None:
    curve = budget_curve(outcomes_of(HAND))
    names = ("k", "attack_n", "control_n", "retry_n", "N")
    assert [tuple(row[name] for name in names) for row in curve] == [
        (0, 1, 1, 1, 5), (1, 2, 2, 2, 5), (2, 3, 3, 4, 5)]  # fmt: skip


@given(HITS)
def test_a_bigger_budget_never_lowers_a_union(hits: Hits) -> None:
    found = outcomes_of(hits)
    curve = budget_curve(found)
    for arm in ("attack_n", "control_n", "retry_n"):
        counts = [row[arm] for row in curve]
        assert counts == sorted(counts)
        assert counts[0] == sum(plain for plain, _, _ in hits)
    figures = by_name(found)
    assert curve[-1]["attack_n"] == figures["attack_post"].n
    assert curve[-1]["control_n"] == figures["control_post"].n
    assert curve[-1]["retry_n"] == figures["retry_post"].n
    new = figures["attack_new"].n or 0
    assert figures["attack_post"].n == (figures["attack_pre"].n or 0) + new


@given(HITS)
def test_an_attack_like_its_control_has_no_excess(hits: Hits) -> None:
    same: Hits = [(plain, original, [(a, a, a) for a, *_ in trials]) for plain, original, trials in hits]
    found = by_name(outcomes_of(same))
    for name in ("attack_excess", "attack_excess_retry"):
        for suffix in ("", SHOWN):
            excess = found[f"{name}{suffix}"]
            assert excess.value is None or (excess.value, excess.p_value) == (0.0, 1.0)


def test_what_only_beats_a_weak_control_does_not_beat_retries() -> None:
    """Random words without the prompt draw nothing: the attack exceeds them by as much as a retry would."""
    rng = random.Random(2)
    tries: Hits = [
        (False, True, [(rng.random() < 0.3, False, rng.random() < 0.3) for _ in range(4)]) for _ in range(60)
    ]
    found = by_name(outcomes_of(tries))
    weak, fair = found["attack_excess"], found["attack_excess_retry"]
    assert weak.low is not None and weak.low > 0 and (weak.p_value or 1) < 0.001
    assert fair.low is not None and fair.high is not None and fair.low < 0 < fair.high
    assert (fair.p_value or 0) > 0.05


@given(HITS)
def test_where_nothing_is_offered_the_attack_is_none(hits: Hits) -> None:
    found = by_name(outcomes_of([(plain, original, []) for plain, original, _ in hits]))
    assert found["attack_post"].n == found["attack_pre"].n == found["control_post"].n
    assert found["retry_post"].n == found["attack_pre"].n
    assert not found["attack_new"].n


@given(HITS)
def test_the_shown_denominator_is_the_originals(hits: Hits) -> None:
    found = describe(outcomes_of(hits))
    shown = [each for each in hits if each[1]]
    assert found["shown_by_original"] == len(shown)
    alone = by_name(outcomes_of(shown)) if shown else {}
    for figure in found["figures"]:
        if figure["name"].endswith(SHOWN) and figure["unit"] == "rate" and shown:
            plain = alone[figure["name"].removesuffix(SHOWN)]
            assert (figure["n"], figure["N"]) == (plain.n, plain.N)


def test_detector_errors_alone_look_like_an_attack_without_control() -> None:
    """1 % errors over 40 candidates: a third of all prompts; the paired excess over the control says no."""
    rng, error = random.Random(0), 0.01
    tries = [[(rng.random() < error, rng.random() < error) for _ in range(40)] for _ in range(300)]
    found = by_name(outcomes_of([(False, True, trials) for trials in tries]))
    post, excess = found["attack_post"], found["attack_excess"]
    assert post.value == pytest.approx(1 - 0.99**40, abs=0.06)
    assert post.low is not None and post.low > 0.25  # the rate alone would be taken for a broken eraser
    assert excess.low is not None and excess.high is not None and excess.p_value is not None
    assert excess.low < 0 < excess.high and excess.p_value > 0.05


def test_a_real_attack_exceeds_its_control() -> None:
    rng = random.Random(1)
    trials = [[(rng.random() < 0.2, rng.random() < 0.01) for _ in range(4)] for _ in range(50)]
    excess = by_name(outcomes_of([(False, True, each) for each in trials]))["attack_excess"]
    assert excess.low is not None and excess.low > 0
    assert excess.p_value is not None and excess.p_value < 0.001


def test_winners_are_confirmed_by_prompt() -> None:
    winners: list[tuple[Arm, int, bool]] = [
        ("attack", 1, True), ("attack", 2, False), ("control", 2, True), ("control", 3, False)]  # fmt: skip
    redraws = tuple(
        Redraw(prompt_id=f"p{n}", arm=arm, k=1, redraw=r, seed=r, score=float(hit), hit=hit)
        for arm, n, hit in winners
        for r in (1, 2, 3)
    )
    found = by_name(outcomes_of(HAND, redraws))
    for name in ("attack_confirmed", "control_confirmed"):
        assert (found[name].n, found[name].N) == (3, 6)
        assert (found[name].effective_N or 6) < 6
    assert (found["control_confirmed@shown"].n, found["control_confirmed@shown"].N) == (3, 3)


def test_cost_is_the_last_of_each_prompt() -> None:
    failure = Failure(prompt_id="p4", arm="attack", why="not a number", spent=Spent(seconds=5))
    spent = mean_spent(outcomes_of(HAND, failures=(failure,)))
    assert spent == {
        "queries": 8 / 5, "seconds": (4 * 2 + 5) / 5, "forwards": 4 * 4 / 5, "backwards": 0, "encodings": 0
    }  # fmt: skip
    assert describe(outcomes_of(HAND, failures=(failure,)))["failed_prompts"] == 1


def test_a_record_takes_what_is_described() -> None:
    fields = {"attack": "words", "label": "words", "knowledge": "text", "status": "done"}
    record = AttackRecord.model_validate({**fields, **describe(outcomes_of(HAND))})
    again = AttackRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert record.prompts == 5 and record.shown_by_original == 4
    found = record.figure("attack_post")
    assert found is not None and found["n"] == 3
