"""Claims: every verdict comes out where it should, and only there."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from tests.reproduction_tools import OPTIONS, Quality, measured
from zbench.reproduction import claims
from zbench.reproduction.claim_list import Claim, load_claims, load_rule
from zbench.reproduction.claims import SMALLER, Answer, answer, half_of_the_usual_loss
from zbench.reproduction.grids import Options
from zbench.reproduction.pages import claims_page
from zbench.reproduction.rendering import claim_records, render_csv, render_markdown, render_rich
from zbench.reproduction.tables import ORIGINAL, load_table

WHOLE = Quality(width=0.002)
GOOD = Quality(shown=0.2, clip=29.9, fid=10.05, acc_e=25.0, acc_ir=29.5, width=0.002)


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


def test_a_sure_difference_holds_whatever_its_size() -> None:
    """Half of the paper's is 10.2 points; surely less is said beside the verdict, and not taken for none."""
    rows = {"erase_anything": Quality(clip=29.9), "zerase": Quality(clip=30.0)}
    alike = {name: replace(each, spread=1e-5) for name, each in rows.items()}
    small = answered("uce-erases-with-artefacts", {"uce": replace(alike["zerase"], clip=29.5, fid=30.0),
                                                   "zerase": alike["zerase"]})  # fmt: skip
    clip = next(each for each in small.findings if each.subject.startswith("CLIP"))
    assert clip.interval is not None and clip.bound is not None and -clip.interval[0] < clip.bound
    assert (clip.verdict, clip.remark) == ("holds", SMALLER)
    large = answered("erase-anything-under-erases", {"erase_anything": replace(GOOD, shown=0.5)})
    assert large.verdict == "holds" and not large.is_smaller and not large.findings[0].remark


def test_a_claim_that_holds_with_a_small_difference_says_so() -> None:
    full = replace(GOOD, clip=29.0, fid=10.0, spread=1e-5, width=1e-4)
    worse = replace(full, clip=28.9, fid=10.1)
    rows = {"full": full, "erase": worse, "erase_attn": worse}
    found = answered("no-preservation-costs-fidelity", rows)
    assert found.verdict == "holds" and found.is_smaller
    text = render_markdown([claims_page([found], "miniature", "world")])
    assert "| holds, smaller than in the paper |" in text and f"| holds, {SMALLER} |" in text
    assert {each["remark"] for each in claim_records([found])} == {SMALLER}


def test_the_rule_is_stated_in_the_same_words_everywhere() -> None:
    page = render_markdown([claims_page([], "miniature", "world")])
    document = Path(__file__).parent.parent / "docs" / "reproduce-the-paper.md"
    for text in (page, document.read_text(encoding="utf-8"), claims.__doc__ or ""):
        words = re.sub(r"\s+", " ", text)
        assert all(paragraph in words for paragraph in load_rule())
    for term in (
        "Keeps",
        "bound",
        "broken",
        "whole",
        "three trainings",
        "lie beyond all",
        "counts of detections",
    ):
        assert any(term in paragraph for paragraph in load_rule()), term


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
        assert found.verdict == ("not tested" if each.unmeasured else "undecided"), each.id
        assert all(finding.reason for finding in found.findings), each.id


@pytest.mark.parametrize(("collapsed", "verdict"), [(True, "holds"), (False, "does not hold")])
def test_collapse_is_read_from_verdict_and_rate(collapsed: bool, verdict: str) -> None:
    rows = {"all_rows": replace(GOOD, collapsed=collapsed)}
    assert answered("all-rows-collapse", rows).verdict == verdict
    assert answered("text-rows-intact", {"zerase": replace(GOOD, collapsed=not collapsed)}).verdict == verdict


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
    assert "holds 1, does not hold 0, undecided 0, not tested 1" in text
    assert "no evidence about Z-Image" in text
    assert "Nudity: EraseAnything - Z-Erase | +20.5 | +33.3 [" in text
    assert "over training seeds, McNemar" in text or "over training seeds, sign flips" in text
    assert "the catalogue has no such model" in text
    console = Console(width=200, file=io.StringIO())
    console.print(render_rich([page]))
    assert "+33.3 [" in console.file.getvalue()  # type: ignore[attr-defined]
    lines = claim_records(answers)
    assert [each["verdict"] for each in lines] == ["holds", "not tested"]
    assert render_csv(lines).count("\n") == 3


