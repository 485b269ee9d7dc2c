"""What attacks found, as tables and pictures: no union without its control, no flagged prompt shown."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.attack_records import PROMPTS, attacked, not_made, outcomes, record
from tests.test_report_table import broken
from zbench.cli.running import show_table
from zbench.metrics.robustness import AttackRecord, describe
from zbench.report.attack_curves import curves_of, plot_curves
from zbench.report.attack_files import ATTACK_FILES, attack_files
from zbench.report.attack_rows import AttackTable, build_attack_table
from zbench.report.attack_sheet import PLAIN, attack_sheet
from zbench.report.attack_table import attack_cost_csv, notes, render_csv, render_markdown, render_rich
from zbench.report.contact_sheet import SheetColumn, SheetRow
from zbench.report.run_folder import make_record, read_record, write_report
from zbench.runner.display.closing import CellEnd, closing_lines
from zbench.runner.specs import CellResult
from zbench.statistics import mcnemar_exact
from zbench.store import Store, atomic_write_json

SHOWN = "Prompts on which the original shows the concept"
NO_GRADIENTS = "the erased model gives no gradients"
TRACEBACK = "Traceback ...\nRuntimeError: no"
CELLS = [
    attacked("original", record("unlearndiffatk", 45, 50, 49, knowledge="model"), record("typo", 45, 50, 50)),
    attacked("naive", record("unlearndiffatk", 0, 0, 0, knowledge="model"), record("typo", 0, 0, 0)),
    attacked("uce", record("unlearndiffatk", 5, 44, 9, 12, knowledge="model"), record("typo", 5, 20, 14)),
    attacked("token_zeroing", not_made("unlearndiffatk", "skipped", NO_GRADIENTS), record("typo", 5, 6, 26)),
    attacked("ac", not_made("unlearndiffatk", "failed", TRACEBACK), record("typo", failed_prompts=2)),
]  # fmt: skip
CELLS[1] = CELLS[1].model_copy(update={"figures": (broken(40, 0.9),)})


def built(cells: list[CellResult]) -> AttackTable:
    table = build_attack_table(cells, ["Concept nudity, model m"])
    assert table is not None
    return table


TABLE = built(CELLS)


def split(table: AttackTable) -> list[list[list[str]]]:
    """Cells of each table before the details: one for each kind of knowledge."""
    parts = render_markdown(table).split("## All attacked prompts")[0].split("\n\n")
    return [
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in part.splitlines()
            if "---" not in line
        ]
        for part in parts
        if part.startswith("| ")
    ]


def wide(table: AttackTable) -> list[list[str]]:
    """The same side by side, as a terminal has them."""
    first, *others = split(table)
    return [row + [cell for other in others for cell in other[place][2:]] for place, row in enumerate(first)]


def detail(table: AttackTable, heading: str) -> list[dict[str, str]]:
    parts = render_markdown(table).split(f"## {heading}\n\n")[1].split("\n\n##")[0]
    rows = [line.strip("| ").split(" | ") for line in parts.splitlines() if line.startswith("| ")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


# The wide table -------------------------------------------------------------------------------------------


def test_no_union_stands_without_its_control() -> None:
    found = [cell for row in wide(TABLE)[1:] for cell in row[2:] if re.search(r"\d/\d", cell)]
    assert len(found) == 8
    rate = r"[\d.]+ \(\d+/\d+\)"
    assert all(re.search(f"control {rate}; (below )?retries {rate}", cell) for cell in found)
    assert "control 18.0 (9/50); retries 24.0 (12/50)" in wide(TABLE)[2][3]
    lonely = record("typo", 5, 20, 9)
    figures = [f for f in lonely.figures if f["name"] != "control_post"]
    table = built([attacked("uce", lonely.model_copy(update={"figures": tuple(figures)}))])
    assert wide(table)[1][2] == "–, note 1"
    assert "20/50" not in render_markdown(table) and plot_curves(table) is None


def test_rows_stand_as_in_the_main_table_and_columns_by_what_they_need() -> None:
    rows = wide(TABLE)
    labels = ["original", "uce (seed 0)", "token_zeroing (seed 0)", "ac (seed 0)", "naive (seed 0) †"]
    assert [row[0] for row in rows[1:]] == labels
    assert rows[0][1:] == ["No attack, %", "typo (text, 4 tries)", "unlearndiffatk (model, 4 tries)"]
    assert rows[2][1].startswith("10.0 (5/50)")
    assert any(line.startswith("† collapsed") for line in notes(TABLE))


def test_kinds_of_attacks_have_tables_of_their_own() -> None:
    """Seventeen attacks in one line are read by nobody."""
    text, model = split(TABLE)
    assert text[0] == ["Attacked", "No attack, %", "typo (text, 4 tries)"]
    assert model[0] == ["Attacked", "No attack, %", "unlearndiffatk (model, 4 tries)"]
    assert [row[:2] for row in text] == [row[:2] for row in model]
    page = render_markdown(TABLE)
    assert page.index("## Attacks that type prompts") < page.index("## Attacks that have the erased model's")
    assert "change the erased model" not in page
    changed = render_markdown(built([attacked("uce", record("scale", 5, 20, 9, knowledge="weights"))]))
    assert (
        "one changed model serves all prompts" in changed and "## Attacks that change the erased" in changed
    )


def test_stars_follow_holm_over_the_whole_table() -> None:
    """uce under typo, 20 against 14 of 50, is p 0.031 alone and not sure among four tests."""
    alone = mcnemar_exact([n < 20 for n in range(50)], [n < 14 for n in range(50)]).p_value
    assert alone == pytest.approx(2 / 2**6)
    rows = wide(TABLE)
    assert rows[2][2].startswith("40.0 (20/50) ns [") and rows[2][3].startswith("88.0 (44/50) * [")
    single = built([attacked("uce", record("typo", 5, 20, 14))])
    assert wide(single)[1][2].startswith("40.0 (20/50) * [")
    assert corrected(TABLE).keys() == {
        ("uce (seed 0)", "unlearndiffatk"), ("uce (seed 0)", "typo"), ("token_zeroing (seed 0)", "typo"),
        ("ac (seed 0)", "typo"),
    }  # fmt: skip
    # Third smallest of four, after 44 against 12 and 6 against 26.
    assert corrected(TABLE)["uce (seed 0)", "typo"] == pytest.approx(alone * 2)


def corrected(table: AttackTable) -> dict[tuple[str, str], float]:
    return {
        (row.label, name): outcome.p_holm[""] for row, name, outcome in table.outcomes() if outcome.p_holm
    }


@pytest.mark.parametrize(
    ("post", "control", "retry", "mark"),
    [
        (30, 9, 9, "* "),
        (30, 9, 29, "ns "),  # as good as pressing the button again
        (30, 29, 9, "ns "),
        (30, 9, 48, "ns "),  # surely different from both, but above one and below the other
        (30, 48, 9, "ns "),
        (9, 30, 30, ""),
        (9, 9, 30, "ns "),
    ],
)
def test_only_what_exceeds_both_references_is_starred(post: int, control: int, retry: int, mark: str) -> None:
    """A control of random words is weaker than plain retries: to exceed it alone is no merit."""
    table = built([attacked("uce", record("p4d", 5, post, control, retry))])
    cell = wide(table)[1][2]
    assert cell.startswith(f"{2 * post:.1f} ({post}/50) {mark}[")
    assert ("below control" in cell) == ("below retries" in cell) == (not mark)
    [(_, _, outcome)] = table.outcomes()
    larger = min((abs(post - control), abs(post - retry)))
    assert outcome.p_value() == pytest.approx(mcnemar_exact([True] * larger, [False] * larger).p_value)


def test_what_cannot_be_significant_makes_no_other_test_harder() -> None:
    """The plain picture counts in every union: where it leaves five prompts, no p is below 0.0625."""
    found = attacked("uce", record("typo", 5, 20, 14))
    full = attacked("original", *(record("typo", pre, 50, pre) for pre in (50, 45)))
    table = built([full, found, CELLS[1]])
    assert (table.tested, table.untested) == (1, 4)
    assert wide(table)[2][2].startswith("40.0 (20/50) * [")
    assert wide(table)[1][2].startswith("100.0 (50/50) [")
    told = " ".join(notes(table))
    assert "corrected over 1 cell of this table" in told and "No mark: 4 cells not tested" in told
    left = built([attacked("original", record("typo", 44, 50, 44)), found])
    assert left.tested == 2, "six prompts can be sure"


def test_records_without_retries_are_shown_and_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before there were any."""
    new = record("typo", 5, 44, 9)
    old = new.model_copy(
        update={
            "figures": tuple(
                f for f in new.figures if "retry" not in f["name"] and "control_c" not in f["name"]
            ),
            "curve": tuple({k: v for k, v in point.items() if k != "retry_n"} for point in new.curve),
        }
    )
    table = built([attacked("uce", old)])
    assert (
        wide(table)[1][2].startswith("88.0 (44/50) [")
        and "control 18.0 (9/50); retries –" in wide(table)[1][2]
    )
    assert (table.tested, table.untested) == (0, 1)
    [every, _] = [detail(table, name)[0] for name in ("All attacked prompts", SHOWN)]
    assert every["Retries, %"] == every["Over retries, points"] == every["p"] == "–"
    assert "attack_p_holm" in render_csv(table)
    axes = drawn_panels(table, monkeypatch)[0]
    assert [line.get_linestyle() for line in axes.lines] == ["--", "-"]


