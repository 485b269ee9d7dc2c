"""Claims: every verdict comes out where it should, and only there."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.reproduction_tools import OPTIONS, Quality, measured
from zbench.reproduction.claims import Answer, Claim, answer, half_of_the_usual_loss, load_claims
from zbench.reproduction.effects import effect
from zbench.reproduction.grids import Options
from zbench.reproduction.pages import claims_page
from zbench.reproduction.rendering import claim_records, render_csv, render_markdown, render_rich
from zbench.reproduction.series import Series
from zbench.reproduction.tables import ORIGINAL, load_table

WHOLE = Quality()
GOOD = Quality(shown=0.2, clip=29.9, fid=10.05, acc_e=25.0, acc_ir=29.5)


def claim(name: str) -> Claim:
    return next(each for each in load_claims() if each.id == name)


def answered(
    name: str, rows: dict[str, Quality], others: Quality = GOOD, options: Options = OPTIONS
) -> Answer:
    """A claim on made-up rows; those that are not named are `others`."""

    def quality(row: str, concept: str) -> Quality:
        del concept
        return WHOLE if row == ORIGINAL else rows.get(row, others)

    return answer(claim(name), cache(lambda table: measured(table, quality, options)))


def test_every_claim_names_rows_and_columns_that_exist() -> None:
    claims = load_claims()
    assert len(claims) >= 20 and len({each.id for each in claims}) == len(claims)
    for each in claims:
        assert bool(each.parts) != bool(each.unmeasured), each.id
        for part in each.parts:
            table = load_table(part.table)
            table.row(part.row)
            columns = table.column(part.column), table.column(part.than_column or part.column)
            assert all("world" in column.figure for column in columns), each.id
            for other in part.than:
                assert other == ORIGINAL or table.row(other)
            assert part.kind in ("broken", "intact") or part.than, each.id


def test_what_the_papers_table_shows_agrees_with_the_claims() -> None:
    """The direction of every claim that the paper's own numbers can speak of."""
    spoken_of = 0
    for part in (part for each in load_claims() for part in each.parts if part.kind in ("higher", "lower")):
        table = load_table(part.table)
        for other in part.than:
            first = table.paper(part.row, part.column)
            second = table.paper(other, part.than_column or part.column)
            if first is not None and second is not None:
                spoken_of += 1
                assert (first > second) == (part.kind == "higher"), (part, other)
    assert spoken_of > 60


def test_a_difference_like_the_papers_holds_and_its_reverse_does_not() -> None:
    more, less, name = replace(GOOD, shown=0.5), replace(GOOD, shown=0.2), "erase-anything-under-erases"
    assert answered(name, {"erase_anything": more, "zerase": less}).verdict == "holds"
    assert answered(name, {"erase_anything": less, "zerase": more}).verdict == "does not hold"


def test_no_difference_refutes_a_large_claim() -> None:
    """Token zeroing that typos do nothing to: the interval around 0 excludes what the claim needs."""
    same = replace(GOOD, shown=0.1, attacked={"typo": 0.1})
    found = answered("token-zeroing-breaks-under-typos", {"token_zeroing": same}, same)
    assert found.verdict == "does not hold"
    broken_by_typos = replace(same, attacked={"typo": 0.8})
    held = answered("token-zeroing-breaks-under-typos", {"token_zeroing": broken_by_typos}, same)
    assert held.verdict == "holds"


def test_a_small_difference_is_undecided() -> None:
    found = answered("attention-loss-helps", {"full": GOOD, "erase_attn": GOOD}, replace(GOOD, shown=0.25))
    assert found.verdict == "undecided" and all(each.effect for each in found.findings)


def test_one_training_says_nothing_of_a_method() -> None:
    rows = {"erase_anything": replace(GOOD, shown=0.9)}
    found = answered("erase-anything-under-erases", rows, options=Options("miniature", training_seeds=1))
    assert found.verdict == "undecided" and "1 of 3 trainings" in found.findings[0].reason
    assert found.findings[0].effect is not None


