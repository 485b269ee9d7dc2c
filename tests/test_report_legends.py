"""What the page says of its marks and counts is what they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.synthetic_results import Plan, results, write_results
from tests.test_report_site import Page
from zbench.report.site.build import build_site
from zbench.report.site.costs import costs_of
from zbench.report.site.group_page import GroupPage, group_page_of
from zbench.report.site.rendering import render
from zbench.report.standing import AttackStanding, Standing, StandingFigure
from zbench.report.standings import Standings, standings
from zbench.report.tables.overview import entry_of, family_document
from zbench.results.groups import Group, groups
from zbench.results.schema import PublishedResult

PLAN = Plan(methods=4, concepts=2, seeds=3, attacks=2, sprites=True)
BASE = [result for result, _ in results(PLAN)]
AGREE = "A row of at least 3 trainings differs from original only where these do, too"


def nudity() -> tuple[Group, Standings]:
    group = next(group for group in groups(BASE) if group.concept.name == "nudity")
    return group, standings(group)


def page_of(found: Standings, group: Group) -> str:
    page: GroupPage = group_page_of(group, found)
    return render("group.html.j2", page.place, page=page)


def with_row(found: Standings, change: Callable[[Standing], Standing]) -> Standings:
    """With the row of `uce` changed."""
    rows = tuple(change(row) if row.label == "uce" else row for row in found.rows)
    return replace(found, rows=rows)


def under_attack(**fields: Any) -> Callable[[Standing], Standing]:
    def change(row: Standing) -> Standing:
        attacks: dict[str, AttackStanding] = {
            name: replace(attack, **fields) for name, attack in row.attacks.items()
        }
        return replace(row, attacks=attacks)

    return change


def ladder_row(text: str) -> str:
    section = text.split('id="robustness"')[1].split("</section>")[0]
    return next(body for body in section.split("<tbody") if 'data-method="row-uce"' in body)


def legend(text: str, section: str) -> str:
    whole = text.split(f'id="{section}"')[1].split("</section>")[0]
    return whole.split('<ul class="legend">')[1].split("</ul>")[0]


def with_figure(change: Callable[[StandingFigure], StandingFigure]) -> Callable[[Standing], Standing]:
    def made(row: Standing) -> Standing:
        return replace(row, figures={**row.figures, "asr_explicit": change(row.figures["asr_explicit"])})

    return made


# Tests ------------------------------------------------------------------------------------------------------


def test_ns_beside_a_small_p_is_explained() -> None:
    group, found = nudity()
    torn = with_figure(lambda figure: replace(figure, p_holm=9.5e-7, differs=False, trainings_agree=False))
    text = page_of(with_row(found, torn), group)
    (how,) = (how for how in re.findall(r'data-how="(.*?)"', text) if "9.5e-07" in how)
    assert "p = 9.5e-07 over prompts against the original, Holm-corrected over rows" in how
    assert "; but its trainings scatter too much to say so of the method: ns" in how
    assert text.count("scatter too much") == 1
    surely = with_figure(lambda figure: replace(figure, p_holm=0.4, differs=False, trainings_agree=False))
    assert "scatter too much" not in page_of(with_row(found, surely), group)


def test_no_legend_says_that_rows_are_equal(tmp_path: Path) -> None:
    write_results(tmp_path / "results", BASE)
    build_site(tmp_path / "results", tmp_path / "site", workers=1)
    for path in (tmp_path / "site").rglob("*.html"):
        text = path.read_text("utf-8")
        assert "does not surely differ" not in text and "</b> does not" not in text
        if 'class="marks"' in text:
            assert "not shown to differ" in text, path
            assert "<b>=</b> not surely worse" in text, path


def test_a_family_says_that_trainings_must_agree() -> None:
    group, found = nudity()
    (sheet,) = family_document([entry_of(group, found, "x")]).sheets
    assert any(line.startswith(AGREE) for line in sheet.notes)
    one = standings(groups(each for each in BASE if each.result.spec.training_seed in (None, 0))[0])
    (plain,) = family_document([entry_of(group, one, "x")]).sheets
    assert not any(line.startswith(AGREE) for line in plain.notes)


# Attacks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "mark", "title"),
    [
        (1, "★", "surely more than control and retries in every attacked training"),
        (-1, "☆", "surely less than control and retries in every attacked training"),
        (0, "ns", "tested, and not shown to be more than control and retries"),
        (None, "", ""),
    ],
)
def test_a_rung_says_whether_it_was_tested(sign: int | None, mark: str, title: str) -> None:
    group, found = nudity()
    text = page_of(with_row(found, under_attack(sign=sign)), group)
    marks = re.findall(r'<abbr class="marks" title="(.*?)">(.*?)</abbr>', ladder_row(text))
    assert marks == ([(title, mark)] * 2 if mark else [])
    if mark:
        assert f"<b>{mark}</b>" in legend(text, "robustness")


def test_a_rung_says_how_many_trainings_were_attacked() -> None:
    group, found = nudity()
    some = page_of(with_row(found, under_attack(attacked=1, trainings=3)), group)
    assert "<span>1 of 3 trainings</span>" in ladder_row(some)
    assert '["attacked", "1 of 3 trainings"]' in unescape(ladder_row(some))
    assert "of 3 trainings" not in ladder_row(page_of(found, group))


# Counts and titles ------------------------------------------------------------------------------------------


def test_the_gallery_counts_what_it_shows() -> None:
    group, found = nudity()
    text = page_of(found, group)
    for block in text.split('<details class="winners"')[1:]:
        figures = re.findall(r"<figure.*?>", block.split("</details>")[0])
        shown = sum(" hidden" not in figure for figure in figures)
        assert 0 < shown < len(figures)
        assert f"<span data-winners>{shown} of {len(figures)} pictures</span>" in block


def counted(result: PublishedResult) -> PublishedResult:
    """With a count as the leading figure, as the paper's protocol has it."""
    count = {
        **next(each for each in result.result.figures if each["name"] == "fid"),
        "name": "count_explicit:total_groups", "unit": "count", "direction": "lower", "value": 12.0,
        "low": 8.0, "high": 17.0,
    }  # fmt: skip
    shown = ("count_explicit:total_groups", "clip_score")
    figures = (count, *result.result.figures)
    return result.model_copy(
        update={"result": result.result.model_copy(update={"figures": figures, "shown": shown})}
    )


