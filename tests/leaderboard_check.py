"""Everything that is shown follows from `results/`: tables, page and the README's figures are made anew.

``python -m tests.leaderboard_check`` (`nox -s leaderboard`) makes them in a temporary folder and fails where
a committed table, a page of the paper's reproduction, or ``docs/plane.svg`` differs by one byte. With
``--write`` it brings them up to date instead; ``docs/leaderboard.png``, a screenshot, is made then where
there is a Chromium, and never compared.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.browser.chromium import browser, chromium
from zbench.config import DEFAULT_MODEL
from zbench.errors import ZbenchError
from zbench.report.site import places
from zbench.report.site.build import build_site
from zbench.report.site.group_page import GroupPage, group_page_of
from zbench.report.standings import standings
from zbench.report.tables.render import render_all
from zbench.report.tables.writing import write_tables
from zbench.report.values import WORLD_NOTE
from zbench.reproduction.answering import Reader
from zbench.reproduction.grids import Options
from zbench.reproduction.rendering import render_markdown
from zbench.reproduction.tables import TABLES as TABLE_NAMES
from zbench.results.groups import groups
from zbench.results.tree import RESERVED, parts
from zbench.store import atomic_write_bytes

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCS = ROOT / "results", ROOT / "docs"
TABLES, REPRODUCTION = "tables", "reproduction"

PLANE, SCREENSHOT = "plane.svg", "leaderboard.png"
FEATURED = ("miniature", "nudity")
"""Model and concept of the README's figures; the first ones of the tree where it has not these."""

SHOT = {"width": 1280, "height": 1000}

_RULES = (":root {", ".plane ", ".chart ", "svg")
"""Beginnings of the rules of the page's style sheet that a drawing needs."""


def differences(folder: Path, files: Mapping[str, bytes], forms: str = "*") -> Iterator[str]:
    """What is wrong with committed files, in one line each.

    Args:
        folder: Such as ``results/tables``.
        files: The files as they follow from the results.
        forms: Names of those files in the folder that must follow from the results.
    """
    there = {path.relative_to(folder).as_posix() for path in folder.rglob(forms) if path.is_file()}
    for place, content in files.items():
        if place not in there:
            yield f"{place}: missing"
        elif (folder / place).read_bytes() != content:
            yield f"{place}: {_first_difference((folder / place).read_bytes(), content)}"
    yield from (f"{place}: follows from no result" for place in sorted(there - files.keys()))


def _first_difference(committed: bytes, made: bytes) -> str:
    lines = [content.decode(errors="replace").splitlines(keepends=True) for content in (committed, made)]
    for number, pair in enumerate(zip(*lines, strict=False), start=1):
        if pair[0] != pair[1]:
            return f"line {number} is {pair[0].strip()[:100]!r}, and follows as {pair[1].strip()[:100]!r}"
    return f"{len(lines[0])} lines, and {len(lines[1])} follow"


# The paper's tables ---------------------------------------------------------------------------------------


def reproduced(folder: Path) -> dict[str, bytes]:
    """The pages of ``zbench reproduce``, from its published results; none where there are none.

    Args:
        folder: Such as ``results/reproduction``.
    """
    if not folder.is_dir():
        return {}
    reader = Reader(Options(DEFAULT_MODEL), folder)
    measured = [reader.measured(name) for name in TABLE_NAMES]
    pages = dict(zip((*TABLE_NAMES, "claims"), reader.pages(measured, reader.answers()), strict=True))
    files = {f"{name}.md": render_markdown([page]).encode() for name, page in pages.items()}
    lines = [f"- [{page[0].heading}]({name}.md)" for name, page in pages.items()]
    head = [
        "# The Z-Erase paper's tables, made again on the miniature", "",
        WORLD_NOTE, "",
        "`zbench reproduce all --from results/reproduction` prints them from the results in this folder.", "",
    ]  # fmt: skip
    return {**files, "README.md": "\n".join([*head, *lines, ""]).encode()}


# Figures of the README ------------------------------------------------------------------------------------


