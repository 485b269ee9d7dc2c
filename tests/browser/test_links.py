"""Every link of every page leads somewhere, and nothing is asked of a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pytest

from tests.browser.conftest import FAMILY, GROUP, METHOD, PAGES, Open

if TYPE_CHECKING:
    from playwright.sync_api import Page

LINKS = """() => [...document.querySelectorAll("[href], [src]")]
    .map(e => [e.href?.baseVal ?? e.href ?? e.src, e.getAttribute("href") ?? e.getAttribute("src")])"""


def targets(page: Page) -> dict[Path, set[str]]:
    """File -> fragments, of all links of a page to files."""
    found: dict[Path, set[str]] = {}
    for absolute, written in page.evaluate(LINKS):
        parts = urlparse(absolute)
        if parts.scheme in ("http", "https", "data", "mailto"):
            continue
        assert parts.scheme == "file", written
        assert not written.startswith("/"), f"{written} holds only where the site was made"
        found.setdefault(Path(unquote(parts.path)), set()).add(unquote(parts.fragment))
    return found


def test_links_lead_to_files_and_fragments_that_are_there(site: Path, visit: Open) -> None:
    wanted: dict[Path, set[str]] = {}
    there: dict[Path, set[str]] = {}
    for place in sorted(site.rglob("*.html")):
        page = visit(place)
        there[place] = set(page.eval_on_selector_all("[id]", "all => all.map(e => e.id)"))
        for path, fragments in targets(page).items():
            wanted.setdefault(path, set()).update(fragments)
    assert len(there) > 10
    for path, fragments in wanted.items():
        assert path.is_file() and site in path.parents, path
        missing = fragments - there.get(path, set()) - {""}
        assert path.suffix != ".html" or not missing, f"{path}: {missing}"


def test_every_page_can_be_reached_from_the_first(site: Path, visit: Open) -> None:
    seen, waiting = set[Path](), [site / "index.html"]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        waiting += [path for path in targets(visit(place)) if path.suffix == ".html"]
    assert seen == set(site.rglob("*.html"))


def test_result_files_are_the_ones_that_were_shown(site: Path, visit: Open) -> None:
    files = [path for path in targets(visit(site / GROUP)) if path.suffix == ".json"]
    contents: list[dict[str, Any]] = [json.loads(path.read_text()) for path in files]
    assert {each["method"]["name"] for each in contents} >= {"original", "uce", "zerase"}
    assert all(each["concept"]["name"] == "nudity" for each in contents)


def test_every_row_leads_to_its_methods_card(site: Path, visit: Open) -> None:
    page = visit(site / GROUP)
    page.locator('table.results tbody[data-method="row-zerase"] a.method').click()
    page.wait_for_load_state()
    assert page.url == (site / METHOD).as_uri()
    text = page.locator("main").inner_text()
    assert "A. Nobody and B. Noone" in text and "learning_rate" in text and "It was made up." in text


def test_one_walks_from_the_start_to_a_concept_and_back(site: Path, visit: Open) -> None:
    page = visit(site / "index.html")
    page.locator(f'main a[href$="{GROUP.partition("models/")[2]}"], main a[href$="{GROUP}"]').first.click()
    page.wait_for_load_state()
    assert page.url.startswith((site / GROUP).as_uri())
    page.locator(f'nav a[href$="{Path(FAMILY).name}"]').first.click()
    page.wait_for_load_state()
    assert page.url.startswith((site / FAMILY).as_uri())


@pytest.mark.parametrize("place", PAGES)
def test_pages_ask_for_their_own_files_only(site: Path, visit: Open, place: str) -> None:
    """The tab is offline and its requests are watched, see `visit`; scripts name no address either."""
    visit(site / place)
    text = (site / place).read_text()
    for word in ("fetch(", "XMLHttpRequest", "@import", "//cdn", "googleapis"):
        assert word not in text


def test_a_copy_elsewhere_works_as_well(site: Path, tmp_path: Path, visit: Open) -> None:
    import shutil

    moved = tmp_path / "a folder with spaces & #signs?"
    shutil.copytree(site, moved)
    page = visit(moved / GROUP)
    assert page.evaluate("getComputedStyle(document.body).fontFamily") != "Times New Roman"
    page.locator("table.results thead .sort").first.click()
    assert page.locator("table.results th[aria-sort]").count() == 1
    assert all(path.is_file() for path in targets(page))
