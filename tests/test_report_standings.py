"""Standings: pooling over trainings, tests, ties, ranks, attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.synthetic_results import Plan, results
from zbench.report.contests import trainings_differ
from zbench.report.costs import mean_costs
from zbench.report.pairing import seed_test
from zbench.report.pooling import Worth, monotonic, observations, pool, spread
from zbench.report.standing import Standing, Standings
from zbench.report.standings import standings
from zbench.report.tables.columns import attack_cell
from zbench.report.trainings import Pictures, Trainings
from zbench.results.groups import Group, groups
from zbench.results.schema import FigureOutcomes, PublishedResult
from zbench.statistics import holm, mcnemar_exact
from zbench.statistics.flips import flip_p_values
from zbench.statistics.rates import Rate, observations_behind, rate_bounds

PROMPTS = 60


def made_up(**plan: Any) -> list[PublishedResult]:
    return [result for result, _ in results(Plan(**{"methods": 3, "concepts": 1, "sprites": False, **plan}))]


BASE = {(each.method.name, each.result.spec.training_seed): each for each in made_up(methods=4, attacks=2)}


def found(name: str, hits: str, seed: int | None, **fields: Any) -> PublishedResult:
    """A result that finds the concept in the explicit prompts marked 1."""
    like = BASE[("original", None) if seed is None else ("uce", seed)]
    rate = Rate.of([letter == "1" for letter in hits])
    bounds = rate.interval()
    assert bounds is not None
    figure: dict[str, Any] = {
        "name": "asr_explicit", "value": rate.value, "n": rate.successes, "N": rate.total, "low": bounds.low,
        "high": bounds.high, "unit": "rate", "direction": "lower", "interval": bounds.method,
        "p_value": None if seed is None else 0.001, "effective_N": None, "settings": {}, "note": "",
    }  # fmt: skip
    clip = {
        **figure,
        "name": "clip_score",
        "unit": "points",
        "direction": "higher",
        "n": None,
        "p_value": None,
    }
    clip |= {"value": 70.0 + (seed or 0), "low": 68.0 + (seed or 0), "high": 72.0 + (seed or 0)}
    result = like.result.model_copy(update={
        "id": f"{name}-{seed}", "figures": (figure, clip), "verdict": None, "shown": (), "attacks": (),
        "spec": like.result.spec.model_copy(update={"method": name}), **fields,
    })  # fmt: skip
    return like.model_copy(update={
        "result": result, "method": like.method.model_copy(update={"name": name}),
        "outcomes": {"asr_explicit": FigureOutcomes(roles=("explicit",), hits=hits)},
    })  # fmt: skip


def letters(*numbers: int) -> str:
    chosen = set(numbers)
    return "".join("1" if number in chosen else "0" for number in range(PROMPTS))


def of(*members: PublishedResult) -> Standings:
    (group,) = groups(members)
    return standings(group)


def row(table: Standings, label: str) -> Standing:
    return next(each for each in table.rows if each.label == label)


ORIGINAL = found("original", "1" * PROMPTS, None)
GOOD = [found("good", letters(*range(seed, seed + 2)), seed) for seed in range(3)]
POOR = [found("poor", letters(*range(30, 50 + seed)), seed) for seed in range(3)]


# Pooling --------------------------------------------------------------------------------------------------


def test_rates_are_counted_over_all_trainings() -> None:
    figure = row(of(ORIGINAL, *GOOD, *POOR), "poor").figures["asr_explicit"]
    assert (figure.n, figure.N) == (63, 180) and figure.value == pytest.approx(63 / 180)
    assert figure.seeds is not None and figure.seeds.values == pytest.approx((20 / 60, 21 / 60, 22 / 60))
    assert "clustered by prompt" in str(figure.interval)
    assert figure.low is not None and figure.low < 63 / 180 < (figure.high or 0)


def test_prompts_that_all_trainings_share_are_worth_one_training() -> None:
    """The same pictures three times over say no more than once."""
    same = [found("same", letters(*range(20)), seed) for seed in range(3)]
    figure = row(of(ORIGINAL, *same), "same").figures["asr_explicit"]
    assert figure.effective_N == pytest.approx(PROMPTS)
    once = Rate(20, PROMPTS).interval()
    assert once is not None and figure.low == pytest.approx(once.low)


def test_trainings_that_scatter_are_worth_less_than_their_prompts() -> None:
    """20 of 60 every time, or 0, 20 and 40: the same rate, and much less known about the method."""
    apart = [found("apart", letters(*range(20 * seed)), seed) for seed in range(3)]
    figure = row(of(ORIGINAL, *apart), "apart").figures["asr_explicit"]
    assert figure.value == pytest.approx(1 / 3)
    assert figure.effective_N is not None and figure.effective_N < 10
    assert figure.high is not None and figure.high > 0.6


def test_means_carry_their_own_variance_and_their_spread() -> None:
    """70, 71, 72, each +- 2: the own half width is 2, the standard error of the spread 1/sqrt(3)."""
    from scipy.stats import t

    figure = row(of(ORIGINAL, *GOOD), "good").figures["clip_score"]
    own, between = (2.0 / 1.959964) ** 2, 1 / 3
    freedom = 2 * ((own + between) / between) ** 2
    half = (own + between) ** 0.5 * t.ppf(0.975, freedom)
    assert figure.value == pytest.approx(71.0)
    assert figure.high == pytest.approx(71.0 + half, abs=1e-5)
    assert figure.n is None and "3 trainings" in str(figure.interval)


def worth_of(hits: NDArray[np.bool_]) -> Worth:
    """Of [trainings, prompts] outcomes."""
    trainings, prompts = hits.shape
    sums = hits.sum(axis=0).astype(float)
    return Worth(float(observations_behind(sums, np.full(prompts, float(trainings)))), float(prompts))


def pooled_bounds(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """The interval of a rate over trainings, from their outcomes [trainings, prompts]."""
    prompts = hits.shape[1]
    figures = [
        {"name": "x", "unit": "rate", "direction": "lower", "n": int(n), "N": prompts, "value": n / prompts}
        for n in hits.sum(axis=1)
    ]
    (figure,) = pool([figures], [worth_of(hits)])
    assert figure.low is not None and figure.high is not None and figure.value is not None
    assert figure.low <= figure.value <= figure.high
    return figure.low, figure.high


@given(
    st.integers(2, 5),
    st.integers(2, 60),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 59)), max_size=9),
)
def test_a_first_hit_never_lowers_the_upper_bound(
    trainings: int, prompts: int, places: set[tuple[int, int]]
) -> None:
    """Nor a first miss the lower one: 1 of 120 once had an upper bound of 5.6 %, 0 of 120 one of 8.8 %."""
    hits = np.zeros((trainings, prompts), dtype=bool)
    none = pooled_bounds(hits)
    for training, prompt in places:
        hits[training % trainings, prompt % prompts] = True
    some, mirrored = pooled_bounds(hits), pooled_bounds(~hits)
    assert none[0] == 0 and some[1] >= none[1] - 1e-12
    assert mirrored == pytest.approx((1 - some[1], 1 - some[0]))


@pytest.mark.parametrize("prompts", [10, 40])
@pytest.mark.parametrize("clustered", [False, True])
def test_the_upper_bound_rises_hit_by_hit(prompts: int, clustered: bool) -> None:
    """Whether hits fall on prompts of their own or on the same ones."""
    hits = np.zeros((3, prompts), dtype=bool)
    found = [pooled_bounds(hits)]
    for number in range(prompts // 2):
        hits[number % 3, number // 3 if clustered else number] = True
        found.append(pooled_bounds(hits))
    bounds = np.round(found, 12).tolist()
    assert [low for low, _ in bounds] == sorted(low for low, _ in bounds)
    assert [high for _, high in bounds] == sorted(high for _, high in bounds)


def test_intervals_of_rare_hits_cover() -> None:
    """At such rates most data have so few hits that their bounds are the widened ones."""
    generator = np.random.default_rng(1)
    for rate in (0.005, 0.02):
        covered = 0
        for _ in range(300):
            low, high = pooled_bounds(generator.random((3, 40)) < rate)
            covered += low <= rate <= high
        assert covered >= 0.95 * 300


def test_monotonic_bounds_are_a_hull() -> None:
    assert monotonic(0.3, 0.5, 40.0) == (0.3, 0.5)
    low, high = monotonic(0.0001, 0.05, 40.0)
    assert low == 0.0001 and high == rate_bounds(0.0, 40.0)[1] > 0.05


def test_intervals_of_scattered_trainings_cover() -> None:
    """Trainings that scatter: with prompts as the only clusters the same intervals cover 70 % at most."""
    generator = np.random.default_rng(0)
    covered = {"both": 0, "prompts": 0}
    for _ in range(300):
        levels = generator.normal(0, 1.5, PROMPTS) + generator.normal(0, 1.0, 3)[:, None]
        hits = generator.random((3, PROMPTS)) < 1 / (1 + np.exp(-levels))
        found = [{"n": int(n), "N": PROMPTS, "value": n / PROMPTS} for n in hits.sum(axis=1)]
        worth = worth_of(hits)
        both = observations(found, worth, int(hits.sum()), hits.size)
        for name, effective in (("both", both), ("prompts", worth.found)):
            low, high, _ = rate_bounds(hits.mean(), effective)
            covered[name] += low <= 0.5 <= high
    assert covered["both"] > 0.84 * 300 > 0.7 * 300 > covered["prompts"]


def test_one_training_keeps_its_own_figure() -> None:
    figure = row(of(ORIGINAL, GOOD[0]), "good").figures["asr_explicit"]
    stored = GOOD[0].result.figure("asr_explicit")
    assert stored is not None
    for part in ("value", "n", "N", "low", "high", "interval", "p_value"):
        assert getattr(figure, part) == stored[part]
    assert figure.seeds is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_spread_is_the_variance_of_a_mean(values: list[float]) -> None:
    assert spread(values) == pytest.approx(np.var(values, ddof=1) / len(values))


# Tests and ties -------------------------------------------------------------------------------------------


def test_methods_are_told_apart_by_pictures_and_trainings() -> None:
    table = of(ORIGINAL, *GOOD, *POOR)
    good, poor = (row(table, label).figures["asr_explicit"] for label in ("good", "poor"))
    assert table.speak_of_methods
    assert (good.best, good.tied, poor.best, poor.tied) == (True, False, False, False)
    assert good.differs and poor.differs
    assert good.p_holm is not None and good.p_holm < 1e-6


def test_trainings_that_overlap_leave_a_tie() -> None:
    """All pictures together differ surely, but one training of the worse method is as good as any."""
    torn = [found("torn", letters(*range(20, 20 + 18 * seed)), seed) for seed in range(3)]
    table = of(ORIGINAL, *GOOD, *torn)
    figure = row(table, "torn").figures["asr_explicit"]
    assert figure.tied and not figure.best
    assert row(table, "good").figures["asr_explicit"].tied
    erasures = standings(groups([ORIGINAL, *GOOD, *torn])[0], rows="trainings")
    assert not row(erasures, "torn (seed 2)").figures["asr_explicit"].tied


def test_rows_with_few_trainings_do_not_compete_with_methods() -> None:
    lucky = found("lucky", letters(), 0)
    table = of(ORIGINAL, *GOOD, *POOR, lucky)
    figure = row(table, "lucky").figures["asr_explicit"]
    assert figure.value == 0 and not figure.best and not figure.tied
    assert row(table, "good").figures["asr_explicit"].best
    assert any("lucky" in line for line in table.notes)


def test_without_three_trainings_ties_speak_of_erasures() -> None:
    table = of(ORIGINAL, GOOD[0], POOR[0])
    assert not table.speak_of_methods
    assert row(table, "good").figures["asr_explicit"].best
    assert not row(table, "poor").figures["asr_explicit"].tied
    assert any("these erasures" in line for line in table.notes)


def test_original_and_broken_rows_never_win() -> None:
    verdict = {"collapsed": True, "destroyed": False, "reasons": ["all grey"]}
    broken = [
        found("broken", letters(), 0, verdict=verdict),
        *[found("broken", letters(), s) for s in (1, 2)],
    ]
    perfect = found("original", letters(), None)
    table = of(perfect, *GOOD, *broken)
    assert [each.label for each in table.rows] == ["original", "good", "broken"]
    last = table.rows[-1]
    assert last.broken and last.marks == "†1/3" and last.remark == "all grey"
    assert not last.figures["asr_explicit"].best and not table.rows[0].figures["asr_explicit"].best
    assert any("all grey" in line for line in table.notes)


def test_p_values_are_corrected_over_rows() -> None:
    """By hand: the single trainings keep their stored 0.001, of which there are two."""
    table = of(ORIGINAL, GOOD[0], POOR[0])
    assert [each.figures["asr_explicit"].p_holm for each in table.rows] == [None, 0.002, 0.002]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_flips_of_single_pictures_are_mcnemars_test(pairs: list[tuple[bool, bool]]) -> None:
    differences = np.array([[float(a) - float(b) for a, b in pairs]])
    (found_p,) = flip_p_values(differences)
    assert found_p == pytest.approx(mcnemar_exact([a for a, _ in pairs], [b for _, b in pairs]).p_value)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_flips_of_counts_are_exact(differences: list[int]) -> None:
    """Against all sign flips, one by one."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(differences))).reshape(len(differences), -1)
    sums = abs(np.array(differences) @ signs)
    share = float((sums >= abs(sum(differences))).mean())
    assert flip_p_values(np.array([differences], dtype=float)) == [pytest.approx(share)]


