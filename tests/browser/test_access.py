"""Accessibility: axe's rules on every kind of page, and what no rule sees."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import DESK, GROUP, PAGES, PHONE, Open

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOCUS = """() => {
    const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    return {tag: e.tagName, name: (e.getAttribute("aria-label") ?? e.innerText ?? e.value ?? "").trim(),
            outline: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none",
            ring: style.boxShadow !== "none", top: box.top, seen: box.width > 0 && box.height > 0,
            inside: !!e.closest("[hidden]")};
}"""


def violations(page: Page) -> list[str]:
    """What axe finds, one line for each rule that is broken."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # It would read style sheets by requests of its own, which files do not allow.
    rules = {
        "preload": False,
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }
    found = axe.run(page, options=rules).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in found
    ]


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("place", PAGES)
def test_axe_finds_nothing(site: Path, visit: Open, place: str, colours: str) -> None:
    assert violations(visit(site / place, color_scheme=colours)) == []


@pytest.mark.parametrize("place", PAGES)
def test_axe_finds_nothing_on_a_phone(site: Path, visit: Open, place: str) -> None:
    assert violations(visit(site / place, viewport=PHONE)) == []


def test_axe_finds_nothing_in_what_opens(site: Path, visit: Open) -> None:
    page = visit(site / GROUP)
    page.locator(".expand").first.click()
    page.locator("[data-show-flagged]").click()
    page.locator("table.results tbody a.figure").first.click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("table.gallery .tile").first.click()
    assert page.locator("#viewer").is_visible()
    assert violations(page) == []


def walk(page: Page, most: int) -> list[dict[str, Any]]:
    """What the tab key stops at, from the top."""
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    stops = []
    for _ in range(most):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        if stop["tag"] == "BODY":
            break
        stops.append(stop)
    return stops


@pytest.mark.parametrize("place", PAGES)
def test_the_tab_key_stops_where_it_can_be_seen(site: Path, visit: Open, place: str) -> None:
    stops = walk(visit(site / place, viewport=DESK), 60)
    assert len(stops) >= 5
    for stop in stops:
        assert stop["seen"] and not stop["inside"], stop
        assert stop["outline"] or stop["ring"], f"no sign of the focus: {stop}"


def test_the_first_stop_skips_to_the_content(site: Path, visit: Open) -> None:
    page = visit(site / GROUP)
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate(FOCUS)["name"].lower()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_whole_page_has_few_stops_before_each_part(site: Path, visit: Open) -> None:
    """The gallery is one stop, not hundreds."""
    page = visit(site / GROUP)
    assert page.locator('#gallery table button:not([tabindex="-1"])').count() == 1


@pytest.mark.parametrize("place", PAGES)
def test_headings_go_down_step_by_step(site: Path, visit: Open, place: str) -> None:
    levels = visit(site / place).eval_on_selector_all(
        "h1, h2, h3, h4", "all => all.filter(h => h.offsetParent).map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_charts_have_names_and_say_more_than_colours(site: Path, visit: Open) -> None:
    page = visit(site / GROUP)
    for chart in page.locator("svg[role=img], svg[role=group]").all():
        named = chart.evaluate("e => !!(e.getAttribute('aria-label') || e.querySelector('title') "
                               "|| e.getAttribute('aria-labelledby'))")  # fmt: skip
        assert named
    kinds = page.eval_on_selector_all(
        "figure[data-plane]:not([hidden]) .mark", "all => all.map(e => e.querySelector('.dot').outerHTML)"
    )
    assert any("circle" in kind for kind in kinds) and any("path" in kind for kind in kinds)