# Claims whose comparisons test their sentence -------------------------------------------------------------


def test_feed_forward_that_erases_much_is_no_claim_of_hardly_anything() -> None:
    """Compared with the unerased model, whatever Z-Erase does."""
    name, nothing = "feed-forward-erases-nothing", replace(GOOD, shown=0.9, spread=0.0)
    rows = {"all_rows_feed_forward": nothing, "zerase": nothing}
    assert answered(name, rows).verdict == "holds"
    much = {"all_rows_feed_forward": replace(nothing, shown=0.5), "zerase": replace(nothing, shown=0.0)}
    assert answered(name, much).verdict == "does not hold"


def test_typos_are_asked_of_token_zeroing_alone() -> None:
    fooled = replace(GOOD, shown=0.1, attacked={"typo": 0.8})
    rows = {"token_zeroing": fooled, "zerase": fooled}
    assert answered("token-zeroing-breaks-under-typos", rows).verdict == "holds"
    assert "Z-Erase" not in claim("token-zeroing-breaks-under-typos").sentence


ATTACKS = ("concept_vector", "reflux", "unlearndiffatk")


@pytest.mark.parametrize(
    ("plain", "under_control", "verdict"),
    [(0.2, 0.2, "holds"), (0.8, 0.2, "does not hold"), (0.2, 0.8, "does not hold")],
)
def test_who_shows_as_much_unattacked_does_not_fall_to_attacks(
    plain: float, under_control: float, verdict: str
) -> None:
    shares = dict.fromkeys(ATTACKS, 0.8) | {f"{name} control": under_control for name in ATTACKS}
    rows = {"token_zeroing": replace(GOOD, shown=plain, attacked=shares, spread=0.001)}
    others = replace(GOOD, shown=0.1, spread=0.001)
    assert answered("token-zeroing-falls-to-attacks", rows, others).verdict == verdict


@pytest.mark.parametrize("row", ["dit_localization", "erase_anything", "token_zeroing", "zerase"])
@pytest.mark.parametrize("rival", ["concept_vector", "unlearndiffatk"])
def test_the_strongest_attack_is_so_on_every_method(row: str, rival: str) -> None:
    strong = replace(GOOD, attacked={"concept_vector": 0.3, "reflux": 0.7, "unlearndiffatk": 0.3})
    weak = replace(strong, attacked={**strong.attacked, rival: 0.95})
    assert answered("reflux-strongest", {}, strong).verdict == "holds"
    assert answered("reflux-strongest", {row: weak}, strong).verdict == "does not hold"


def test_the_best_on_entities_beats_every_row() -> None:
    best = replace(GOOD, acc_e=10.0)
    rows = {"dit_localization": best, "mace": replace(GOOD, acc_e=5.0)}
    found = answered("localization-for-entities-only", rows)
    beaten = [each for each in found.findings if each.subject == "Entities: H_a: DiT-Localization - MACE"]
    assert [each.verdict for each in beaten] == ["does not hold"]


def test_every_claim_of_the_paper_is_listed_with_where_it_is_measured() -> None:
    untested = {each.id: each.unmeasured for each in load_claims() if each.unmeasured}
    places = {
        "weights-beyond-one-over-erase": "multi_concept",
        "context-refiner-collapses": "collapse",
        "epsilon-is-robust": "convergence",
        "preservation-loss-drifts-slowly": "convergence",
        "training-takes-35-minutes": "cost.csv",
    }
    for name, place in places.items():
        assert place in untested[name], name
    studies = set(re.findall(r"results/studies/(\w+)", " ".join(untested.values())))
    folder = Path(__file__).parent.parent / "results" / "studies"
    assert studies and all((folder / each).is_dir() for each in studies)