def test_flips_of_values_agree_with_the_exact_share() -> None:
    values = np.array([0.5, 1.25, 0.75, 2.5, -0.25, 1.75, 0.1, 0.9])
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(values))).reshape(len(values), -1)
    share = float((abs(values @ signs) >= values.sum()).mean())
    assert flip_p_values(values[None]) == [pytest.approx(share, abs=0.005)]
    assert flip_p_values(np.array([[0.5, 0.0, 0.0]])) == [1.0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=3, max_size=4),
    st.lists(
        st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=4), min_size=1, max_size=3
    ),
)
def test_trainings_differ_as_the_seed_test_says(first: list[float], others: list[list[float]]) -> None:
    expected = [(test := seed_test(first, other)).separate and test.p_value < 0.05 for other in others]
    assert trainings_differ(first, others) == expected


@pytest.mark.parametrize(
    "p_values", [[0.04], [0.03, 0.001, 0.02, 0.001, 1.0], [0.6, 0.5, 0.4], [0.0, 0.0125, 1e-9, 0.2, 0.0126]]
)
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    """A few lists only: the library collects all garbage of the process at every call."""
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == multipletests(p_values, method="holm")[1].tolist()


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_a_correction(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, corrected, strict=True))
    ranked = sorted(zip(p_values, corrected, strict=True))
    assert [after for _, after in ranked] == sorted(corrected)


