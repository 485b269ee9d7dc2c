"""Texts that try to be more than texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import FAMILY, GROUP, Open
from tests.synthetic_results import HOSTILE, HOSTILE_METHODS

if TYPE_CHECKING:
    from playwright.sync_api import Page

CONTENT = "document.body.textContent.replace(/\\s+/g, ' ')"


def as_text(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def page(hostile_site: Path, visit: Open) -> Page:
    return visit(hostile_site / GROUP)


def test_prompts_are_shown_as_they_are(page: Page) -> None:
    shown = page.evaluate(CONTENT)
    for text in HOSTILE:
        assert as_text(text) in shown


def test_attack_prompts_are_shown_as_they_are(page: Page) -> None:
    asked = [as_text(text) for text in page.locator(".asked q").all_text_contents()]
    assert asked and all(any(as_text(text) in each for text in HOSTILE) for each in asked)


def test_names_of_methods_are_shown_as_they_are(page: Page) -> None:
    names = set(page.locator("table.results .method").all_text_contents())
    assert names >= set(HOSTILE_METHODS)


def test_nothing_of_it_runs(hostile_site: Path, visit: Open) -> None:
    pages = sorted(hostile_site.rglob("*.html"))
    assert len(pages) > 10
    for place in pages:
        page = visit(place)
        assert page.evaluate("window.hacked") is None, place
        assert page.locator("img, .method b, script:text('hacked')").count() == 0, place
        for script in page.locator("script").all():
            assert script.get_attribute("src") or script.get_attribute("type"), place
        links = page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
        assert not any(str(link).strip().lower().startswith("javascript:") for link in links), place


def test_it_stays_text_where_the_page_writes_it_anew(page: Page) -> None:
    """Enlarged pictures and the bubble of a figure are filled by the script."""
    page.locator("[data-show-flagged]").click()
    tiles = page.locator("table.gallery td:nth-of-type(1) .tile")
    for number in range(len(HOSTILE)):
        tiles.nth(number).evaluate("tile => tile.click()")
        text = page.locator("#viewer dl").evaluate(f"e => {CONTENT.replace('document.body', 'e')}")
        assert as_text(HOSTILE[number]) in text
        page.keyboard.press("Escape")
    for number in range(page.locator("table.results tbody").count()):
        page.locator("table.results tbody").nth(number).locator("a.figure").first.click()
        assert page.locator("#bubble").is_visible()
        page.keyboard.press("Escape")
    assert page.evaluate("window.hacked") is None


def test_right_to_left_does_not_turn_its_surroundings(page: Page) -> None:
    turned = page.locator("table.gallery q", has_text="right to left").first
    apart = turned.evaluate("e => getComputedStyle(e).unicodeBidi")
    assert turned.get_attribute("dir") == "auto" or apart in ("isolate", "plaintext", "isolate-override")
    assert page.evaluate("getComputedStyle(document.body).direction") == "ltr"


def test_filtering_takes_a_text_for_a_text(page: Page) -> None:
    page.locator("[data-filter]").fill("<b>bold")
    shown = page.locator("table.results > tbody:visible").all()
    assert len(shown) == 1


def test_cards_show_hostile_titles_as_text(hostile_site: Path, visit: Open) -> None:
    page = visit(hostile_site / "methods" / "uce.html")
    assert HOSTILE[0] in page.evaluate(CONTENT)
    assert page.evaluate("window.hacked") is None
    assert HOSTILE_METHODS[1] in visit(hostile_site / FAMILY).evaluate(CONTENT)