def test_trainings_that_overlap_decide_nothing() -> None:
    """The pictures differ surely, the trainings do not: which is what a lucky seed looks like."""
    rows = {"erase_anything": Quality(shown=0.5, spread=0.9), "zerase": Quality(shown=0.3, spread=0.9)}
    assert answered("erase-anything-under-erases", rows).verdict == "undecided"


def test_nothing_measured_is_undecided() -> None:
    def nothing(row: str, concept: str) -> None:
        del row, concept

    tables = cache(lambda table: measured(table, nothing))
    for each in load_claims():
        found = answer(each, tables)
        assert found.verdict == "undecided", each.id
        assert all(finding.reason for finding in found.findings), each.id


@pytest.mark.parametrize(("collapsed", "verdict"), [(True, "holds"), (False, "does not hold")])
def test_collapse_is_read_from_verdict_and_rate(collapsed: bool, verdict: str) -> None:
    rows = {"all_rows": replace(GOOD, collapsed=collapsed)}
    assert answered("all-rows-collapse", rows).verdict == verdict
    assert answered("text-rows-intact", {"zerase": replace(GOOD, collapsed=not collapsed)}).verdict == verdict


def test_a_broken_generator_cannot_win() -> None:
    blank = replace(GOOD, shown=0.0, collapsed=True)
    beaten = answered("erase-anything-under-erases", {"zerase": blank}, replace(GOOD, shown=0.5))
    assert beaten.verdict == "undecided" or beaten.findings[0].effect is not None
    best = answered("zerase-least-nudity-but-uce", {"zerase": blank}, replace(GOOD, shown=0.5))
    assert best.verdict == "does not hold" and "broken" in best.findings[0].reason
    rivals = answered("zerase-least-nudity-but-uce", {"zerase": GOOD}, blank)
    assert rivals.verdict == "holds"


def test_what_is_kept_is_measured_against_what_the_paper_loses() -> None:
    margin = half_of_the_usual_loss(load_table("nsfw"), "clip_nudity", but="zerase")
    assert margin == pytest.approx(100 * (31.47 - 29.05) / 31.47 / 2)
    name = "zerase-keeps-utility"
    assert answered(name, {"zerase": GOOD}).verdict == "holds"
    assert answered(name, {"zerase": replace(GOOD, clip=WHOLE.clip * 0.8)}).verdict == "does not hold"
    near = replace(GOOD, clip=WHOLE.clip * (1 - margin / 100))
    assert answered(name, {"zerase": near}).verdict == "undecided"


def test_better_than_kept_is_kept() -> None:
    assert answered("zerase-keeps-utility", {"zerase": replace(GOOD, clip=33.0, fid=8.0)}).verdict == "holds"
    changed = {"beta_small": replace(GOOD, clip=33.0), "full": GOOD}
    assert answered("beta-hardly-matters", changed).verdict == "does not hold"


def test_the_page_of_claims_gives_every_verdict_with_its_test() -> None:
    names = ("erase-anything-under-erases", "carries-over-to-hunyuanimage")
    answers = [answered(name, {"erase_anything": replace(GOOD, shown=0.5)}) for name in names]
    page = claims_page(answers, "miniature (revision 1)", "world")
    text = render_markdown([page])
    assert "holds 1, does not hold 0, undecided 1" in text and "no evidence about Z-Image" in text
    assert "Nudity: EraseAnything - Z-Erase | +20.5 | +33.3 [" in text
    assert "over training seeds, McNemar" in text or "over training seeds, sign flips" in text
    assert "the catalogue has no such model" in text
    console = Console(width=200, file=io.StringIO())
    console.print(render_rich([page]))
    assert "+33.3 [" in console.file.getvalue()  # type: ignore[attr-defined]
    lines = claim_records(answers)
    assert [each["verdict"] for each in lines] == ["holds", "undecided"]
    assert render_csv(lines).count("\n") == 3


def series(values: list[float], pictures: list[list[float]] | None = None) -> Series:
    prompts = [("prompt", place) for place in range(len(pictures[0]))] if pictures else []
    mean = sum(values) / len(values)
    own = (pictures, prompts) if pictures else None
    return Series(mean, mean - 1, mean + 1, tuple(values), False, None, 10, True, ("nudity",), own)


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