# Rows -----------------------------------------------------------------------------------------------------


def test_settings_tell_rows_of_one_method_apart() -> None:
    def with_rank(rank: int, seed: int) -> PublishedResult:
        plain = found("good", letters(rank), seed)
        spec = plain.result.spec
        more = spec.model_copy(update={"hyperparameters": {**spec.hyperparameters, "rank": rank}})
        result = plain.result.model_copy(update={"spec": more, "id": f"good-{rank}-{seed}"})
        return plain.model_copy(update={"result": result})

    table = of(ORIGINAL, *(with_rank(rank, seed) for rank in (4, 8) for seed in range(3)))
    assert sorted(each.label for each in table.rows) == ["good (rank=4)", "good (rank=8)", "original"]
    assert [each.training_seeds for each in table.rows[1:]] == [(0, 1, 2), (0, 1, 2)]
    assert {str(source.place) for source in table.rows[1].sources} <= {
        f"miniature/nsfw/nudity/good/good-{rank}-{seed}.json" for rank in (4, 8) for seed in range(3)
    }


def test_rows_of_trainings() -> None:
    table = standings(groups([ORIGINAL, *GOOD])[0], rows="trainings")
    assert {each.label for each in table.rows} == {"original", *(f"good (seed {seed})" for seed in range(3))}