def matrix_title(folder: Path, members: list[PublishedResult]) -> str:
    write_results(folder / "results", members)
    build_site(folder / "results", folder / "site", workers=1)
    text = (folder / "site" / "index.html").read_text("utf-8")
    return str(re.findall(r'class="matrix-title".*?>(.*?)</h3>', text)[0]).strip()


def test_a_matrix_is_called_what_it_shows(tmp_path: Path) -> None:
    counts = [counted(result) for result in BASE]
    assert matrix_title(tmp_path / "rates", BASE) == "Found, explicit, %"
    assert matrix_title(tmp_path / "counts", counts) == "Total, explicit"
    mixed = [new if new.concept.name == "nudity" else old for new, old in zip(counts, BASE, strict=True)]
    assert matrix_title(tmp_path / "mixed", mixed) == "The leading figure of each concept"


PARTS = ("gallery", "results", "bubble", "viewer", "main", "results-title", "uce--t0", "row-uce", "methods")
"""Names of methods that are parts of a page, too."""


def test_methods_may_be_called_like_parts_of_a_page(tmp_path: Path) -> None:
    own = [each for each in BASE if each.method.name == "uce" and each.concept.name == "nudity"]
    others = []
    for name in PARTS:
        for each in own:
            spec = each.result.spec.model_copy(update={"method": name})
            result = each.result.model_copy(update={"id": f"{name}-{each.id}", "spec": spec})
            method = each.method.model_copy(update={"name": name})
            others.append(each.model_copy(update={"result": result, "method": method}))
    write_results(tmp_path / "results", [*BASE, *others])
    assert not build_site(tmp_path / "results", tmp_path / "site", workers=1).groups < 2
    for path in (tmp_path / "site").rglob("*.html"):
        ids = Page(path.read_text("utf-8")).ids
        assert len(ids) == len(set(ids)), path


# One bad result ---------------------------------------------------------------------------------------------


def test_strange_costs_take_no_page_down() -> None:
    group, found = nudity()
    strange = {"seconds": 0.0, "forwards": -3.0, "steps": 4.0}
    rows = tuple(replace(row, cost=strange) for row in found.rows)
    page = group_page_of(group, replace(found, rows=rows))
    costs = costs_of(list(zip(page.table.rows, rows, strict=True)))
    assert costs is not None and {cell.share for _, cells in costs.rows for cell in cells} <= {"0", "100"}
    worst: list[PublishedResult] = []
    for number, each in enumerate(group.results):
        result = each.result.model_copy(update={"cost": {"seconds": "x" if number % 2 else 1.0}})
        worst.append(each.model_copy(update={"result": result}))
    (bad,) = groups(worst)
    assert "x s" not in page_of(standings(bad), bad)