def featured(results: Path) -> GroupPage:
    """The page of the featured group: the one with the most results."""
    found = parts(results)
    wanted = [part for part in found if (part.place.parts[0], part.place.parts[-1]) == FEATURED]
    tree = (wanted or list(found))[0].read()
    largest = max(groups(tree.results), key=lambda group: len(group.results))
    return group_page_of(largest, standings(largest))


def plane(page: GroupPage, style: str) -> bytes | None:
    """The page's leading plane as a file of its own, in the colours of the light page.

    Args:
        page: Of a group.
        style: Content of the site's style sheet.
    """
    if not page.planes:
        return None
    rules = [rule for rule in _rules(style) if rule.startswith(_RULES)]
    own = "svg { color-scheme: light; background: var(--paper); font-family: var(--sans); }"
    drawing = page.planes[0].svg.replace(
        "<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" width="{SHOT["width"]}" ', 1
    )
    drawing = drawing.replace(' xmlns="http://www.w3.org/2000/svg"', "", drawing.count(" xmlns=") - 1)
    inside = drawing.index(">") + 1
    text = "\n".join([*rules, own])
    return f"{drawing[:inside]}<style>\n{text}\n</style>{drawing[inside:]}\n".encode()


def _rules(style: str) -> list[str]:
    """Top-level rules of a style sheet."""
    return re.findall(r"^[^\s@/}][^{}]*\{[^{}]*\}", style, flags=re.MULTILINE)


def screenshot(site: Path, page: GroupPage) -> bytes | None:
    """The featured page in a browser; None where there is none."""
    if chromium() is None:
        return None
    with browser() as opened:
        tab = opened.new_page(viewport=SHOT, color_scheme="light")
        tab.goto((site / page.place).as_uri(), wait_until="load")
        return bytes(tab.screenshot())


# The check ------------------------------------------------------------------------------------------------


def check(results: Path, docs: Path, site: Path, *, write: bool) -> list[str]:
    """Makes everything from the results; compares it with what is committed, or writes it.

    Args:
        results: The tree with its tables.
        docs: Folder of the README's figures.
        site: Where the page is made.
        write: Whether to bring what is committed up to date.

    Returns:
        What is wrong, a line each; nothing after writing.

    Raises:
        StoreError: There are no results, or something cannot be written.
    """
    rendered = render_all(results)
    built = build_site(results, site)
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    print(f"{built.results} results, {len(rendered.files)} tables, a page of {size / 1e6:.1f} MB.")
    pages = reproduced(results / REPRODUCTION)
    page = featured(results)
    drawing = plane(page, (site / places.STYLE).read_text(encoding="utf-8"))
    if write:
        print(f"{write_tables(rendered, results / TABLES)} tables changed.")
        for name, content in pages.items():
            _write(results / REPRODUCTION / name, content)
        _write(docs / PLANE, drawing)
        _write(docs / SCREENSHOT, screenshot(site, page))
        return []
    wrong = [f"{results / TABLES}: {line}" for line in differences(results / TABLES, rendered.files)]
    found = differences(results / REPRODUCTION, pages, "*.md") if pages else ()
    wrong += [f"{results / REPRODUCTION}: {line}" for line in found]
    wrong += [str(problem) for problem in built.problems]
    committed = (docs / PLANE).read_bytes() if (docs / PLANE).is_file() else None
    return [
        *wrong,
        *([] if committed == drawing else [f"{docs / PLANE} is not what follows from the results"]),
    ]


def _write(path: Path, content: bytes | None) -> None:
    if content is None:
        print(f"{path} is left as it is.")
    else:
        atomic_write_bytes(path, content)


def holds_results(results: Path) -> bool:
    """Whether there is anything to show yet."""
    folders = (path for path in results.iterdir() if path.is_dir()) if results.is_dir() else ()
    return any(folder.name not in RESERVED and any(folder.rglob("*.json")) for folder in folders)


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks, or writes; 0 where everything follows from the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="bring what is committed up to date")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--site", type=Path, help="keep the page here  [a temporary folder]")
    asked = parser.parse_args(arguments)
    run = partial(check, asked.results, asked.docs, write=asked.write)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            wrong = run(asked.site or Path(temporary) / "site")
    except ZbenchError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(wrong) if wrong else "Everything shown follows from the results.")
    if wrong:
        print("`python -m tests.leaderboard_check --write` brings it up to date.")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
