"""The same pages on a phone, in the dark, on paper, without motion and without scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import paint_seconds
from tests.browser.conftest import GROUP, PAGES, PHONE, Open

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BRIGHTNESS = """() => {
    const bright = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
                                 return (colour.startsWith("color(") ? 255 : 1) * (r + g + b) / 3; };
    const body = getComputedStyle(document.body), page = getComputedStyle(document.documentElement);
    const ground = body.backgroundColor === "rgba(0, 0, 0, 0)" ? page.backgroundColor : body.backgroundColor;
    return [bright(ground), bright(body.color)];
}"""


@pytest.mark.parametrize("place", PAGES)
def test_a_phone_needs_no_sideways_scrolling(site: Path, visit: Open, place: str) -> None:
    page = visit(site / place, viewport=PHONE)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"{width} pixels wide"
    sizes = page.eval_on_selector_all(
        "main p, main td", "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 11


def test_buttons_are_large_enough_for_fingers(site: Path, visit: Open) -> None:
    page = visit(site / GROUP, viewport=PHONE, has_touch=True)
    small = page.eval_on_selector_all(
        "button, input, summary",
        """all => all.filter(e => e.offsetParent && e.getBoundingClientRect().width)
                     .filter(e => { const box = (e.closest("label") ?? e).getBoundingClientRect();
                                    return box.width < 24 || box.height < 24; })
                     .map(e => e.outerHTML.slice(0, 100))""",
    )
    assert small == []


@pytest.mark.parametrize("place", PAGES)
def test_dark_mode_is_dark(site: Path, visit: Open, place: str) -> None:
    ground, text = visit(site / place, color_scheme="dark").evaluate(BRIGHTNESS)
    assert ground < 80 < 160 < text
    ground, text = visit(site / place, color_scheme="light").evaluate(BRIGHTNESS)
    assert ground > 200 > 100 > text


def test_the_button_overrides_the_system_and_is_remembered(site: Path, visit: Open) -> None:
    page = visit(site / GROUP, color_scheme="light")
    for _ in range(2):
        page.locator("[data-theme-button]").click()
    ground, text = page.evaluate(BRIGHTNESS)
    assert ground < text, "auto, light, dark"
    page.reload()
    assert page.evaluate(BRIGHTNESS) == [ground, text]


def on_paper(page: Page) -> Page:
    page.emulate_media(media="print")
    return page


@pytest.mark.parametrize("place", PAGES)
def test_paper_is_white_and_has_no_buttons(site: Path, visit: Open, place: str) -> None:
    page = on_paper(visit(site / place, color_scheme="dark"))
    ground, text = page.evaluate(BRIGHTNESS)
    assert (
        ground > 240 or page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    )
    assert text < 110
    assert page.locator("[data-filter], [data-theme-button], .skip").evaluate_all(
        "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().height > 1).length"
    ) == 0  # fmt: skip


def test_flagged_pictures_stay_blurred_on_paper(site: Path, visit: Open) -> None:
    page = on_paper(visit(site / GROUP))
    flagged = page.locator("#gallery .tile.flagged")
    assert flagged.count()
    blurred = "tile => !tile.offsetParent || getComputedStyle(tile, '::before').filter.includes('blur')"
    assert all(flagged.evaluate_all(f"tiles => tiles.map({blurred})"))


def test_a_page_prints_whole(site: Path, visit: Open) -> None:
    """On paper nothing scrolls: what is wider than its box would be cut off."""
    page = visit(site / GROUP)
    document = page.pdf(format="A4", landscape=True)
    assert document.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", document)) <= 40
    on_paper(page)
    page.set_viewport_size({"width": 1040, "height": 720})
    scrolling = page.eval_on_selector_all(
        ".scroll",
        "all => all.map(e => getComputedStyle(e).overflowX).filter(o => o === 'auto' || o === 'scroll')",
    )
    assert scrolling == []


def test_nothing_moves_for_those_who_ask_for_it(site: Path, visit: Open) -> None:
    page = visit(site / GROUP, reduced_motion="reduce")
    moving = page.eval_on_selector_all(
        "*",
        """all => all.filter(e => {
            const style = getComputedStyle(e);
            const seconds = `${style.transitionDuration},${style.animationDuration}`.split(",");
            return style.scrollBehavior === "smooth" || seconds.some(each => parseFloat(each) > 0.01);
        }).map(e => e.outerHTML.slice(0, 80))""",
    )
    assert moving == []


@pytest.mark.parametrize("place", PAGES)
def test_pages_read_without_scripts(site: Path, visit: Open, place: str) -> None:
    page = visit(site / place, java_script_enabled=False)
    assert page.locator("h1").is_visible()
    assert page.locator("[data-filter]:visible, [data-theme-button]:visible").count() == 0


def test_figures_read_without_scripts(site: Path, visit: Open) -> None:
    page = visit(site / GROUP, java_script_enabled=False)
    rows = page.locator("table.results > tbody > tr:visible")
    assert rows.count() >= 6
    assert page.locator('table.results tbody[data-method="row-uce"] a.figure').first.is_visible()
    assert page.locator("#gallery .tile.flagged").first.is_visible()


@pytest.mark.parametrize("place", ["index.html", GROUP])
def test_there_is_a_first_paint(site: Path, opened: Browser, place: str) -> None:
    """How long it takes is printed by the bench."""
    assert paint_seconds(opened, site / place) > 0