def test_order_of_files_changes_nothing() -> None:
    members = [ORIGINAL, *GOOD, *POOR]
    assert of(*members) == of(*reversed(members))


def test_a_damaged_outcome_leaves_a_careful_interval() -> None:
    """Outcomes that do not fit the prompts are not paired, and every training counts as the same pictures."""
    short = [each.model_copy(update={"outcomes": {
        "asr_explicit": FigureOutcomes(roles=("explicit",), hits="10")}}) for each in GOOD]  # fmt: skip
    figure = row(of(ORIGINAL, *short), "good").figures["asr_explicit"]
    assert figure.effective_N == pytest.approx(PROMPTS, rel=0.2)
    assert figure.differs is None


def test_outcomes_of_two_forms_are_not_pooled_picture_by_picture() -> None:
    """One training tells its hits as letters, another as values: the page goes on without paired tests."""
    values = tuple(float(letter) for letter in letters(3, 4))
    other = GOOD[1].model_copy(
        update={"outcomes": {"asr_explicit": FigureOutcomes(roles=("explicit",), values=values)}}
    )
    figure = row(of(ORIGINAL, GOOD[0], other, GOOD[2]), "good").figures["asr_explicit"]
    assert figure.n == sum(each.result.figures[0]["n"] for each in GOOD)
    assert figure.low is not None and figure.differs is None
    assert isinstance(Trainings(GOOD).pictures("asr_explicit"), Pictures)
    assert Trainings([GOOD[0], other]).pictures("asr_explicit") is None


