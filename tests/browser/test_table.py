"""Sorting, filtering and asking what a figure rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import pytest

from tests.browser.conftest import FAMILY, GROUP, Open

if TYPE_CHECKING:
    from playwright.sync_api import Page

MAIN = "table.results"


@pytest.fixture
def group(site: Path, visit: Open) -> Page:
    return visit(site / GROUP)


def labels(page: Page, table: str = MAIN, only: str = "tbody") -> list[str]:
    """Labels of the rows that can be seen, in order."""
    found: list[str] = page.eval_on_selector_all(
        f"{table} > {only}", "bodies => bodies.filter(b => b.offsetParent).map(b => b.dataset.label)"
    )
    return found


def values(page: Page, name: str, table: str = MAIN) -> list[float]:
    """A column's numbers in the rows that compete."""
    found: list[float] = page.evaluate(
        """([table, name]) => {
            const head = document.querySelector(`${table} th[data-name="${name}"]`);
            return [...document.querySelectorAll(`${table} > tbody.done`)]
                .map(body => Number(body.rows[0].cells[head.cellIndex].dataset.v));
        }""",
        [table, name],
    )
    return found


def head(name: str) -> str:
    return f'{MAIN} th[data-name="{name}"]'


@pytest.mark.parametrize("name", ["asr_explicit", "object_accuracy", "fid"])
def test_a_click_sorts_best_first_and_another_one_turns_it(group: Page, name: str) -> None:
    column = group.locator(head(name))
    lower_is_better = column.get_attribute("data-better") == "lower"
    column.locator(".sort").click()
    first = values(group, name)
    assert len(set(first)) > 1 and first == sorted(first, reverse=not lower_is_better)
    assert column.get_attribute("aria-sort") == ("ascending" if lower_is_better else "descending")
    column.locator(".sort").click()
    assert values(group, name) == first[::-1] or values(group, name) == sorted(first, reverse=lower_is_better)
    assert group.locator(f"{MAIN} th[aria-sort]").count() == 1


def test_a_broken_generator_never_leads_whatever_is_sorted(group: Page) -> None:
    buttons = group.locator(f"{MAIN} thead .sort")
    for number in range(buttons.count()):
        for _ in range(2):
            buttons.nth(number).click()
            order = labels(group)
            assert order[0] == "original" and order[-1] == "naive", order


def test_sorting_by_name_with_the_keyboard(group: Page) -> None:
    button = group.locator(f"{MAIN} thead .sort").first
    button.focus()
    group.keyboard.press("Enter")
    names = labels(group, only="tbody.done")
    assert names == sorted(names) and len(names) == 4
    group.keyboard.press("Space")
    assert labels(group, only="tbody.done") == names[::-1]


def test_filtering_by_name_leaves_what_matches(group: Page) -> None:
    box = group.locator("[data-filter]")
    box.fill("ZER")
    assert labels(group) == ["token_zeroing", "zerase"] or set(labels(group)) == {"token_zeroing", "zerase"}
    assert "2 of 6" in group.locator("[data-count]").inner_text()
    assert set(labels(group, "table.ladder")) == {"token_zeroing", "zerase"}
    box.fill("nothing like it")
    assert labels(group) == []
    box.fill("")
    assert len(labels(group)) == 6


def test_broken_rows_can_be_hidden(group: Page) -> None:
    assert "naive" in labels(group)
    group.locator("[data-hide-broken]").check()
    assert "naive" not in labels(group) and len(labels(group)) == 5
    group.locator("[data-hide-broken]").uncheck()
    assert "naive" in labels(group)


def test_a_figure_says_what_it_rests_on_and_leads_to_its_files(group: Page) -> None:
    cell = group.locator(f'{MAIN} > tbody[data-method="row-uce"] a.figure').first
    shown = cell.inner_text()
    cell.click()
    bubble = group.locator("#bubble")
    assert bubble.is_visible() and shown in bubble.inner_text()
    places = [link.evaluate("a => a.href") for link in bubble.locator("a").all()]
    assert len(places) == 3, "three trainings"
    for place in places:
        content = json.loads(Path(unquote(urlparse(place).path)).read_text())
        assert content["method"]["name"] == "uce" and content["concept"]["name"] == "nudity"
    group.keyboard.press("Escape")
    assert not bubble.is_visible()
    assert cell.evaluate("a => a === document.activeElement"), "the focus is lost"


def test_trainings_open_below_their_row(group: Page) -> None:
    button = group.locator(f'{MAIN} > tbody[data-method="row-uce"] .expand')
    rows = group.locator(f'{MAIN} > tbody[data-method="row-uce"] tr.training')
    assert rows.count() == 3 and not rows.first.is_visible()
    button.press("Enter")
    assert rows.first.is_visible() and button.get_attribute("aria-expanded") == "true"
    assert Path(unquote(urlparse(rows.first.locator("th a").evaluate("a => a.href")).path)).is_file()
    button.press("Enter")
    assert not rows.first.is_visible()


def test_a_link_to_a_training_opens_it(site: Path, visit: Open) -> None:
    page = visit(site / GROUP, "#training-1-of-row-uce")
    assert page.locator("#training-1-of-row-uce").is_visible()


def test_the_family_table_sorts_and_filters(site: Path, visit: Open) -> None:
    page = visit(site / FAMILY)
    table = "table.sortable"
    page.locator(f"{table} thead .sort").nth(1).click()
    assert page.locator(f"{table} th[aria-sort]").count() == 1
    page.locator("[data-filter]").fill("uce")
    assert page.locator(f"{table} > tbody:visible .method").all_text_contents() == ["uce"]


def test_choosing_figures_changes_the_plane(group: Page) -> None:
    planes = group.locator("figure[data-plane]")
    before = [plane.get_attribute("data-plane") for plane in planes.all() if plane.is_visible()]
    assert len(before) == 1
    group.locator('input[name="preservation"]').last.press("Space")
    after = [plane.get_attribute("data-plane") for plane in planes.all() if plane.is_visible()]
    assert len(after) == 1 and after != before


def test_rows_light_up_in_the_plane(group: Page) -> None:
    group.locator(f'{MAIN} > tbody[data-method="row-uce"] th').first.hover()
    mark = group.locator('figure[data-plane]:not([hidden]) .mark[data-method="row-uce"]')
    assert "lit" in str(mark.get_attribute("class"))
