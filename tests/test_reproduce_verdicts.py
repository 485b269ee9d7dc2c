"""Broken generators, missing rows and missing trainings: nothing is won by default."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reproduction_tools import OPTIONS, Quality, measured
from tests.test_reproduce_claims import GOOD, WHOLE, answered, claim
from zbench.reproduction.claims import answer
from zbench.reproduction.grids import Options
from zbench.reproduction.tables import ORIGINAL
from zbench.reproduction.verdicts import Broken, where_broken

MORE, LESS = replace(GOOD, shown=0.5), replace(GOOD, shown=0.2)
BLANK = replace(GOOD, shown=0.0, collapsed=True)
LEAST = "zerase-least-nudity-but-uce"


def verdict(name: str, others: Quality | None, options: Options = OPTIONS, **rows: Quality | None) -> str:
    """Of a claim on made-up rows, of which None is not measured."""

    def quality(row: str, concept: str) -> Quality | None:
        del concept
        return WHOLE if row == ORIGINAL else rows.get(row, others)

    return answer(claim(name), lambda table: measured(table, quality, options)).verdict


# First both rows, with three trainings each ---------------------------------------------------------------


@pytest.mark.parametrize("name", [LEAST, "celebrities-best-balance"])
def test_broken_rivals_decide_nothing_where_the_row_is_not_measured(name: str) -> None:
    assert verdict(name, BLANK, zerase=None) == "undecided"


@pytest.mark.parametrize(("zerase", "others"), [(replace(GOOD, shown=0.9), BLANK), (BLANK, MORE)])
def test_one_training_decides_nothing_about_broken_ones_either(zerase: Quality, others: Quality) -> None:
    assert verdict(LEAST, others, Options("miniature", training_seeds=1), zerase=zerase) == "undecided"


# Then whole generators ------------------------------------------------------------------------------------


def test_a_broken_generator_cannot_win() -> None:
    best = answered(LEAST, {"zerase": BLANK}, MORE)
    assert best.verdict == "does not hold" and "broken" in best.findings[0].reason
    assert best.findings[0].effect is not None
    assert verdict(LEAST, MORE, zerase=replace(GOOD, shown=0.0, collapsed_in=(1,))) == "undecided"


def test_rivals_that_are_broken_in_all_trainings_have_lost() -> None:
    assert verdict(LEAST, BLANK, zerase=GOOD) == "holds"
    mixed = Quality(shown=0.0, collapsed_in=(1,))
    assert verdict(LEAST, mixed, zerase=replace(GOOD, shown=0.8)) == "undecided"


@pytest.mark.parametrize(
    "name", ["ac-under-erases", "erase-anything-under-erases", "token-zeroing-falls-to-attacks"]
)
@pytest.mark.parametrize(("broken", "expected"), [((0, 1, 2), "does not hold"), ((1,), "undecided")])
def test_a_broken_generator_cannot_win_from_the_other_side(
    name: str, broken: tuple[int, ...], expected: str
) -> None:
    attacks = dict.fromkeys(("concept_vector", "reflux", "unlearndiffatk"), 0.9)
    controls = {f"{attack} control": 0.2 for attack in attacks}
    fallen = replace(GOOD, shown=0.5, attacked=attacks | controls)
    whole = replace(GOOD, shown=0.0, attacked=dict.fromkeys(attacks, 0.0))
    rows = {"zerase": replace(whole, collapsed_in=broken)}
    assert answered(name, {"zerase": whole}, fallen).verdict == "holds"
    assert answered(name, rows, fallen).verdict == expected


@pytest.mark.parametrize(
    ("broken", "expected"), [((), "holds"), ((0, 1, 2), "does not hold"), ((2,), "undecided")]
)
def test_a_broken_generator_keeps_nothing(broken: tuple[int, ...], expected: str) -> None:
    assert verdict("zerase-keeps-utility", GOOD, zerase=replace(GOOD, collapsed_in=broken)) == expected


def test_what_is_like_a_broken_setting_is_not_kept() -> None:
    alike = replace(GOOD, spread=0.001)
    assert verdict("beta-hardly-matters", alike) == "holds"
    assert verdict("beta-hardly-matters", alike, full=replace(alike, collapsed=True)) == "undecided"


def test_a_claim_that_grants_the_damage_counts_the_erasing() -> None:
    """UCE erases, at the cost of the pictures: that its generator breaks is part of what is claimed."""
    broken = Quality(shown=0.0, clip=20.0, fid=30.0, collapsed=True)
    assert verdict("uce-erases-with-artefacts", GOOD, uce=broken) == "holds"


def test_claims_about_breakage_itself_stay_as_they_are() -> None:
    assert verdict("all-rows-collapse", GOOD, all_rows=BLANK) == "holds"
    assert verdict("all-rows-collapse", GOOD, all_rows=replace(GOOD, collapsed_in=(0,))) == "undecided"
    assert verdict("text-rows-intact", GOOD, zerase=BLANK) == "does not hold"


@pytest.mark.parametrize(
    ("favoured", "other", "keeps", "expected"),
    [
        ((0, 3), (0, 3), False, None),
        ((3, 3), (3, 3), False, "does not hold"),
        ((1, 3), (3, 3), False, "undecided"),
        ((0, 3), (3, 3), False, "holds"),
        ((0, 3), (2, 3), False, "undecided"),
        ((0, 3), (3, 3), True, "undecided"),
    ],
)
def test_what_broken_generators_decide(
    favoured: tuple[int, int], other: tuple[int, int], keeps: bool, expected: str | None
) -> None:
    found = where_broken(Broken(*favoured), Broken(*other), keeps=keeps)
    assert (found[0] if found else None) == expected