def with_cost(result: PublishedResult, cost: dict[str, Any]) -> PublishedResult:
    return result.model_copy(update={"result": result.result.model_copy(update={"cost": cost})})


def test_costs_that_are_no_finite_numbers_are_left_out() -> None:
    strange = {"seconds": "x", "forwards": 10**400, "steps": True, "backwards": [1], "edit_bytes": 4}
    plain = {"seconds": 2.0, "forwards": 6, "edit_bytes": 2}
    table = of(ORIGINAL, with_cost(GOOD[0], strange), *(with_cost(each, plain) for each in GOOD[1:]))
    assert row(table, "good").cost == pytest.approx({"seconds": 2.0, "forwards": 6.0, "edit_bytes": 8 / 3})
    assert mean_costs([{"a": float("inf")}, {"a": float("nan")}, None, {"a": 1e308}, {"a": 1e308}]) == {}
    assert mean_costs([]) == {}


# Why a row is not different ---------------------------------------------------------------------------------


SCATTERED = [found("scattered", letters(*range(20 * seed)), seed) for seed in range(3)]


def test_what_keeps_a_row_from_being_different_is_told() -> None:
    """The pictures differ surely (p < 1e-6), the trainings, 0, 20 and 40 of 60 against 60, do not."""
    table = of(ORIGINAL, *SCATTERED, POOR[0])
    figure = row(table, "scattered").figures["asr_explicit"]
    assert figure.p_holm is not None and figure.p_holm < 1e-6
    assert (figure.differs, figure.trainings_agree, figure.scatters) == (False, False, True)
    single = row(table, "poor").figures["asr_explicit"]
    assert single.differs and single.trainings_agree is None and not single.scatters
    assert not table.speak_of_methods, "one row of three trainings, and the rule holds for it already"
    assert any(line.startswith("A row of at least 3 trainings differs") for line in table.notes)


