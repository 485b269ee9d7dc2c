"""Building a site: part by part in processes of their own, and only what changed.

Beside the site stands a folder of summaries, one for each part of the tree. A part is not read again where
its files and the code are those of its summary, and its pages are still there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path, PurePosixPath

from zbench.errors import StoreError
from zbench.report.names import of_several_families, without_repeats
from zbench.report.site.group_page import group_page_of
from zbench.report.site.overview import overview_pages
from zbench.report.site.places import RESULTS, SCRIPT, STYLE, TABLES
from zbench.report.site.rendering import render
from zbench.report.site.summary import PartSummary, summary_of
from zbench.report.standings import standings
from zbench.report.tables.cache import Cache
from zbench.report.tables.overview import Entry
from zbench.report.tables.render import group_tables, part_groups
from zbench.report.tables.shared import shared_tables
from zbench.results.each_part import each_part
from zbench.results.groups import groups
from zbench.results.schema import PublishedResult
from zbench.results.tree import Part, Problem, parts
from zbench.store import atomic_write_bytes, sha256_bytes

MANIFEST = "site.json"
"""Lists the files of a site, so that the next build knows which ones nothing leads to any more."""

_KIND = "zbench site"
_FORMS = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX"}


@dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        out: Folder of the site.
        groups: Groups with a page of their own.
        results: Result files behind them.
        files: Files of the site.
        rendered: Parts of the tree that were read and rendered; the others were as they should be.
        parts: All parts.
        problems: Files of the tree that were skipped.
    """

    out: Path
    groups: int
    results: int
    files: int
    rendered: int
    parts: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Task:
    """Where parts are read from and written to.

    Attributes:
        root: The tree.
        out: The site.
        cache: Summaries of parts.
        apart: Places of parts whose concept another family has too.
    """

    root: Path
    out: Path
    cache: Cache
    apart: frozenset[PurePosixPath]


def build_site(
    root: Path | str, out: Path | str, *, cache: Path | str | None = None, workers: int | None = None
) -> Built:
    """Makes the site of a results tree, or brings it up to date.

    Args:
        root: The tree, such as ``results``.
        out: Folder of the site; what else lies in it is left alone.
        cache: Folder of summaries between builds; beside the site when None.
        workers: Processes; None chooses by the number of files and processors.

    Raises:
        StoreError: The tree is missing or empty, the site would lie in it, or cannot be written.
    """
    root, out = Path(root), Path(out)
    _require_apart(root, out)
    found = parts(root)
    store = Cache.open(Path(cache) if cache else _beside(out))
    task = _Task(root, out, store, of_several_families(found))
    done = each_part(partial(_brought_up_to_date, task), found, workers)
    summaries = [summary for summary, _ in done]
    own = without_repeats(summary.files for summary in summaries)
    shared = dict.fromkeys(_write_shared(out, summaries), "")
    written = set(without_repeats([own, shared]))
    _remove_stale(out, written)
    made = [group for summary in summaries for group in summary.groups]
    return Built(
        out,
        groups=len(made),
        results=sum(group.results for group in made),
        files=len(written),
        rendered=sum(fresh for _, fresh in done),
        parts=len(found),
        problems=tuple(problem for summary in summaries for problem in summary.problems),
    )


def _require_apart(root: Path, out: Path) -> None:
    tree, site = root.resolve(), out.resolve()
    if site == tree or site.is_relative_to(tree) or tree.is_relative_to(site):
        raise StoreError(f"{out} and {root} must lie apart: give --out a folder beside the results.")


def _beside(out: Path) -> Path:
    """The folder of summaries of a site; ``.`` has a name only once it is resolved."""
    whole = Path(os.path.abspath(out))
    if not whole.name:
        raise StoreError(f"{out} has no folder beside it: give --cache one for what is kept between builds.")
    return whole.with_name(f"{whole.name}.cache")


# One part -------------------------------------------------------------------------------------------------


def _brought_up_to_date(task: _Task, part: Part) -> tuple[PartSummary, bool]:
    """The summary of a part, and whether it had to be rendered."""
    in_family = part.place in task.apart
    kept = task.cache.get(part, PartSummary, in_family=in_family)
    if kept is not None and all(_holds(task, path, sha256) for path, sha256 in kept.files.items()):
        return kept, False
    summary = _rendered(task, part)
    task.cache.put(part, summary, in_family=in_family)
    return summary, True