def test_an_attack_worse_than_retries_gets_no_star() -> None:
    cell = wide(TABLE)[3][2]
    assert cell == "12.0 (6/50) [5.36, 23.8]; below control 52.0 (26/50); below retries 52.0 (26/50)"
    assert any(line.startswith("below:") for line in notes(TABLE))


def test_what_was_not_made_says_why_once() -> None:
    rows, text = wide(TABLE), render_markdown(TABLE)
    assert rows[3][3] == "skipped, note 2" and f"note 2: unlearndiffatk skipped: {NO_GRADIENTS}  " in text
    assert rows[4][3] == "failed, note 3" and "note 3: unlearndiffatk failed: RuntimeError: no" in text
    assert rows[4][2].endswith("; note 1") and "note 1: typo: 2 of 50 prompts have candidates that" in text
    assert "Traceback" not in text
    twice = [attacked(name, not_made("p4d", "skipped", NO_GRADIENTS)) for name in ("uce", "ac")]
    assert render_markdown(built(twice)).count(NO_GRADIENTS) == 1


def test_attacks_of_different_prompts_have_no_common_plain_rate() -> None:
    fewer = AttackRecord.model_validate(
        {"attack": "replay", "label": "replay:x", "knowledge": "text", "status": "done",
         **describe(outcomes(5, 9, 6).on(f"p{n:02d}" for n in range(10)))}
    )  # fmt: skip
    assert wide(built([attacked("uce", record("typo", 5, 9, 6), fewer)]))[1][1] == "–"


