"""The check of what is committed: one byte is enough, and the repository itself passes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests import leaderboard_check
from tests.leaderboard_check import DOCS, PLANE, RESULTS, SCREENSHOT, holds_results, main
from tests.synthetic_results import Plan, write_tree

PLAN = Plan(methods=3, concepts=2, seeds=1)


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, list[str]]:
    """A tree whose tables and figures are up to date, and the arguments of the check of it."""
    monkeypatch.setattr(leaderboard_check, "chromium", lambda: None)
    results, docs = tmp_path / "results", tmp_path / "docs"
    write_tree(results, PLAN)
    docs.mkdir()
    arguments = ["--results", str(results), "--docs", str(docs)]
    assert main([*arguments, "--write"]) == 0
    return results, docs, arguments


def test_what_was_written_passes_and_stays_as_it_is(
    shown: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, _, arguments = shown
    assert main(arguments) == 0
    assert "Everything shown follows" in capsys.readouterr().out
    assert main([*arguments, "--write"]) == 0
    assert "0 tables changed" in capsys.readouterr().out
    assert {path.suffix for path in (results / "tables").rglob("*.*")} == {".md", ".csv", ".tex"}


def test_one_byte_is_noticed(shown: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    results, docs, arguments = shown
    for path in (next((results / "tables").rglob("*.csv")), docs / PLANE):
        before = path.read_bytes()
        path.write_bytes(before.replace(b"0", b"1", 1))
        assert main(arguments) == 1
        assert path.name in capsys.readouterr().out
        path.write_bytes(before)
    assert main(arguments) == 0


def test_missing_and_surplus_tables_are_noticed(
    shown: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, _, arguments = shown
    path = next((results / "tables").rglob("*.md"))
    content = path.read_bytes()
    path.unlink()
    path.with_name("stranger.md").write_bytes(content)
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "missing" in said and "stranger.md: follows from no result" in said


def test_a_changed_result_is_noticed(shown: tuple[Path, Path, list[str]]) -> None:
    results, _, arguments = shown
    path = next(path for path in results.rglob("uce-s0-nudity-*.json"))
    path.unlink()
    assert main(arguments) == 1


def test_a_changed_page_of_the_reproduction_is_noticed(
    shown: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, _, arguments = shown
    folder = results / "reproduction"
    write_tree(folder, PLAN)  # none of the paper's cells: its pages say so
    assert main(arguments) == 1
    assert "claims.md: missing" in capsys.readouterr().out
    assert main([*arguments, "--write"]) == 0 and main(arguments) == 0
    (folder / "nsfw.md").write_bytes((folder / "nsfw.md").read_bytes() + b" ")
    (folder / "stranger.md").write_text("not made here")
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "nsfw.md" in said and "stranger.md: follows from no result" in said


def test_no_results_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    assert main(["--results", str(tmp_path / "results"), "--docs", str(tmp_path)]) == 2
    assert "zbench collect" in capsys.readouterr().err


def test_the_plane_is_an_image_of_its_own(shown: tuple[Path, Path, list[str]]) -> None:
    _, docs, _ = shown
    root = ElementTree.parse(docs / PLANE).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = root.find("{http://www.w3.org/2000/svg}style")
    assert style is not None and style.text is not None
    assert "--paper:" in style.text and ".plane .front" in style.text
    assert not (docs / SCREENSHOT).exists(), "there was no browser"


@pytest.mark.skipif(not holds_results(RESULTS), reason="the repository holds no results yet")
def test_the_repository_passes() -> None:
    assert DOCS.is_dir()
    assert main([]) == 0