def _holds(task: _Task, path: str, sha256: str) -> bool:
    """Whether a file of the site is as it was; copies of results go by their size alone."""
    file = task.out / path
    try:
        if not sha256:
            source = task.root / PurePosixPath(path).relative_to(RESULTS)
            return file.stat().st_size == source.stat().st_size
        return sha256_bytes(file.read_bytes()) == sha256
    except OSError:
        return False


def _rendered(task: _Task, part: Part) -> PartSummary:
    tree = part.read()
    written: dict[str, str] = {}
    entries: list[Entry] = []
    summaries = []
    for group, in_family in part_groups(groups(tree.results), part.place in task.apart):
        found = standings(group)
        tables = group_tables(group, found, in_family=in_family)
        entries += tables.entries
        page = group_page_of(group, found, _downloads(tables.files))
        contents = {TABLES / place: text for place, text in tables.files.items()}
        contents[page.place] = render("group.html.j2", page.place, page=page)
        put = {str(place): _put(task.out / place, text.encode()) for place, text in contents.items()}
        written = without_repeats([written, put])
        summaries.append(summary_of(page))
    problems = [problem for result in tree.results for problem in _copied(task, result, written)]
    methods = {result.method.name: result.method for result in tree.results}
    return PartSummary(tuple(summaries), tuple(entries), methods, (*tree.problems, *problems), written)


def _downloads(places: Iterable[str]) -> tuple[tuple[str, PurePosixPath], ...]:
    """The tables of a group, by what they are good for."""
    found = {PurePosixPath(place).suffix: TABLES / place for place in places}
    return tuple((label, found[suffix]) for suffix, label in _FORMS.items() if suffix in found)


def _copied(task: _Task, result: PublishedResult, written: dict[str, str]) -> Iterator[Problem]:
    """Copies a result and its pictures into the site; yields what is wrong with the pictures."""
    places = [result.place, result.pictures_place] if result.gallery.sha256 else [result.place]
    for place in places:
        target = task.out / RESULTS / place
        try:
            _copy(task.root / place, target)
        except FileNotFoundError:
            yield Problem(str(place), "its pictures are missing, so that the gallery has gaps")
        else:
            written[str(RESULTS / place)] = ""


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    try:
        if target.read_bytes() == content:
            return
    except OSError:
        pass
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    os.replace(part, target)


# What belongs to all parts --------------------------------------------------------------------------------


def _write_shared(out: Path, summaries: Sequence[PartSummary]) -> set[str]:
    """Pages over several groups, style sheet and script; returns their places."""
    entries = [entry for summary in summaries for entry in summary.tables]
    tables = {str(TABLES / place): text for place, text in shared_tables(entries).items()}
    pages = {str(place): text for place, text in overview_pages(summaries).items()}
    contents = {place: text.encode() for place, text in without_repeats([pages, tables]).items()}
    for asset in (STYLE, SCRIPT):
        contents[str(asset)] = files("zbench.report.site").joinpath(*asset.parts).read_bytes()
    for place, content in contents.items():
        _put(out / place, content)
    return set(contents)


def _remove_stale(out: Path, written: set[str]) -> None:
    """Removes what an earlier build wrote and nothing leads to any more; notes what is there now."""
    manifest = out / MANIFEST
    try:
        record = json.loads(manifest.read_text("utf-8"))
        before = {str(path) for path in record["files"]} if record["kind"] == _KIND else set()
    except (OSError, ValueError, KeyError, TypeError):
        before = set()
    for path in sorted(before - written):
        target = out / path
        if target.resolve().is_relative_to(out.resolve()):
            target.unlink(missing_ok=True)
            _prune(target.parent, out)
    lines = {"kind": _KIND, "files": sorted(written)}
    _put(manifest, (json.dumps(lines, indent=1) + "\n").encode())


def _prune(folder: Path, out: Path) -> None:
    """Removes folders that are empty now."""
    while folder != out and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _put(path: Path, content: bytes) -> str:
    """Writes a file of the site unless it is as it should be; returns its hash."""
    if not path.is_file() or path.read_bytes() != content:
        _write(path, content)
    return sha256_bytes(content)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot make {path.parent}: {error.strerror or error}.") from error
    atomic_write_bytes(path, content)
