"""Debian's Chromium, driven by playwright, which brings none of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "ZBENCH_CHROMIUM"
"""Environment variable that names another browser."""


def chromium() -> str | None:
    """Path of a Chromium or Chrome; None where there is none."""
    named = os.environ.get(VARIABLE)
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser; without its sandbox, which containers and root do not allow."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield opened
        finally:
            opened.close()


def largest_pages(site: Path, count: int = 3) -> list[Path]:
    """The start page and the largest others of a site."""
    pages = sorted(site.rglob("*.html"), key=lambda path: path.stat().st_size, reverse=True)
    return [site / "index.html", *pages[:count]]


def paint_seconds(opened: Browser, page: Path) -> float:
    """First contentful paint of a page from disk, in a context that has seen nothing."""
    context = opened.new_context(offline=True, viewport={"width": 1280, "height": 900})
    try:
        tab = context.new_page()
        tab.goto(page.as_uri(), wait_until="load")
        painted = tab.evaluate(
            """() => new Promise((done) => {
                const found = () => performance.getEntriesByName("first-contentful-paint")[0];
                const wait = () => found() ? done(found().startTime) : requestAnimationFrame(wait);
                wait();
            })"""
        )
    finally:
        context.close()
    return float(painted) / 1000
