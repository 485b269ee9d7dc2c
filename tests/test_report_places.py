"""Where tables and pages stand: nothing of others is removed, nothing of ours overwrites another of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic_results import Plan, results, write_results, write_tree
from zbench.errors import StoreError
from zbench.report.measuring import Setting, told_apart
from zbench.report.names import file_name, with_own_slugs, without_repeats
from zbench.report.site.build import build_site
from zbench.report.site.places import keys_of
from zbench.report.standings import standings
from zbench.report.tables.build import document, record_of
from zbench.report.tables.render import render_all
from zbench.report.tables.writing import write_tables
from zbench.results.groups import groups
from zbench.results.schema import PublishedResult
from zbench.store import safe_name

PLAN = Plan(methods=2, concepts=2, seeds=1, sprites=False)
BASE = [result for result, _ in results(PLAN)]
NUDITY = [result for result in BASE if result.concept.name == "nudity"]
STYLE = [result for result in BASE if result.concept.name == "van-gogh"]


def changed(members: list[PublishedResult], mark: str, **parts: dict[str, Any]) -> Iterator[PublishedResult]:
    """Results of other facts, under ids of their own.

    Args:
        members: The results.
        mark: Ends their ids.
        **parts: Part of a result, or `provenance` or `spec`, with what is different in it.
    """
    for member in members:
        own: dict[str, Any] = {"id": f"{member.id}-{mark}"}
        for name in ("provenance", "spec"):
            if name in parts:
                before = getattr(member.result, name)
                update = parts[name]
                own[name] = {**before, **update} if name == "provenance" else before.model_copy(update=update)
        update = {
            name: getattr(member, name).model_copy(update=fields)
            for name, fields in parts.items()
            if name not in own
        }
        yield member.model_copy(update={**update, "result": member.result.model_copy(update=own)})


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is on disk --------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "results", PLAN)
    return tmp_path / "results"


def test_files_of_others_stay(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper"
    for place in ("chapter/intro.tex", "data/raw.csv", "miniature/notes.md", "miniature/families/x.csv"):
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).write_text("mine")
    before = read(out)
    rendered = render_all(tree)
    write_tables(rendered, out)
    write_tables(rendered, out)
    after = read(out)
    assert {place: after[place] for place in before} == before
    assert after.keys() == before.keys() | rendered.files.keys()


def test_tables_that_follow_from_nothing_any_more_are_removed(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    write_tables(render_all(tree), out)
    assert (out / "miniature/van-gogh.zbench-v2.tex").is_file()
    for path in (tree / "miniature" / "style").rglob("*.json"):
        path.unlink()
    rendered = render_all(tree)
    # Three forms of the concept, two of its family; the index is written anew.
    assert write_tables(rendered, out) == 3 + 2 + 1
    assert read(out) == rendered.files


def test_a_readme_of_somebody_else_is_not_overwritten(tree: Path, tmp_path: Path) -> None:
    rendered = render_all(tree)
    for number, content in enumerate((b"# My paper\n", b"# Tables\n\nMine.\n", b"\xff\xfe", b"")):
        out = tmp_path / str(number)
        out.mkdir()
        (out / "README.md").write_bytes(content)
        with pytest.raises(StoreError, match=r"README\.md was not written by `zbench table`") as refused:
            write_tables(rendered, out)
        assert "\n" not in str(refused.value)
        assert read(out) == {"README.md": content}


def test_tables_never_go_over_the_results(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tree.parent)
    rendered = render_all(tree)
    for out in (tree, tree.parent, Path(tree.anchor)):
        with pytest.raises(StoreError, match="holds the results"):
            write_tables(rendered, out)
    monkeypatch.chdir(tree)
    with pytest.raises(StoreError, match="holds the results"):
        write_tables(rendered, ".")
    assert read(tree.parent) == before
    assert write_tables(rendered, "tables") == len(rendered.files)
    assert write_tables(render_all(tree), tree / "tables") == 0


def test_an_index_does_not_lead_out_of_its_folder(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    rendered = render_all(tree)
    write_tables(rendered, out)
    (tmp_path / "mine.md").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.csv").write_text("mine")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    index = out / "README.md"
    index.write_text(index.read_text() + "[md](../mine.md) [csv](link/mine.csv) [md](/etc/hosts.md)\n")
    write_tables(rendered, out)
    assert (tmp_path / "mine.md").is_file() and (tmp_path / "elsewhere" / "mine.csv").is_file()


# Names that meet --------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=8), max_size=6))
def test_different_names_are_different_files(names: list[str]) -> None:
    assert len({file_name(name) for name in names}) == len(set(names))
    assert all(file_name(name) == safe_name(file_name(name)) for name in names)


def test_names_that_need_no_change_stay() -> None:
    assert file_name("van-gogh") == "van-gogh"
    assert file_name("van gogh").startswith("van-gogh-")


@given(
    st.lists(st.sampled_from(["a", "a--2", "A", "b", "results", "gallery", "é", "", "row-a"]), max_size=12)
)
def test_keys_are_never_alike(labels: list[str]) -> None:
    keys = keys_of(labels)
    assert len(set(keys)) == len(labels) and all(key.startswith("row-") for key in keys)


def test_repeated_places_are_refused() -> None:
    assert without_repeats([{"a": 1}, {"b": 2}]) == {"a": 1, "b": 2}
    with pytest.raises(StoreError, match=r"would stand at a\.md"):
        without_repeats([{"a.md": 1}, {"b.md": 2}, {"a.md": 1}])


def test_one_concept_in_two_families_has_two_tables(tmp_path: Path) -> None:
    write_results(tmp_path, [*NUDITY, *changed(NUDITY, "x", concept={"family": "style"}), *STYLE])
    rendered = render_all(tmp_path)
    names = set(rendered.files)
    for family in ("nsfw", "style"):
        text = rendered.files[f"miniature/{family}/nudity.zbench-v2.csv"].decode()
        assert f"miniature,{family},nudity," in text
    assert "miniature/nudity.zbench-v2.csv" not in names
    assert "miniature/van-gogh.zbench-v2.csv" in names, "places of other concepts stay"
    index = rendered.files["README.md"].decode()
    assert {part.split(")")[0] for part in index.split("](")[1:]} <= names


def test_a_cache_knows_that_another_family_has_the_concept_now(tmp_path: Path) -> None:
    tree, cache = tmp_path / "results", tmp_path / "cache"
    write_results(tree, NUDITY)
    assert "miniature/nudity.zbench-v2.md" in render_all(tree, cache=cache).files
    write_results(tree, changed(NUDITY, "x", concept={"family": "style"}))
    both = render_all(tree, cache=cache)
    assert (both.fresh, both.files) == (2, render_all(tree).files)
    assert render_all(tree, cache=cache).fresh == 0


@pytest.mark.parametrize(
    "other",
    [
        {"concept": {"family": "style"}},
        {"concept": {"name": "nu dity"}},
        {"model": {"name": "mini ature"}},
        {"spec": {"references": "a b"}},
        {"model": {"weights": f"sha256:{'00' * 32}"}},
    ],
)
def test_a_site_settles_whatever_is_called_alike(tmp_path: Path, other: dict[str, Any]) -> None:
    named = NUDITY
    if "concept" in other and "name" in other["concept"]:
        named = list(changed(NUDITY, "n", concept={"name": "nu-dity"}))
    if "model" in other and "name" in other["model"]:
        named = list(changed(NUDITY, "n", model={"name": "mini-ature"}))
    if "spec" in other:
        named = list(changed(NUDITY, "n", spec={"references": "a-b"}))
    write_results(tmp_path / "results", [*named, *changed(named, "x", **other)])
    first = build_site(tmp_path / "results", tmp_path / "site", workers=1)
    assert first.groups == 2 and not first.problems
    assert build_site(tmp_path / "results", tmp_path / "site", workers=1).rendered == 0
    site = tmp_path / "site"
    tables = [*(site / "tables").rglob("*.csv")]
    pages = [*(site / "models").rglob("zbench-v2*.html")]
    assert len(tables) == len(pages) == 2
    for page in pages:
        own = [table for table in tables if table.name in page.read_text("utf-8")]
        assert own, f"{page} leads to no table"
    assert len(render_all(tmp_path / "results").files) == len([*(site / "tables").rglob("*.*")])


def test_groups_of_one_slug_are_numbered() -> None:
    members = [*changed(NUDITY, "a", spec={"references": "a b"}),
               *changed(NUDITY, "b", spec={"references": "a-b"})]  # fmt: skip
    made = list(with_own_slugs(groups(members)))
    assert len({group.slug for group in made}) == 2
    assert [group.conditions.get("variant") for group in made] == [None, 2]


def test_conditions_stand_in_the_title() -> None:
    members = [*NUDITY, *changed(NUDITY, "r", spec={"guidance_scale": 2.5})]
    found = [(group, standings(group)) for group in groups(members)]
    titles = [document(record_of(*each), each[1]).title for each in found]
    assert titles == ["nudity, miniature, zbench v2", "nudity, miniature, zbench v2, guidance_scale 2.5"]


# What was measured with -------------------------------------------------------------------------------------


def other_revision(mark: str) -> dict[str, Any]:
    return {"model": {"label": f"miniature ({mark})", "weights": f"sha256:{mark[-1] * 64}"}}


def test_other_revisions_share_no_table(tmp_path: Path) -> None:
    """Nudity on one revision and Van Gogh, of the same family here, on another."""
    style = list(changed(STYLE, "f", concept={"family": "nsfw"}))
    write_results(tmp_path / "same", [*NUDITY, *style])
    same = {name for name in render_all(tmp_path / "same").files if "families" in name}
    assert same == {f"miniature/families/nsfw.zbench-v2.{form}" for form in ("md", "tex")}
    write_results(tmp_path / "two", [*NUDITY, *changed(style, "g", **other_revision("revision 2"))])
    files = render_all(tmp_path / "two").files
    families = {name: text.decode() for name, text in files.items() if "families" in name and "md" in name}
    assert len(families) == 2
    for label, concept, absent in (
        ("miniature (made up)", "nudity:", "van-gogh:"),
        ("miniature (revision 2)", "van-gogh:", "nudity:"),
    ):
        (text,) = (text for text in families.values() if f"model {label}" in text)
        assert f"# nsfw, miniature, zbench-v2, {label}" in text
        assert concept in text and absent not in text
    index = files["README.md"].decode()
    assert "## miniature\n" in index and "zbench-v2, miniature (revision 2)" in index
    assert {part.split(")")[0] for part in index.split("](")[1:]} <= files.keys()


def test_other_detectors_share_no_matrix(tmp_path: Path) -> None:
    detectors = [{"name": "another", "version": "1", "file_sha256": "0" * 64, "threshold": 0.5}]
    write_results(tmp_path / "same", BASE)
    build_site(tmp_path / "same", tmp_path / "one", workers=1)
    assert (tmp_path / "one" / "index.html").read_text("utf-8").count('class="matrix"') == 1
    monet = list(changed(STYLE, "c", concept={"name": "monet"}))
    other = changed([*STYLE, *monet], "d", provenance={"detectors": detectors})
    write_results(tmp_path / "mixed", [*NUDITY, *other])
    build_site(tmp_path / "mixed", tmp_path / "two", workers=1)
    front = (tmp_path / "two" / "index.html").read_text("utf-8")
    assert front.count('class="matrix"') == 1
    matrix = front.split('class="matrix"')[1].split("</table>")[0]
    assert "Monet" in matrix and "Van Gogh" in matrix and "Nudity" not in matrix
    card = next((tmp_path / "two" / "methods").glob("uce.html")).read_text("utf-8")
    assert "zbench v2, detectors another" in card and "zbench v2, detectors world" in card


def test_settings_are_named_by_what_differs() -> None:
    one, two, three = Setting("m 1", "a", "x"), Setting("m 1", "b", "y"), Setting("m 1", "b", "z")
    other = Setting("m 2", "a", "w")
    assert told_apart([one, one]) == {one: ""}
    assert told_apart([one, other]) == {one: "m 1", other: "m 2"}
    words = told_apart([one, two, three, other])
    assert words == {one: "m 1, detectors a", two: "m 1, detectors b, setting y",
                     three: "m 1, detectors b, setting z", other: "m 2"}  # fmt: skip


# The folder of the site -------------------------------------------------------------------------------------


def test_a_site_may_be_made_where_one_is(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path / "site")
    done = build_site(tree, ".", workers=1)
    assert done.out == Path() and (tmp_path / "site" / "index.html").is_file()
    assert any((tmp_path / "site.cache").iterdir())
    assert build_site(tree, tmp_path / "site", workers=1).rendered == 0, "the same cache"


def test_the_root_folder_is_no_site(tree: Path) -> None:
    with pytest.raises(StoreError):
        build_site(tree, "/")