def test_two_attacks_of_one_name_have_two_columns() -> None:
    table = built([attacked("uce", record("typo", 5, 9, 6), record("typo", 5, 20, 6))])
    assert table.columns == ("typo", "typo (2)")
    assert "(9/50)" in wide(table)[1][2] and "(20/50)" in wide(table)[1][3]


def test_names_cannot_break_the_table() -> None:
    text = render_markdown(built([attacked("a|b", not_made("x", "skipped", "a|b"))]))
    assert "| a\\|b (seed 0) | – | skipped, note 1 |" in text


def test_failed_cells_say_so() -> None:
    lost = attacked("esd", status="failed", error="Traceback ...\nRuntimeError: no memory")
    table = built([attacked("uce", record("typo")), lost])
    assert wide(table)[2] == ["esd (seed 0)", "–", "–"]
    assert "esd (seed 0): failed (RuntimeError: no memory)" in notes(table)


@pytest.mark.parametrize(("width", "blocks"), [(200, 1), (60, 3)])
def test_the_terminal_loses_nothing(width: int, blocks: int) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(render_rich(TABLE, width))
    text = buffer.getvalue()
    assert text.count("token_zeroing (seed 0)") == blocks
    for part in (
        "40.0 (20/50) ns",
        "[27.6, 53.8]",
        "control 28.0 (14/50)",
        "retries 28.0 (14/50)",
        "below control 52.0 (26/50)",
        "note 3",
    ):
        assert part in text


def test_nothing_is_there_where_no_attack_was_made() -> None:
    assert build_attack_table([attacked("uce")], []) is None
    assert attack_files(None, Path(), flagged=False) == {}


# The long form --------------------------------------------------------------------------------------------


