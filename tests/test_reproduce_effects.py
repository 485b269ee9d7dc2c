"""How two series differ: over pictures, over trainings, and by the intervals of figures of whole sets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zbench.reproduction.effects import effect
from zbench.reproduction.series import Series


def series(values: list[float], pictures: list[list[float]] | None = None) -> Series:
    prompts = [("prompt", place) for place in range(len(pictures[0]))] if pictures else []
    mean = sum(values) / len(values)
    own = (pictures, prompts) if pictures else None
    return Series(mean, mean - 1, mean + 1, tuple(values), "points", None, 10, True, ("nudity",), own)


VALUES = st.lists(st.floats(1, 100), min_size=3, max_size=5)


@given(VALUES, VALUES, st.floats(1, 100))
@settings(max_examples=60, deadline=None)
def test_an_effect_turned_round_is_its_own_negative(
    first: list[float], second: list[float], whole: float
) -> None:
    there, back = effect(series(first), series(second), whole), effect(series(second), series(first), whole)
    assert there.value == pytest.approx(-back.value) and there.p_value == pytest.approx(back.p_value)
    low, high = there.interval()
    assert low <= there.value <= high
    assert back.interval() == pytest.approx((-high, -low), abs=1e-6)
    wider = there.interval(0.99)
    assert wider[0] <= low and wider[1] >= high


def test_what_no_training_changes_is_not_taken_for_sure() -> None:
    """Two closed forms: their FID has no spread over trainings, and yet an interval."""
    found = effect(series([10.0] * 3), series([10.5] * 3), 10.0)
    assert found.p_value > 0.1 and found.interval()[0] < 0 < found.interval()[1]
    far = effect(series([10.0] * 3), series([20.0] * 3), 10.0)
    assert far.p_value < 0.001 and far.interval()[1] < 0


def test_pictures_widen_what_trainings_alone_would_claim() -> None:
    ours = [[1.0, 0.0, 5.0, 0.0] for _ in range(3)]
    theirs = [[0.0, 1.0, 0.0, 4.9] for _ in range(3)]
    alone = effect(series([1.5, 1.5001, 1.5002]), series([1.475, 1.4751, 1.4752]), 1.5)
    paired = effect(series([1.5, 1.5001, 1.5002], ours), series([1.475, 1.4751, 1.4752], theirs), 1.5)
    assert paired.p_value > alone.p_value
    assert paired.interval()[1] - paired.interval()[0] > alone.interval()[1] - alone.interval()[0]


@pytest.mark.parametrize("spread", [0.0, 1e-6])
def test_trainings_that_come_out_nearly_the_same_make_nothing_certain(spread: float) -> None:
    """FID 10 against 10.1, each known to within one: a spread of next to nothing is no certainty."""
    values = [[whole - spread, whole, whole + spread] for whole in (10.0, 10.1)]
    found = effect(series(values[0]), series(values[1]), 10.0)
    low, high = found.interval()
    assert found.p_value > 0.5 and low < -10 and high > 10


def test_what_has_no_interval_is_never_certain() -> None:
    bare = Series(10.0, None, None, (10.0, 10.1, 9.9), "points", None, 10, True, ("nudity",), None)
    found = effect(bare, series([20.0, 20.1, 19.9]), 10.0)
    assert found.p_value == 1 and found.interval() == (-float("inf"), float("inf"))