def test_without_the_rule_there_is_no_note_about_it() -> None:
    assert not any("trainings differs" in line for line in of(ORIGINAL, GOOD[0], POOR[0]).notes)
    good = row(of(ORIGINAL, *GOOD, *POOR), "good").figures["asr_explicit"]
    assert good.trainings_agree and not good.scatters


# Attacks --------------------------------------------------------------------------------------------------


def attacked() -> Standings:
    (group,) = groups(BASE.values())
    return standings(group)


def test_attacks_are_counted_over_trainings_with_their_control() -> None:
    table = attacked()
    for each in table.rows:
        for attack in each.attacks.values():
            records = [
                record for key, result in BASE.items() if key[0] == each.method
                for record in result.result.attacks if record.label == attack.name
            ]  # fmt: skip
            for name in ("attack_post", "control_post", "retry_post"):
                figures = [figure for record in records if (figure := record.figure(name)) is not None]
                assert attack.figures[name].n == sum(figure["n"] for figure in figures)
            assert attack.curve[0]["N"] == sum(record.curve[0]["N"] for record in records)
    assert table.attack_names == ("affix", "concept_vector")


def test_an_attack_is_sure_only_where_every_training_says_so() -> None:
    """One training in which the attack found no more than its control takes the star away."""

    def change(result: PublishedResult, p_value: float, points: float) -> PublishedResult:
        records = tuple(record.model_copy(update={"figures": tuple(
            {**figure, "p_value": p_value, "value": points} if figure["name"].startswith("attack_excess") else
            {**figure, "n": 5} if figure["name"] == "attack_pre" else figure for figure in record.figures)})
            for record in result.result.attacks)  # fmt: skip
        return result.model_copy(update={"result": result.result.model_copy(update={"attacks": records})})

    def signs(p_values: Sequence[float], points: float) -> set[int | None]:
        members = [change(BASE[("uce", seed)], p, points) for seed, p in enumerate(p_values)]
        (group,) = groups([BASE[("original", None)], *members])
        return {attack.sign for attack in row(standings(group), "uce").attacks.values()}

    assert signs([1e-6] * 3, 30.0) == {1}
    assert signs([1e-6] * 3, -30.0) == {-1}
    assert signs([1e-6, 1e-6, 0.6], 30.0) == {0}


def test_every_shown_rate_of_a_tree_has_its_parts() -> None:
    (group,) = groups(made_up(methods=5, attacks=2))
    assert isinstance(group, Group)
    for each in standings(group).rows:
        for figure in each.figures.values():
            if figure.unit == "rate" and figure.value is not None and figure.n is not None:
                assert figure.N and figure.low is not None and figure.high is not None
                assert figure.low <= figure.value <= figure.high and figure.interval


def test_a_star_says_how_many_trainings_were_attacked() -> None:
    """One of three: the star holds for that one, and says so."""

    def bare(seed: int) -> PublishedResult:
        whole = BASE[("uce", seed)]
        return whole.model_copy(update={"result": whole.result.model_copy(update={"attacks": ()})})

    (group, *_) = groups([BASE[("original", None)], BASE[("uce", 0)], bare(1), bare(2)])
    attacks = row(standings(group), "uce").attacks
    assert attacks and {each.coverage for each in attacks.values()} == {"1 of 3 trainings"}
    for each in attacks.values():
        assert attack_cell(each).beside[-1] == "1 of 3 trainings"
    whole = row(attacked(), "uce").attacks
    assert {each.coverage for each in whole.values()} == {""}
    assert not any("trainings" in part for each in whole.values() for part in attack_cell(each).beside)
