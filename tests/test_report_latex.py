"""LaTeX tables: compiled by a real pdfLaTeX where there is one, and read back from what it set."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic_results import HOSTILE, Plan, results
from zbench.report.standings import standings
from zbench.report.tables import latex
from zbench.report.tables.build import document, record_of
from zbench.report.tables.sheet import Cell, Column, Document, Row, Section, Sheet
from zbench.report.values import Shown
from zbench.results.groups import groups

PACKAGES = ("booktabs", "siunitx", "graphicx")


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    found = (subprocess.run(["kpsewhich", f"{name}.sty"], capture_output=True) for name in PACKAGES)
    return all(each.returncode == 0 for each in found)


needs_latex = pytest.mark.skipif(
    not has_latex(), reason="no pdfLaTeX with booktabs and siunitx: apt install texlive-science"
)


def compiled(text: str, folder: Path) -> str:
    """Sets a document with tables and returns the log."""
    used = "".join(f"\\usepackage{{{name}}}" for name in PACKAGES)
    page = f"\\documentclass{{article}}{used}\\begin{{document}}\n{text}\n\\end{{document}}\n"
    (folder / "page.tex").write_text(page, "utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "page.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "page.log").read_text("utf-8", errors="replace")


def tables(plan: Plan) -> str:
    group = groups(result for result, _ in results(plan))[0]
    found = standings(group)
    return latex.render([document(record_of(group, found), found)])


def odd(*labels: str) -> str:
    """A table whose rows have these names, and numbers of all kinds."""
    numbers = ("-0.01", "1234", "1.2e-05", "–", "7")
    rows = tuple(
        Row(label, (Cell(Shown(numbers[at % 5], bounds="[0, 1]"), best=at % 2 == 0, beside=(label,)),))
        for at, label in enumerate(labels)
    )
    sheet = Sheet("", labels, (Column("x", labels[0], "%", "lower"),), (Section(rows, labels[-1]),), labels)
    return latex.render([Document("odd", (sheet,))])


@needs_latex
def test_tables_compile(tmp_path: Path) -> None:
    log = compiled(tables(Plan(methods=5, concepts=1, attacks=2, sprites=False)), tmp_path)
    assert "Package siunitx Error" not in log
    assert "cmbx10" in log  # the bold series of the best figures


@needs_latex
def test_hostile_names_compile(tmp_path: Path) -> None:
    compiled(tables(Plan(methods=9, concepts=1, seeds=1, attacks=1, sprites=False, hostile=True)), tmp_path)


@needs_latex
def test_any_letters_compile(tmp_path: Path) -> None:
    rows = (
        *HOSTILE,
        "[x]",
        "*",
        "-1",
        "\\",
        "%",
        "{",
        "ñ Å ß ž ï ű ą ℵ ∞ 漢",
        "a\x00b\x7fc",
        "\\input{/etc/passwd}",
    )
    compiled(odd(*rows), tmp_path)


@given(st.text() | st.sampled_from(HOSTILE))
def test_escaped_text_has_no_commands_of_its_own(text: str) -> None:
    shown = latex.escaped(text)
    for written in sorted(latex.WRITTEN.values(), key=len, reverse=True):
        shown = shown.replace(written, "")
    assert not set(shown) & set("\\{}$&#^_~%")
    assert "\n" not in shown


def test_numbers_line_up_and_the_best_is_bold() -> None:
    text = odd("first", "second")
    assert "S[table-format=-4.2]" in text
    assert "\\bfseries -0.01" in text and "\\bfseries 1234" not in text
    assert text.startswith("% Made by zbench.")


def test_tables_of_equal_titles_have_labels_of_their_own() -> None:
    sheet = Sheet("", (), (Column("x", "x"),), (Section((Row("a", (Cell.of_text("1"),)),)),))
    text = latex.render([Document(title, (sheet,)) for title in ("A b", "a-B", "a b", "other")])
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels == ["tab:a-b", "tab:a-b--2", "tab:a-b--3", "tab:other"]


def test_rules_and_broken_rows() -> None:
    text = tables(Plan(methods=5, concepts=1, sprites=False))
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert (
        text.index("original") < text.index("uce &") < text.index("Broken, ranked last") < text.index("naive")
    )
