"""A made-up site, a browser, and tabs that note everything that goes wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import browser, chromium
from tests.synthetic_results import Plan, write_tree

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PLAIN = Plan(methods=5, concepts=3, seeds=3, attacks=4)
HOSTILE = Plan(methods=9, concepts=2, seeds=2, attacks=2, hostile=True)

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

GROUP = "models/miniature/nsfw/nudity/zbench-v2.html"
FAMILY = "models/miniature/nsfw.html"
METHOD = "methods/zerase.html"
PAGES = ("index.html", FAMILY, GROUP, METHOD, "guide.html")
"""One page of each kind."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reasons = []
    if chromium() is None:
        reasons.append("there is no Chromium (Debian: apt-get install chromium)")
    try:
        import playwright  # noqa: F401
    except ImportError:
        reasons.append("playwright is not installed")
    for item in items:
        if reasons and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="; ".join(reasons)))


@dataclass
class Seen:
    """What a tab did besides showing its page.

    Attributes:
        messages: Errors and warnings of the console, and uncaught exceptions.
        requests: Everything that it asked for.
    """

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("pageerror", lambda error: self.messages.append(f"exception: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.messages.append(f"{kind}: {text}")

    def require_silence(self) -> None:
        assert not self.messages
        assert all(url.startswith(("file:", "data:")) for url in self.requests), self.requests


def _built(folder: Path, plan: Plan) -> Path:
    from zbench.report.site.build import build_site

    write_tree(folder / "results", plan)
    build_site(folder / "results", folder / "site")
    return folder / "site"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of `PLAIN`."""
    return _built(tmp_path_factory.mktemp("plain"), PLAIN)


@pytest.fixture(scope="session")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of `HOSTILE`."""
    return _built(tmp_path_factory.mktemp("hostile"), HOSTILE)


@pytest.fixture(scope="session")
def opened() -> Iterator[Browser]:
    """The browser."""
    with browser() as one:
        yield one


Open = Callable[..., "Page"]


@pytest.fixture
def visit(opened: Browser) -> Iterator[Open]:
    """Opens a page of a site in a new offline tab; afterwards nothing may have been wrong in any of them."""
    contexts, watched = [], []

    def go(place: Path, fragment: str = "", **settings: Any) -> Page:
        context = opened.new_context(offline=True, **{"viewport": DESK, **settings})
        contexts.append(context)
        tab, seen = context.new_page(), Seen()
        watched.append(seen)
        seen.watch(tab)
        tab.set_default_timeout(20_000)
        tab.goto(place.as_uri() + fragment, wait_until="load")
        return tab

    yield go
    for context in contexts:
        context.close()
    for seen in watched:
        seen.require_silence()