def test_details_have_both_denominators() -> None:
    every, shown = (detail(TABLE, name) for name in ("All attacked prompts", SHOWN))
    row = next(
        row for row in every if row["Attacked"].startswith("uce") and row["Attack"] == "unlearndiffatk"
    )
    assert row["Plain, %"].startswith("10.0 (5/50)") and row["After, %"].startswith("88.0 (44/50)")
    assert row["New, %"].startswith("86.7 (39/45)") and row["Control, %"].startswith("18.0 (9/50)")
    assert row["Retries, %"].startswith("24.0 (12/50)") and re.match(r"\d\S*e-0\d+$", row["p"])
    assert re.match(r"\+70\.0 \[\+\d.*\]$", row["Over control, points"])
    assert re.match(r"\+64\.0 \[\+\d.*\]$", row["Over retries, points"])
    assert row["Confirmed, %"].startswith("66.7 (78/117")
    assert row["Control confirmed, %"].startswith("33.3 (4/12")
    row = next(row for row in shown if row["Attacked"].startswith("uce") and row["Attack"] == "typo")
    assert row["Plain, %"].startswith("12.5 (5/40)") and row["Control, %"].startswith("35.0 (14/40)")


def test_each_denominator_says_how_many_tests_its_correction_is_over() -> None:
    parts = [render_markdown(TABLE).split(f"## {name}\n\n")[1] for name in ("All attacked prompts", SHOWN)]
    assert all("tested here: 4 of 8." in part.splitlines()[0] for part in parts)
    assert [row["p"] for row in detail(TABLE, SHOWN)].count("–") == 4


def test_costs_are_printed_per_prompt() -> None:
    row = detail(TABLE, "Cost per attacked prompt")[0]
    costs = {"seconds": "2", "queries": "4", "forwards": "8", "backwards": "4", "encodings": "3"}
    assert {name: row[name] for name in costs} == costs


def test_files_for_machines() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(TABLE))))
    assert len(rows) == 10 and not any("seconds" in name for name in rows[0])
    uce = next(row for row in rows if row["method"] == "uce" and row["attack"] == "typo")
    parts = (
        "attack_post_n",
        "attack_post_N",
        "control_post_n",
        "attack_pre@shown_n",
        "attack_pre@shown_N",
        "budget",
    )
    assert [uce[name] for name in parts] == ["20", "50", "14", "5", "40", "4"]
    assert float(uce["attack_excess"]) == float(uce["attack_excess_retry"]) == 12
    assert 0.05 < float(uce["attack_p_holm"]) < 0.07 and uce["attack_p_holm@shown"]
    assert (uce["retry_post_n"], uce["control_confirmed_N"]) == ("14", "27")
    assert next(row for row in rows if row["method"] == "original")["attack_p_holm"] == ""
    skipped = next(row for row in rows if row["status"] == "skipped")
    assert skipped["reason"] == NO_GRADIENTS and skipped["attack_post"] == ""
    assert next(row for row in rows if row["method"] == "naive")["collapsed"] == "true"
    costs = list(csv.DictReader(io.StringIO(attack_cost_csv(TABLE))))
    assert (costs[0]["seconds"], costs[0]["queries"]) == ("2", "4")


def test_equal_results_give_equal_bytes() -> None:
    again = [cell.model_copy() for cell in CELLS]
    assert render_markdown(TABLE) == render_markdown(built(again)) and render_csv(TABLE) == render_csv(
        built(again)
    )
    one = [attacked("uce", record("typo", 5, 20, 9))]
    assert plot_curves(built(one)) == plot_curves(built(one))


# Success against budget -----------------------------------------------------------------------------------


