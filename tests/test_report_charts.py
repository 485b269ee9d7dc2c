"""Charts of the page: Pareto fronts, places of names, scales, escaping."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic_results import HOSTILE
from zbench.report.site.charts.curve import draw_curve
from zbench.report.site.charts.labels import place_labels, width_of
from zbench.report.site.charts.plane import Axis, Mark, Measured, draw_plane, front
from zbench.report.site.charts.svg import Drawing, Scale, decades, plain, round_values
from zbench.report.site.charts.trace import MOST_POINTS, draw_trace
from zbench.report.site.places import keys_of

AXES = (Axis("found", "lower", (0.0, 100.0)), Axis("kept", "higher", (0.0, 100.0)))
VALUES = st.integers(0, 12).map(float)
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def marks_of(places: list[tuple[float, float]]) -> list[Mark]:
    return [
        Mark(f"m{at}", f"method {at}", "method", Measured(x, max(0.0, x - 3), x + 3), Measured(y))
        for at, (x, y) in enumerate(places)
    ]


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30))
def test_a_front_beats_all_others_and_none_of_itself(places: list[tuple[float, float]]) -> None:
    marks = marks_of(places)
    best = front(marks, AXES)
    assert best

    def beats(one: Mark, other: Mark) -> bool:
        at_least = (
            one.erasure.value <= other.erasure.value and one.preservation.value >= other.preservation.value
        )
        return at_least and (one.erasure.value, one.preservation.value) != (
            other.erasure.value,
            other.preservation.value,
        )

    assert not any(beats(one, other) for one in marks for other in best)
    assert all(mark in best or any(beats(one, mark) for one in best) for mark in marks)


def test_broken_rows_and_the_original_compete_with_nobody() -> None:
    good = Mark("a", "a", "method", Measured(50.0), Measured(50.0))
    broken = Mark("b", "b", "broken", Measured(0.0), Measured(100.0))
    original = Mark("o", "o", "original", Measured(0.0), Measured(100.0))
    assert front([good, broken, original], AXES) == (good,)


@given(st.lists(st.tuples(st.floats(70, 690), st.floats(30, 440)), min_size=1, max_size=25))
@settings(max_examples=30, deadline=None)
def test_names_lie_inside_and_on_nobodys_toes(points: list[tuple[float, float]]) -> None:
    area = (62.0, 22.0, 700.0, 446.0)
    names = [f"method_{at}" for at in range(len(points))]
    boxes = []
    for label in place_labels(points, names, area, 12.0):
        if label is not None:
            left, bottom = label.at[0], label.at[1] + 0.22 * 12
            boxes.append((left, bottom - 12, left + width_of(label.text, 12), bottom))
    for box in boxes:
        assert box[0] >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3]
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart


@given(FINITE, FINITE)
def test_round_values_lie_between_their_bounds(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = round_values(low, high)
    assert len(ticks) <= 12
    slack = 1e-6 * max(1.0, high - low)
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_decades_are_few() -> None:
    assert decades(1e-12, 1.0)[0] == pytest.approx(1e-12)
    assert len(decades(1e-12, 1.0)) <= 6
    assert decades(2.0, 3.0) == [2.0, 3.0]


@given(FINITE)
def test_a_scale_never_leaves_its_axis(value: float) -> None:
    scale = Scale(0.0, 100.0, 400.0, 20.0)
    assert 20.0 <= scale.at(value) <= 400.0


@pytest.mark.parametrize("text", [*HOSTILE, "\x00\x1b[31m", "a\ufffeb"])
def test_any_text_gives_well_formed_svg(text: str) -> None:
    drawing = Drawing((10, 10), text, text, "plane")
    drawing.write(text, (1, 2), "name", data_method=text)
    root = ElementTree.fromstring(str(drawing))
    assert {each.tag for each in root.iter()} == {"svg", "title", "desc", "text"}


def test_a_plane_of_one_point_and_of_equal_points_is_drawn() -> None:
    for places in ([(0.0, 100.0)], [(5.0, 5.0)] * 4):
        root = ElementTree.fromstring(draw_plane(marks_of(places), AXES, "a plane"))
        assert len(root.findall("g[@data-method]")) == len(places)


def test_a_curve_without_retries_or_growth_is_drawn() -> None:
    flat = [{"k": 0, "attack_n": 0, "control_n": 0, "N": 50}]
    assert ElementTree.fromstring(draw_curve(flat, None, "nothing")).find("circle") is not None


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=300))
@settings(max_examples=40, deadline=None)
def test_a_trace_has_few_points_and_the_last_one(values: list[float]) -> None:
    steps = [float(at) for at in range(len(values))]
    root = ElementTree.fromstring(draw_trace([("seed 0", (steps, values))], "loss"))
    path = root.find("path")
    assert path is not None
    assert path.attrib["d"].count("L") <= MOST_POINTS + 1
    assert "nan" not in path.attrib["d"]


def test_keys_are_unique_and_safe() -> None:
    labels = ["a b", "a-b", "a_b", "<b>", "é", "ü", "A b"]
    keys = keys_of(labels)
    assert len(set(keys)) == len(keys)
    assert all(key.replace("-", "").replace("_", "").replace(".", "").isalnum() for key in keys)


def test_coordinates_are_short() -> None:
    assert [plain(x) for x in (1.0, 1.25, -0.001, 100.0, 0.05)] == ["1", "1.2", "0", "100", "0.1"]
