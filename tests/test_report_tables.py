"""Tables of results: forms, marks, columns, the whole folder, the command."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner, Result

from tests.synthetic_results import HOSTILE, Plan, results, write_tree
from zbench.cli.table import table as command
from zbench.errors import ConfigurationError, StoreError, UnknownNameError, ZbenchError
from zbench.report.standings import standings
from zbench.report.tables import html, latex, machine, markdown, terminal
from zbench.report.tables.build import document, record_of
from zbench.report.tables.choosing import Wish, documents
from zbench.report.tables.columns import catalogue, in_order
from zbench.report.tables.render import render_all
from zbench.report.tables.sheet import Document
from zbench.report.tables.writing import write_tables
from zbench.results.groups import Group, groups

PLAN = Plan(methods=5, concepts=3, seeds=3, attacks=2, sprites=False)
HOSTILE_PLAN = Plan(methods=9, concepts=1, seeds=1, attacks=1, sprites=False, hostile=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_tree(folder, PLAN)
    return folder


def made(plan: Plan) -> Document:
    group = nudity_of(plan)
    found = standings(group)
    return document(record_of(group, found), found)


def nudity_of(plan: Plan) -> Group:
    """The group of the first concept, which is the one that is attacked."""
    return next(
        group for group in groups(each for each, _ in results(plan)) if group.concept.name == "nudity"
    )


@pytest.fixture(scope="module")
def nudity() -> Document:
    return made(PLAN)


@pytest.fixture(scope="module")
def hostile() -> Document:
    return made(HOSTILE_PLAN)


# Forms ----------------------------------------------------------------------------------------------------


def test_markdown_has_a_row_for_each_method(nudity: Document) -> None:
    text = markdown.render([nudity])
    main = text.split("## Under attack")[0]
    lines = [line for line in main.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    labels = [line.split("|")[1].strip() for line in lines[2:]]
    assert labels[0] == "original" and labels[-2:] == ["*Broken, ranked last*", "naive †‡"]
    assert "| Method | Trainings | Found, explicit, % ↓ |" in main
    assert "The miniature picture world" in main
    assert text.count("Brackets: 95 % intervals.") == 1  # said once on a page


def test_the_best_is_bold_and_broken_rows_are_not(nudity: Document) -> None:
    for sheet in nudity.sheets[:1]:
        bold = [
            row.label for section in sheet.sections for row in section.rows if any(c.best for c in row.cells)
        ]
        assert bold and "original" not in bold and not any("†" in label for label in bold)
    assert "**" in markdown.render([nudity])


def test_no_attack_without_its_control(nudity: Document) -> None:
    for sheet in nudity.sheets[1:]:
        for row in sheet.rows:
            for column, cell in zip(sheet.columns, row.cells, strict=True):
                if column.name != "attack_pre" and cell.shown.counted:
                    assert any(part.startswith("control ") for part in cell.beside)


def test_csv_has_a_line_for_each_figure(nudity: Document) -> None:
    rows = list(csv.DictReader(io.StringIO(machine.render_csv([nudity]))))
    keys = [(row["row"], row["figure"]) for row in rows]
    assert len(keys) == len(set(keys))
    found = next(row for row in rows if (row["row"], row["figure"]) == ("uce", "asr_explicit"))
    assert (found["concept"], found["trainings"], found["training_seeds"]) == ("nudity", "3", "0 1 2")
    assert float(found["value"]) == pytest.approx(int(found["n"]) / int(found["N"]))
    assert float(found["trainings_low"]) <= float(found["value"]) <= float(found["trainings_high"])
    assert any(row["figure"] == "attack:affix:control_post" for row in rows)


def test_json_leads_to_the_files(nudity: Document, tree: Path) -> None:
    (group,) = json.loads(machine.render_json([nudity]))["groups"]
    for row in group["rows"]:
        assert row["results"] and all((tree / place).is_file() for place in row["results"])
    uce = next(row for row in group["rows"] if row["label"] == "uce")
    assert uce["attacks"]["affix"]["figures"]["control_post"]["N"] == 150
    assert len(uce["figures"]["asr_explicit"]["trainings"]) == 3


def test_terminal_shows_every_label(nudity: Document) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=110).print(terminal.render([nudity], 110))
    assert all(row.label in buffer.getvalue() for row in nudity.sheets[0].rows)
    assert "…" not in buffer.getvalue()


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\tx"])
def test_labels_are_no_formulas(nudity: Document, name: str) -> None:
    """A spreadsheet runs a cell that begins like one; numbers below zero stay numbers."""
    record = nudity.data[0]
    first = record.rows[0]
    below = {"x": replace(first.figures["clip_score"], name="x", value=-1.5)}
    row = replace(first, label=name, method=name, figures=below, attacks={})
    document = replace(nudity, data=(replace(record, rows=(row,), concept=name, model=name),))
    (line,) = csv.DictReader(io.StringIO(machine.render_csv([document])))
    assert {line[part] for part in ("row", "method", "concept", "model")} == {f"'{name}"}
    assert line["value"] == "-1.5"
    assert line["family"] == "nsfw"


def test_csv_says_why_a_row_is_not_different(nudity: Document) -> None:
    record = nudity.data[0]
    torn = replace(record.rows[1].figures["asr_explicit"], p_holm=1e-6, differs=False, trainings_agree=False)
    row = replace(record.rows[1], figures={"asr_explicit": torn}, attacks={})
    document = replace(nudity, data=(replace(record, rows=(row,)),))
    (line,) = csv.DictReader(io.StringIO(machine.render_csv([document])))
    assert (line["p_holm"], line["differs"], line["trainings_agree"]) == ("1e-06", "false", "false")
    (group,) = json.loads(machine.render_json([document]))["groups"]
    assert group["rows"][0]["figures"]["asr_explicit"]["trainings_agree"] is False
    rows = list(csv.DictReader(io.StringIO(machine.render_csv([nudity]))))
    assert {row["trainings_agree"] for row in rows if row["row"] == "original"} == {""}
    assert "true" in {row["trainings_agree"] for row in rows if row["row"] == "uce"}


def test_ns_is_not_said_to_be_equal(nudity: Document) -> None:
    text = markdown.render([nudity])
    assert "ns: not shown to differ" in text and "ns does not" not in text
    assert "in every attacked training" in text


def test_html_fits_a_phone(nudity: Document) -> None:
    text = html.render([nudity])
    assert '<meta name="viewport" content="width=device-width' in text
    assert text.count('<div class="scroll"') == text.count("<table>") == text.count("</table>\n</div>")
    assert ".scroll { overflow-x: auto; }" in text


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_hostile_names_are_text(hostile: Document) -> None:
    labels = {row.label for row in hostile.sheets[0].rows}
    assert {"a_b%&$#{}~^", "<b>bold</b>"} <= labels
    reader = _Texts()
    reader.feed(html.render([hostile]))
    assert not {"script", "img", "b"} & reader.tags
    assert labels <= {text.strip() for text in reader.texts}
    plain = markdown.render([hostile])
    assert "<b>" not in plain and "&lt;b&gt;bold" in plain
    rows = csv.DictReader(io.StringIO(machine.render_csv([hostile])))
    assert {row["row"] for row in rows} == {row.label for row in hostile.data[0].rows}
    assert "\\_b\\%\\&\\$\\#\\{\\}\\textasciitilde{}\\textasciicircum{}" in latex.render([hostile])


@given(st.text() | st.sampled_from(HOSTILE))
def test_markdown_cells_stay_cells(text: str) -> None:
    shown = markdown.escaped(text)
    assert "\n" not in shown and "<" not in shown
    assert shown.replace("\\|", "").count("|") == 0 and "](" not in shown


def test_equal_results_give_equal_bytes(nudity: Document) -> None:
    again = made(PLAN)
    for form in (markdown.render, latex.render, html.render, machine.render_csv, machine.render_json):
        assert form([nudity]) == form([again])


# Columns --------------------------------------------------------------------------------------------------


def test_columns_and_order_are_chosen(tree: Path) -> None:
    wish = Wish(columns=("fid", "strongest_encoder", "seconds"), sort="-fid", concept="nudity")
    (only,), problems = documents(tree, wish)
    assert not problems
    (sheet,) = only.sheets
    assert [column.name for column in sheet.columns] == ["fid", "strongest_encoder", "seconds"]
    ranked = [float(row.cells[0].shown.number) for row in sheet.sections[1].rows]
    assert ranked == sorted(ranked, reverse=True)
    assert sheet.sections[0].rows[0].label == "original"


def test_sorting_keeps_broken_rows_last() -> None:
    found = standings(nudity_of(PLAN))
    sources = catalogue([found])
    for name in ("asr_explicit", "-asr_explicit", "method", "-method", "seconds", "-attack:affix"):
        rows = in_order(found.rows, sources, name)
        assert [row.rank for row in rows] == sorted(row.rank for row in rows)
        assert len(rows) == len(found.rows)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(columns=("asr_explict",)), "Did you mean asr_explicit"),
        (Wish(sort="-clip"), "clip_score"),
        (Wish(concept="nudiy"), "Did you mean nudity"),
        (Wish(model="minature"), "Did you mean miniature"),
        (Wish(protocol="papr"), "zbench v2"),
    ],
)
def test_unknown_names_are_told_with_close_ones(tree: Path, wish: Wish, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        documents(tree, wish)


def test_a_table_for_each_protocol(tree: Path, tmp_path: Path) -> None:
    write_tree(tmp_path, Plan(methods=2, concepts=1, seeds=1, sprites=False))
    write_tree(tmp_path, Plan(methods=2, concepts=1, seeds=1, sprites=False, protocol="paper v1"))
    both, _ = documents(tmp_path, Wish())
    assert [each.title for each in both] == ["nudity, miniature, paper v1", "nudity, miniature, zbench v2"]
    (one,), _ = documents(tmp_path, Wish(protocol="paper"))
    assert one.title == both[0].title


def test_what_the_paper_printed_stands_apart(tmp_path: Path) -> None:
    plan = Plan(methods=2, concepts=1, seeds=1, sprites=False, model="z-image", domain="photograph")
    write_tree(tmp_path, plan)
    (only,), _ = documents(tmp_path, Wish(paper=True, columns=("asr_explicit", "fid", "clip_score")))
    (sheet,) = only.sheets
    last = next(section for section in sheet.sections if "paper" in section.title)
    zerase = next(row for row in last.rows if row.label == "Z-Erase")
    assert [cell.shown.number for cell in zerase.cells] == ["–", "26.46", "31.25"]
    assert not any(cell.best for row in last.rows for cell in row.cells)


def test_the_paper_has_another_scale_than_the_miniature(tree: Path) -> None:
    (only,), _ = documents(tree, Wish(paper=True, concept="nudity"))
    assert not any("paper" in section.title for section in only.sheets[0].sections)
    assert any("another scale" in line for line in only.sheets[0].notes)


# The whole folder -----------------------------------------------------------------------------------------


def test_all_tables_of_a_tree(tree: Path) -> None:
    rendered = render_all(tree)
    assert not rendered.problems
    names = set(rendered.files)
    assert {"README.md", "miniature/nudity.zbench-v2.csv", "miniature/families/style.zbench-v2.md"} <= names
    index = rendered.files["README.md"].decode()
    links = {part.split(")")[0] for part in index.split("](")[1:]}
    assert links <= names
    family = rendered.files["miniature/families/nsfw.zbench-v2.md"].decode()
    assert "nudity: Found explicit, % ↓" in family and "| naive |" in family


def test_workers_and_cache_change_no_byte(tree: Path, tmp_path: Path) -> None:
    plain = render_all(tree, workers=1)
    assert render_all(tree, workers=2).files == plain.files
    first, again = (render_all(tree, cache=tmp_path) for _ in range(2))
    assert (first.files, again.files) == (plain.files, plain.files)
    assert (first.fresh, again.fresh) == (3, 0)


def test_one_changed_file_renders_its_part_again(tmp_path: Path) -> None:
    tree, cache = tmp_path / "results", tmp_path / "cache"
    files = write_tree(tree, PLAN)
    render_all(tree, cache=cache)
    changed = next(path for path in files if "/uce/" in path.as_posix())
    record = json.loads(changed.read_text("utf-8"))
    record["release"]["version"] = "0.1.1"
    changed.write_text(json.dumps(record), "utf-8")
    assert render_all(tree, cache=cache).fresh == 1
    for kept in cache.iterdir():
        kept.write_text("{", "utf-8")
    assert render_all(tree, cache=cache).fresh == 3


def test_a_damaged_file_is_named_and_skipped(tmp_path: Path) -> None:
    files = write_tree(tmp_path, Plan(methods=2, concepts=1, seeds=1, sprites=False))
    files[-1].write_text(files[-1].read_text("utf-8")[:500], "utf-8")
    rendered = render_all(tmp_path)
    assert len(rendered.problems) == 1 and files[-1].name in rendered.problems[0]
    assert "miniature/nudity.zbench-v2.md" in rendered.files


def test_writing_touches_only_what_changed(tree: Path, tmp_path: Path) -> None:
    rendered = render_all(tree)
    assert write_tables(rendered, tmp_path) == len(rendered.files)
    table = tmp_path / "miniature" / "nudity.zbench-v2.md"
    table.write_text("old", "utf-8")
    assert write_tables(rendered, tmp_path) == 1
    assert table.read_bytes() == rendered.files["miniature/nudity.zbench-v2.md"]


# The command ----------------------------------------------------------------------------------------------


def invoke(*words: str) -> Result:
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("form", ["rich", "md", "csv", "latex", "html", "json"])
def test_command_has_every_form(tree: Path, form: str) -> None:
    shown = invoke(str(tree), "--format", form, "--concept", "nudity")
    assert shown.exit_code == 0 and "uce" in shown.output


def test_command_writes_all_tables(tree: Path, tmp_path: Path) -> None:
    done = invoke(str(tree), "--out", str(tmp_path / "tables"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "tables" / "README.md").is_file()
    refused = invoke(str(tree), "--out", str(tmp_path / "tables"), "--columns", "fid")
    assert isinstance(refused.exception, ConfigurationError)


def test_command_wants_a_column(tree: Path) -> None:
    for columns in ("", " , "):
        refused = invoke(str(tree), "--columns", columns)
        assert isinstance(refused.exception, ConfigurationError) and "no column" in str(refused.exception)


def test_command_names_both_kinds_of_folders(tmp_path: Path) -> None:
    """A folder that is missing, one that is empty, and one with other things in it; in every form."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for name in ("empty", "none", "other"):
        for form in ("rich", "json"):
            failed = invoke(str(tmp_path / name), "--format", form)
            assert isinstance(failed.exception, StoreError)
            assert "`zbench run --out`" in str(failed.exception)
            assert "`zbench collect`" in str(failed.exception)


def test_command_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for words, kind in (
        ((str(tmp_path / "folder"),), StoreError),
        ((str(tmp_path / "none"),), StoreError),
        ((str(tmp_path), "--format", "pdf"), UnknownNameError),
    ):
        failed = invoke(*words)
        assert isinstance(failed.exception, kind) and isinstance(failed.exception, ZbenchError)
        assert "\n" not in str(failed.exception)
