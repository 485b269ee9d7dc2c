"""The gallery: flagged pictures stay blurred until somebody asks, by mouse or by keyboard."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.browser.conftest import GROUP, Open

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

BLURRED = "tile => getComputedStyle(tile, '::before').filter.includes('blur')"
COLOURS = 200
"""A tile that shows its picture has more colours than this; text and plain areas have fewer."""


@pytest.fixture
def page(site: Path, visit: Open) -> Page:
    return visit(site / GROUP)


def flagged(page: Page) -> Locator:
    return page.locator("table.gallery .tile.flagged")


def test_flagged_pictures_and_only_they_are_blurred(page: Page) -> None:
    tiles = page.locator("#gallery .tile")
    blurred = tiles.evaluate_all(f"tiles => tiles.map({BLURRED})")
    marked = tiles.evaluate_all("tiles => tiles.map(tile => tile.classList.contains('flagged'))")
    assert blurred == marked and 0 < sum(marked) < len(marked)


def test_a_click_shows_one_and_another_enlarges_it(page: Page) -> None:
    tile = flagged(page).first
    others = flagged(page).count() - 1
    tile.click()
    assert not tile.evaluate(BLURRED)
    assert not page.locator("#viewer").is_visible()
    assert sum(flagged(page).evaluate_all(f"tiles => tiles.map({BLURRED})")) == others
    tile.click()
    viewer = page.locator("#viewer")
    assert viewer.is_visible() and "a picture of nudity" in viewer.inner_text()
    assert "found the concept" in viewer.inner_text()
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert tile.evaluate("tile => tile === document.activeElement")


def test_a_screen_reader_hears_the_state(page: Page) -> None:
    tile = flagged(page).first
    assert "blurred" in str(tile.get_attribute("aria-label"))
    tile.press("Enter")
    assert "blurred" not in str(tile.get_attribute("aria-label"))


def test_all_are_shown_and_blurred_again(page: Page) -> None:
    button = page.locator("[data-show-flagged]")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert not any(page.locator("#gallery .tile").evaluate_all(f"tiles => tiles.map({BLURRED})"))
    button.click()
    assert all(flagged(page).evaluate_all(f"tiles => tiles.map({BLURRED})"))


def test_arrow_keys_move_between_pictures(page: Page) -> None:
    first = page.locator("table.gallery tbody tr").first.locator(".tile").first
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    place = page.evaluate(
        """() => { const cell = document.activeElement.closest("td");
                   return [cell.parentElement.rowIndex, cell.cellIndex]; }"""
    )
    assert place == [2, 2]
    stops = page.locator('table.gallery .tile[tabindex="0"]').count()
    assert stops == 1, "one stop of the tab key for the whole gallery"


@pytest.mark.parametrize("how", ["filter", "broken"])
def test_the_tab_key_still_reaches_the_gallery(page: Page, how: str) -> None:
    """The picture that it stopped at may be hidden: then it stops at the first one that is left."""
    stop = 'table.gallery .tile[tabindex="0"]'
    page.locator('table.gallery td[data-method="row-naive"] .tile').first.focus()
    assert page.locator(stop).is_visible()
    if how == "filter":
        page.locator("[data-filter]").fill("uce")
    else:
        page.locator("[data-hide-broken]").check()
    assert page.locator(stop).count() == 1 and page.locator(stop).is_visible()
    assert not page.locator('table.gallery td[data-method="row-naive"] .tile').first.is_visible()
    page.locator(".gallery").evaluate("table => table.closest('.scroll').focus()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('table.gallery .tile')")


def test_a_filter_that_hides_everything_takes_nothing_away(page: Page) -> None:
    stop = 'table.gallery .tile[tabindex="0"]'
    box = page.locator("[data-filter]")
    box.fill("no method of that name")
    assert page.locator(stop).count() == 0
    box.fill("")
    assert page.locator(stop).count() == 1 and page.locator(stop).is_visible()


def test_attacks_count_the_pictures_that_are_shown(page: Page) -> None:
    group = page.locator("details.winners").first
    whole = group.locator("figure").count()

    def counted() -> tuple[str, int]:
        shown = [figure for figure in group.locator("figure").all() if figure.is_visible()]
        faint = sum("hush" in str(figure.get_attribute("class")) for figure in shown)
        return group.locator("[data-winners]").inner_text(), len(shown) - faint

    said, shown = counted()
    assert said == f"{shown} of {whole} pictures"
    page.locator('input[name="training"][value="1"]').press("Space")
    said, shown = counted()
    assert said == f"{shown} of {whole} pictures"
    page.locator("[data-filter]").fill("uce")
    said, fewer = counted()
    assert said == f"{fewer} of {whole} pictures" and fewer < shown


def test_rows_are_prompts_and_columns_are_methods(page: Page) -> None:
    heads = page.locator("table.gallery thead th[data-method]").all_text_contents()
    assert heads[0].lower().startswith("original") and len(heads) == 6
    rows = page.locator("table.gallery tbody tr")
    assert rows.count() == 16
    assert "a picture of nudity, 0" in str(rows.first.text_content())


def test_another_training_shows_its_own_pictures(page: Page) -> None:
    picture = "tile => getComputedStyle(tile, '::before').backgroundImage"
    tile = page.locator('table.gallery td[data-method="row-uce"] .tile').first
    before = tile.evaluate(picture)
    page.locator('input[name="training"][value="1"]').press("Space")
    after = tile.evaluate(picture)
    assert before != after and "uce-s1-" in after and after.endswith('.webp")')


def test_pictures_are_really_drawn(page: Page) -> None:
    page.locator("[data-show-flagged]").click()
    tile = page.locator("table.gallery tbody tr").first.locator(".tile").first
    tile.scroll_into_view_if_needed()
    drawn = Image.open(io.BytesIO(tile.screenshot())).convert("RGB")
    assert len(drawn.getcolors(1 << 20) or []) > COLOURS


def test_attacks_show_what_they_asked_for(page: Page) -> None:
    text = str(page.locator("#gallery").text_content())
    assert "(affix)" in text
    assert "(scale)" not in text, "an attack on weights asks nothing that is text"
