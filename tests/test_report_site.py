"""The page as files: links that lead somewhere, texts that stay texts, equal bytes, only what changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from tests.synthetic_results import HOSTILE, HOSTILE_METHODS, Plan, write_tree
from zbench.errors import StoreError
from zbench.report.site.build import MANIFEST, build_site

PLAN = Plan(methods=9, concepts=2, seeds=2, attacks=2, hostile=True)
GROUP = "models/miniature/nsfw/nudity/zbench-v2.html"


class Page(HTMLParser):
    """Links, ids, texts and the elements that could do harm."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"href", "src"}:
                self.links.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "results"
    write_tree(folder, PLAN)
    return folder


@pytest.fixture(scope="module")
def site(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "site"
    build_site(tree, out, workers=1)
    return out


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Page(path.read_text("utf-8"))


def contents(site: Path) -> dict[str, bytes]:
    return {str(p.relative_to(site)): p.read_bytes() for p in sorted(site.rglob("*")) if p.is_file()}


def test_every_link_leads_to_a_file_and_to_a_place_in_it(site: Path) -> None:
    ids = {path: set(page.ids) for path, page in pages(site)}
    checked = 0
    for path, page in pages(site):
        for link in page.links:
            parts = urlparse(link)
            if parts.scheme in {"data", "https"}:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in ids[target], f"{path}: {link}"
            checked += 1
    assert checked > 500


def test_every_result_and_its_pictures_are_there_byte_for_byte(tree: Path, site: Path) -> None:
    files = [path for path in tree.rglob("*") if path.is_file()]
    for path in files:
        assert (site / "results" / path.relative_to(tree)).read_bytes() == path.read_bytes()
    linked = "".join(path.read_text("utf-8") for path in site.rglob("zbench-*.html"))
    for path in files:
        assert path.name in linked, f"nothing links to {path.name}"


def test_ids_are_unique(site: Path) -> None:
    for path, page in pages(site):
        assert len(page.ids) == len(set(page.ids)), path


def test_nothing_is_fetched_and_no_script_is_foreign(site: Path) -> None:
    for path, page in pages(site):
        assert page.tags.count("script") == 1, path
        assert not page.handlers, path
        assert not {"iframe", "object", "embed", "img"} & set(page.tags), path
    for asset in ("assets/page.js", "assets/page.css"):
        text = (site / asset).read_text("utf-8")
        assert not re.search(r"https?://|fetch\(|XMLHttpRequest|@import|innerHTML|eval\(", text), asset


def test_hostile_texts_are_shown_as_text(site: Path) -> None:
    shown = "".join("".join(Page(path.read_text("utf-8")).words) for path in site.rglob("*.html"))
    for text in (*HOSTILE[:3], *HOSTILE_METHODS):
        assert text.strip() in shown


def test_equal_results_give_equal_bytes(tree: Path, site: Path, tmp_path: Path) -> None:
    build_site(tree, tmp_path / "again", workers=1)
    assert contents(tmp_path / "again") == contents(site)


def test_only_what_changed_is_rendered_again(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(tree, copy)
    first = build_site(copy, tmp_path / "site", workers=1)
    assert first.rendered == first.parts == PLAN.concepts
    before = contents(tmp_path / "site")
    assert build_site(copy, tmp_path / "site", workers=1).rendered == 0
    gone = next((copy / "miniature" / "nsfw" / "nudity").rglob("*s1*.json"))
    gone.unlink()
    gone.with_suffix(".webp").unlink()
    after = build_site(copy, tmp_path / "site", workers=1)
    assert after.rendered == 1
    assert not (tmp_path / "site" / "results" / gone.relative_to(copy)).exists()
    changed = {path for path, content in contents(tmp_path / "site").items() if before[path] != content}
    assert GROUP in changed
    assert not any(path.startswith("models/miniature/style/") for path in changed)


def test_a_lost_page_is_made_again_and_foreign_files_stay(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    build_site(tree, out, workers=1)
    (out / "CNAME").write_text("example.org")
    (out / GROUP).unlink()
    assert build_site(tree, out, workers=1).rendered == 1
    assert (out / GROUP).is_file()
    assert (out / "CNAME").read_text() == "example.org"


def test_a_damaged_cache_or_manifest_is_no_obstacle(tree: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "site", tmp_path / "kept"
    build_site(tree, out, cache=cache, workers=1)
    for path in cache.iterdir():
        path.write_text("{")
    (out / MANIFEST).write_text("[]")
    assert build_site(tree, out, cache=cache, workers=1).rendered == PLAN.concepts


def test_bad_files_are_named_and_skipped(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(tree, copy)
    first, second = sorted((copy / "miniature" / "nsfw").rglob("*.json"))[:2]
    first.write_bytes(first.read_bytes()[:500])
    second.rename(second.with_name("<script>alert(1)</script>.json".replace("/", "_")))
    done = build_site(copy, tmp_path / "site", workers=1)
    assert len(done.problems) == 2
    front = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert first.name in front
    assert "<script>alert" not in front
    assert "&lt;script&gt;alert" in front


def test_missing_pictures_leave_gaps_and_are_named(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(tree, copy)
    lost = next((copy / "miniature" / "nsfw").rglob("*.webp"))
    lost.unlink()
    done = build_site(copy, tmp_path / "site", workers=1)
    assert [problem.path for problem in done.problems] == [str(lost.relative_to(copy))]


def test_the_site_lies_apart_from_the_results(tree: Path) -> None:
    for out in (tree, tree / "site", tree.parent):
        with pytest.raises(StoreError, match="must lie apart"):
            build_site(tree, out)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(StoreError, match="holds no published results"):
        build_site(tmp_path / "results", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_miniature_says_what_it_is_on_every_page_with_figures(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        if 'class="figure' in text or 'class="matrix"' in text:
            assert "no evidence about Z-Image" in text, path


def test_every_method_has_its_card(tree: Path, site: Path) -> None:
    names = {json.loads(path.read_text("utf-8"))["method"]["name"] for path in tree.rglob("*.json")}
    text = "".join(path.read_text("utf-8") for path in (site / "methods").glob("*.html"))
    assert len(list((site / "methods").glob("*.html"))) == len(names - {"original"})
    assert "Hyper-parameters" in text


def test_a_page_is_made_without_torch(tree: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from zbench.report.site.build import build_site;"
        f"build_site({str(tree)!r}, {str(tmp_path / 'site')!r}, workers=1);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