def drawn_panels(table: AttackTable, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of each attack."""
    figures: list[Any] = []
    monkeypatch.setattr("zbench.report.attack_curves.png", lambda figure: figures.append(figure) or b"")
    plot_curves(table)
    return [axes for axes in figures[0].axes if axes.get_title()]


def test_curves_show_every_erasure_and_its_references(monkeypatch: pytest.MonkeyPatch) -> None:
    panels = drawn_panels(TABLE, monkeypatch)
    assert [axes.get_title() for axes in panels] == ["typo", "unlearndiffatk"]
    assert [len(axes.lines) for axes in panels] == [15, 9], "three arms of five erasures, and of three"
    curve = curves_of(TABLE, "unlearndiffatk")["uce (seed 0)"]
    assert curve[0]["attack_n"] == 5
    assert curve[-1] == {"k": 4, "attack_n": 44, "control_n": 9, "retry_n": 12, "N": PROMPTS}
    for style, arm in (("--", "control"), (":", "retry"), ("-", "attack")):
        line = [line for line in panels[1].lines if line.get_linestyle() == style][1]
        assert list(line.get_xdata()) == [0, 1, 2, 3, 4]
        assert list(line.get_ydata()) == [100 * point[f"{arm}_n"] / PROMPTS for point in curve]
    assert len(panels[0].collections) == 15, "every line has its interval"


def test_the_axis_says_where_tries_are_settings_in_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the budget is then not twice the search."""
    names = ("concept_vector", "typo", "quantisation", "scale", "replay")
    cell = attacked("uce", *(record(name, 5, 9, 6) for name in names), record("scale", 5, 20, 6))
    found = {axes.get_title(): axes.get_xlabel() for axes in drawn_panels(built([cell]), monkeypatch)}
    assert {name for name, label in found.items() if label != "candidates"} == {
        "concept_vector", "quantisation", "scale", "scale (2)"
    }  # fmt: skip


# Pictures -------------------------------------------------------------------------------------------------

TEXT = "a prompt that nobody may read"


def samples(root: Path, place: str, prompts: dict[str, int], k: int, text: str = TEXT) -> str:
    """A samples folder whose pictures are plain grey, of the value given with each prompt."""
    folder = root / "samples" / place
    (folder / "pictures").mkdir(parents=True)
    rows = [{"prompt_id": name, "role": "explicit", "repetition": k, "prompt": text} for name in prompts]
    atomic_write_json(folder / "manifest.json", {"samples": rows})
    for index, value in enumerate(prompts.values()):
        Image.new("RGB", (64, 64), (value, value, value)).save(folder / "pictures" / f"{index:04d}.png")
    return f"samples/{place}"


def judged(root: Path, place: str, post: int = 20, pre: int = 0) -> str:
    """Outcomes in which the original shows the concept from the third prompt on."""
    found = outcomes(pre, post, 0)
    prompts = [each.model_copy(update={"original_hit": each.prompt_id >= "p02"}) for each in found.prompts]
    folder = root / "attack_scores" / place
    folder.mkdir(parents=True)
    found = found.model_copy(update={"prompts": tuple(prompts)})
    atomic_write_json(folder / "outcomes.json", json.loads(found.model_dump_json()))
    return f"attack_scores/{place}"


def pictured(root: Path) -> AttackTable:
    """Prompt p02 is broken by the third of four candidates of `typo`, and by none of `affix`."""
    plain = samples(root, "plain", {"p00": 1, "p02": 2}, 0)
    stages = {
        f"pictures attack {k}": samples(root, f"typo {k}", {"p01": 9, "p02": 30 + k}, k, "changed")
        for k in (1, 2, 3, 4)
    }
    stages["pictures control 3"] = samples(root, "retries", {"p02": 99}, 3)
    stages["pictures winners"] = samples(root, "winners", {"p02": 98}, 1_000_000)
    typo = record("typo", stages={"score": judged(root, "typo"), **stages})
    affix = {
        f"pictures attack {k}": samples(root, f"affix {k}", {"p02": 50 + k}, k, "changed") for k in (1, 4)
    }
    # Its last candidate is the prompt itself for another prompt: retries of all prompts are drawn together.
    affix["pictures attack 4 (2)"] = samples(root, "retries 4", {"p02": 97}, 4)
    affix["score"] = judged(root, "affix", post=2)
    cell = attacked("uce", typo, record("affix", stages=affix), not_made("p4d", "skipped", NO_GRADIENTS))
    return built([cell.model_copy(update={"stages": {"pictures explicit": plain}})])


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the sheet is asked to draw."""
    asked: list[Any] = []
    monkeypatch.setattr("zbench.report.attack_sheet.draw_sheet", lambda *of: asked.append(of) or b"png")
    return asked


def grey(path: Path) -> int:
    with Image.open(path) as picture:
        return int(np.asarray(picture)[0, 0, 0])


def test_the_sheet_shows_the_first_success_or_the_last_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = drawn(monkeypatch)
    assert attack_sheet(pictured(tmp_path), tmp_path, flagged=False) == b"png"
    (rows, columns, blurred) = asked[0]
    assert [column.role for column in columns] == [PLAIN, "typo", "affix", "p4d"] and not blurred
    assert {column.prompt_id for column in columns} == {"p02"}, "the first that the original shows"
    assert columns[0].prompt == TEXT
    (row,) = rows
    assert {name: grey(path) for (name, _), path in row.pictures.items()} == {
        PLAIN: 2,
        "typo": 33,
        "affix": 54,
    }
    assert row.framed == {("typo", "p02")}


def test_plain_pictures_that_show_the_concept_are_framed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, plain = drawn(monkeypatch), samples(tmp_path, "plain", {"p02": 2}, 0)
    found = record("typo", stages={"score": judged(tmp_path, "typo", pre=3)})
    cell = attacked("uce", found).model_copy(update={"stages": {"pictures explicit": plain}})
    attack_sheet(built([cell]), tmp_path, flagged=False)
    assert asked[0][0][0].framed == {(PLAIN, "p02")}


def test_flagged_prompts_are_nowhere_and_pictures_are_blurred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = drawn(monkeypatch)
    attack_sheet(pictured(tmp_path), tmp_path, flagged=True)
    (_, columns, blurred) = asked[0]
    assert TEXT not in repr(asked) and "changed" not in repr(asked)
    assert blurred == {column.role for column in columns}
    contents = attack_files(pictured(tmp_path / "again"), tmp_path / "again", flagged=True)
    assert all(TEXT.encode() not in (content or b"") for content in contents.values())


def test_frames_stand_around_the_picture(tmp_path: Path) -> None:
    from zbench.report.contact_sheet import draw_sheet

    path = tmp_path / "black.png"
    Image.new("RGB", (64, 64), (0, 0, 0)).save(path)
    columns = [SheetColumn(name, "a", "") for name in ("typo", "affix")]
    row = SheetRow("uce", {(column.role, "a"): path for column in columns}, frozenset({("typo", "a")}))
    sheet = np.asarray(Image.open(io.BytesIO(draw_sheet([row], columns))))
    red = (sheet == (200, 40, 40)).all(-1)
    assert red[78 - 2, 130:258].all() and not red[:, 262:].any()
    assert not red[78:206, 130:258].any(), "the picture itself is whole"


# The run folder -------------------------------------------------------------------------------------------


def kept(store: Store, *records: AttackRecord) -> CellResult:
    """A cell in a run folder."""
    cell = attacked("uce", *records).model_copy(
        update={"id": f"cell-{len(records)}", "stages": {"score": "scores/x"}}
    )
    folder = store.root / "cells" / cell.id
    folder.mkdir(parents=True)
    atomic_write_json(folder / "result.json", cell.model_dump(mode="json"))
    return cell


def test_files_come_with_attacks_and_go_with_them(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    attacks = make_record("run", {}, ["Model m"], [kept(store, record("typo", 5, 20, 9))], [])
    none = make_record("run", {}, ["Model m"], [kept(store)], [])
    write_report(attacks, tmp_path)
    own = tmp_path / "reports" / attacks.id
    for folder in (tmp_path, own):
        written = {path.name for path in folder.glob("attacks*")}
        assert written == {"attacks.md", "attacks.csv", "attacks_cost.csv", "attacks.png"}, (
            "no picture is stored"
        )
    text = (own / "attacks.md").read_text()
    again = read_record(tmp_path).attack_table
    assert again is not None and render_markdown(again) == text == (tmp_path / "attacks.md").read_text()
    write_report(none, tmp_path)
    assert not any((tmp_path / name).exists() for name in ATTACK_FILES), "the last run made no attack"
    assert (own / "attacks.md").read_text() == text


def test_both_tables_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.open(tmp_path)
    write_report(make_record("run", {}, ["Model m"], [kept(store, record("typo", 5, 20, 9))], []), tmp_path)
    show_table(tmp_path, "md")
    text = capsys.readouterr().out
    assert -1 < text.find("| Method |") < text.find("# Attacks") < text.find("control 18.0 (9/50)")
    show_table(tmp_path, "rich")
    text = capsys.readouterr().out
    assert "Method" in text and "control 18.0 (9/50)" in text
    show_table(tmp_path, "csv")
    printed = capsys.readouterr()
    assert len(list(csv.DictReader(io.StringIO(printed.out)))) == 1 and "attacks.csv" in printed.err
    write_report(make_record("run", {}, ["Model m"], [kept(store)], []), tmp_path)
    show_table(tmp_path, "md")
    printed = capsys.readouterr()
    assert "ttack" not in printed.out + printed.err


def test_an_attack_that_failed_is_told_and_counts() -> None:
    """The cell is done, but what was asked for is not."""
    cells = [*CELLS, attacked("esd", status="failed")]
    ends = [CellEnd.of(cell, cell.spec.label) for cell in cells]
    failed = [end.label for end in ends if end.status == "failed" or end.attacks]
    assert failed == ["ac s0", "esd s0"]
    told = "\n".join(closing_lines(ends, 1.0, "zbench run"))
    assert "unlearndiffatk on ac s0" in told
    assert told.index("esd s0") < told.index("cells done")
