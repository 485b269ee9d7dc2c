"""The paper's tables as data, the grids that stand for them, and what is printed side by side."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.reproduction_tools import OPTIONS, Quality, measured, result_of
from zbench.concepts import concept_names
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.report.trainings import Trainings
from zbench.reproduction.effects import effect
from zbench.reproduction.grids import Options, table_grid, table_runs
from zbench.reproduction.pages import percent, table_page
from zbench.reproduction.reading import Measured
from zbench.reproduction.rendering import (
    render_csv,
    render_json,
    render_markdown,
    render_rich,
    table_records,
)
from zbench.reproduction.series import series_of
from zbench.reproduction.side_by_side import ColumnLines, side_by_side
from zbench.reproduction.tables import ORIGINAL, TABLES, load_table, printed_numbers
from zbench.results.schema import PublishedResult
from zbench.runner.planning import plan
from zbench.runner.specs import CellSpec

WHOLE = Quality()
GOOD = Quality(shown=0.2, clip=29.9, fid=10.05, acc_e=25.0, acc_ir=29.5, attacked={"typo": 0.6})


def good(row: str, concept: str) -> Quality | None:
    del concept
    return WHOLE if row == ORIGINAL else GOOD


# The paper's numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_row_and_column_of_the_paper_is_there(name: str) -> None:
    table = load_table(name)
    assert {row.name for row in table.rows if row.paper} == set(table.printed) - {ORIGINAL}
    columns = {column.name for column in table.columns if not column.paper_mean}
    assert set(table.printed[ORIGINAL]) <= columns
    assert set(table.domains) == {"world", "photograph"}
    for domain, how in table.domains.items():
        assert {part for column in table.columns for part in column.part} <= set(how.concepts)
        named = {concept for concepts in how.concepts.values() for concept in concepts}
        assert named <= set(concept_names(domain)), domain


def test_numbers_are_the_papers() -> None:
    nsfw = load_table("nsfw")
    assert nsfw.paper("zerase", "total") == 161 and nsfw.paper("erase_anything", "violence") is None
    assert all(
        sum(row[part] or 0 for part in ("common", "female", "male")) == row["total"]
        for row in nsfw.printed.values()
    )
    assert load_table("attacks").paper(ORIGINAL, "reflux") == 96.84
    assert load_table("ablation").paper("attn_pr", "total") == 314
    assert printed_numbers("hunyuanimage3")["zerase"]["nudity_total"] == 145


def test_the_slips_are_those_that_the_papers_own_columns_give_away() -> None:
    found = {}
    for name, parts in (("celebrity", ("",)), ("category", ("entity_", "style_", "abstraction_"))):
        table = load_table(name)
        for row, values in table.printed.items():
            for part in parts:
                printed, acc_e, acc_ir = (values[f"{part}{each}"] for each in ("h_a", "acc_e", "acc_ir"))
                assert acc_e is not None and acc_ir is not None
                assert table.paper(row, f"{part}h_a") == pytest.approx(acc_ir - acc_e, abs=0.011)
                if printed is not None and abs(acc_ir - acc_e - printed) > 0.011:
                    found[row, f"{part}h_a"] = table.slip(row, f"{part}h_a")
    assert found == {("erase_anything", "h_a"): 3.71, ("zerase", "entity_h_a"): 7.4}
    assert load_table("category").slip("esd_u", "entity_h_a") is None


def test_what_the_paper_does_not_print_is_not_said_to_be_printed() -> None:
    records = [each for name in ("category", "celebrity") for each in table_records(measured(name, good))]
    known = {(each["table"], each["row"], each["column"]): each for each in records}
    for row, column, paper in (
        (ORIGINAL, "entity_h_a", 7.4),
        (ORIGINAL, "style_h_a", -6.0),
        (ORIGINAL, "abstraction_h_a", -1.3),
        ("zerase", "mean_h_a", (5.8 + 0.8 + 4.7) / 3),
    ):
        each = known["category", row, column]
        assert each["paper"] == pytest.approx(paper) and each["printed"] is None
    celebrity = known["celebrity", ORIGINAL, "h_a"]
    assert celebrity["paper"] == -1.67 and celebrity["printed"] is None
    assert known["category", "zerase", "entity_h_a"]["printed"] == 7.4
    for each in records:
        assert each["printed"] == printed_numbers(each["table"])[each["row"]].get(each["column"])


def test_what_follows_from_the_papers_columns_is_marked() -> None:
    page = table_page(measured("category", good))
    entities = render_markdown([page]).split("## Entities: H_a")[1].split("\n## ")[0]
    assert "| Unerased model | 7.4 ‡ |" in entities and "| Z-Erase | 5.8 ‡ |" in entities
    assert "‡ from the paper's own columns, not as printed; Z-Erase is printed as 7.4." in entities
    assert "| ESD-u | 6 |" in entities
    console = Console(width=200, file=io.StringIO())
    console.print(render_rich([page]))
    assert "7.4 ‡" in console.file.getvalue()  # type: ignore[attr-defined]


COMMON = ("rank", "LoRA alpha", "initialisation", "layers", "resolution", "seeds", "trainings", "pictures")
FIDELITY = ("CLIP backbone", "Inception variant", "reference pictures of FID")


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("nsfw", ("baselines' hyper-parameters", *FIDELITY)),
        ("celebrity", ("baselines' hyper-parameters", *FIDELITY)),
        ("category", ("baselines' hyper-parameters",)),
        ("attacks", ("baselines' hyper-parameters", "threshold", "0.6 ", "0.65", "softmax", "renormalises")),
        ("ablation", ("L_attn", *FIDELITY)),
    ],
)
def test_what_the_paper_leaves_open_is_said_beside_its_table(name: str, more: tuple[str, ...]) -> None:
    (note,) = [each for each in load_table(name).notes if each.startswith("Not stated: ")]
    assert not [each for each in (*COMMON, *more) if each not in note]
    assert note in render_markdown([table_page(measured(name, good))])


def test_the_second_models_numbers_are_shown() -> None:
    page = render_markdown([table_page(measured("nsfw", good))])
    assert "On HunyuanImage-3.0, which is not measured here, the paper prints: nudity: DiT-Loc" in page
    assert "Z-Erase 145, unerased 628;" in page
    assert "Z-Erase 3.6; styles" in render_markdown([table_page(measured("category", good))])


def test_shares_are_of_the_unerased_model_and_changes_of_differences() -> None:
    assert load_table("nsfw").paper_share("zerase", "total") == pytest.approx(100 * 161 / 649)
    assert load_table("nsfw").paper_share(ORIGINAL, "fid_nudity") == 100
    celebrity = load_table("celebrity")
    assert celebrity.paper_share(ORIGINAL, "h_a") == 0
    assert celebrity.paper_share("zerase", "h_a") == pytest.approx(100 * (4.82 + 1.67) / 33.91)
    assert load_table("category").paper("zerase", "mean_h_a") == pytest.approx((5.8 + 0.8 + 4.7) / 3)


def test_unknown_names_are_said_with_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean celebrity"):
        load_table("celebrities")
    with pytest.raises(UnknownNameError, match="Did you mean zerase"):
        load_table("nsfw").row("zerse")
    with pytest.raises(ConfigurationError, match="covers world, photograph, not 'audio'"):
        load_table("nsfw").domain("audio")


# The grids ------------------------------------------------------------------------------------------------


def test_a_grid_has_one_cell_for_each_row_concept_and_training() -> None:
    runs = table_runs(load_table("ablation"), OPTIONS)
    specs = [spec for run in runs for spec in plan(run.config) if not spec.is_original]
    settings = {json.dumps({**spec.hyperparameters, "training_seed": 0}, sort_keys=True) for spec in specs}
    assert len(settings) == 9 and len(specs) == 27  # nine settings of one method, three trainings
    attacks = table_runs(load_table("attacks"), Options("miniature", training_seeds=1))
    steps = [run.config.settings.get("unlearndiffatk", {}).get("denoising_steps") for run in attacks]
    assert steps == [[0], [0, 1, 2], None] and attacks[2].config.methods == ("token_zeroing", "zerase")
    assert {run.config.protocol for run in attacks} == {"paper-attacks"}
    assert len(table_grid([load_table(name) for name in TABLES], OPTIONS).runs) == 21


@pytest.mark.parametrize("name", TABLES)
def test_the_large_model_gets_the_papers_presets(name: str) -> None:
    """Its prompts need the user's own copies, so that only what is asked for can be looked at here."""
    runs = table_runs(load_table(name), Options("z-image-turbo"))
    assert runs and all(run.config.preset == "paper" and run.config.model == "z-image-turbo" for run in runs)
    assert load_table(name).domain("photograph").same_scale


# Side by side ---------------------------------------------------------------------------------------------


def test_paper_and_measured_stand_side_by_side() -> None:
    columns = {each.column.name: each for each in side_by_side(measured("nsfw", good))}
    assert "common" not in columns  # the world has no classes of bodies
    lines = {line.row: line for line in columns["total"].lines}
    zerase = lines["zerase"]
    assert zerase.measured is not None and zerase.share is not None and zerase.bounds is not None
    assert zerase.share == pytest.approx(100 * zerase.measured.value / 0.9)
    assert zerase.difference == pytest.approx(zerase.share - 100 * 161 / 649)
    assert zerase.bounds[0] < zerase.share < zerase.bounds[1]
    assert lines[ORIGINAL].share == 100 and lines["all_rows"].paper is None
    assert [line.row for line in columns["violence"].lines][-1] == "zerase"


def test_violence_is_counted_as_the_paper_does() -> None:
    violence = next(each for each in side_by_side(measured("nsfw", good)) if each.column.name == "violence")
    line = next(line for line in violence.lines if line.row == "zerase")
    assert line.counts == pytest.approx(8) and line.absolute == pytest.approx(8 - 324)


def test_a_mean_over_categories_averages_concepts() -> None:
    def by_concept(row: str, concept: str) -> Quality | None:
        kept = {"cat": 30.0, "van-gogh": 33.0, "hug": 36.0}[concept]
        return replace(good(row, concept) or GOOD, acc_e=25.0, acc_ir=kept, spread=0)

    found = {each.column.name: each for each in side_by_side(measured("category", by_concept))}
    line = next(line for line in found["mean_h_a"].lines if line.row == "zerase")
    assert line.measured is not None and line.measured.value == pytest.approx(8.0)
    assert line.measured.concepts == ("cat", "van-gogh", "hug")
    gone = measured("category", lambda row, concept: None if concept == "hug" else by_concept(row, concept))
    again = next(each for each in side_by_side(gone) if each.column.name == "mean_h_a")
    assert not again.is_measured


def test_an_attacks_control_stands_beside_it() -> None:
    page = render_markdown([table_page(measured("attacks", good))])
    typos = page.split("## Typos")[1].split("##")[0]
    assert "(control 20.0" in typos and "| Z-Erase | – | 60" in typos
    assert "Typos: control" not in page


# Pages ----------------------------------------------------------------------------------------------------


def test_a_page_names_the_miniature_the_slips_and_what_is_missing() -> None:
    page = render_markdown([table_page(measured("category", good))])
    assert page.startswith("# Entities, styles, abstractions: the paper's table and the version of miniature")
    assert "no evidence about Z-Image" in page and "arXiv 2603.25074 (ICML 2026), CC BY 4.0" in page
    assert "printed as 7.4" in page and "One concept of each category stands for ten." in page
    half = measured("nsfw", lambda row, concept: good(row, concept) if concept == "nudity" else None)
    assert "Not measured: Violence, FID without violence" in render_markdown([table_page(half)])


def test_equal_results_give_equal_bytes() -> None:
    pages = [render_markdown([table_page(measured("nsfw", good))]) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "-0.0" not in pages[0].replace("[-0.0", "")
    assert percent(-0.04) == "0.0" and percent(-0.04, signed=True) == "+0.0"


def test_machines_get_every_number() -> None:
    records = table_records(measured("celebrity", good))
    lines = list(csv.DictReader(io.StringIO(render_csv(records))))
    slip = next(each for each in lines if (each["row"], each["column"]) == ("erase_anything", "h_a"))
    assert (slip["paper"], slip["printed"]) == ("4.11", "3.71")
    assert {each["trainings"] for each in lines if each["row"] == "zerase"} == {"3"}
    assert json.loads(render_json(records))[0]["table"] == "celebrity"


def test_a_broken_generator_is_marked() -> None:
    def broken(row: str, concept: str) -> Quality | None:
        return replace(GOOD, collapsed=True) if row == "uce" else good(row, concept)

    page = render_markdown([table_page(measured("celebrity", broken))])
    assert "| UCE † |" in page and "it cannot win" in page and "Z-Erase †" not in page


@pytest.mark.parametrize(("concept", "marked"), [("nudity", (1, 2, 3)), ("violence", (4, 5, 6))])
def test_the_overview_marks_the_numbers_of_the_broken_generator_alone(
    concept: str, marked: tuple[int, ...]
) -> None:
    def broken(row: str, of: str) -> Quality | None:
        some = replace(GOOD, collapsed_in=(0, 2))
        return some if (row, of) == ("uce", concept) else good(row, of)

    overview = table_page(measured("nsfw", broken))[1]
    cells = next(row for row in overview.rows if row[0] == "UCE")
    assert tuple(place for place, cell in enumerate(cells) if cell.endswith("†2/3")) == marked
    assert sum("†" in cell for row in overview.rows for cell in row) == 3
    assert [note[0] for note in overview.notes] == ["†"]
    records = table_records(measured("nsfw", broken))
    found = {each["column"]: each for each in records if each["row"] == "uce"}
    ours, others = ("total", "violence") if concept == "nudity" else ("violence", "total")
    assert (found[ours]["broken"], found[ours]["erasures"], found[ours]["trainings"]) == (2, 3, 3)
    assert found[others]["broken"] == 0


def test_trainings_that_are_missing_are_said() -> None:
    def some(row: str, concept: str) -> Quality | None:
        missing = (row, concept) == ("esd_x", "violence")
        return replace(GOOD, missing=(1,)) if missing else good(row, concept)

    page = render_markdown([table_page(measured("nsfw", some))])
    assert page.count("2 of 3 trainings") == 2 * 3  # three columns, in the overview and by themselves
    violence = page.split("## Violence")[1].split("\n## ")[0]
    esd_x = next(line for line in violence.splitlines() if line.startswith("| ESD-x"))
    assert "| ESD-x | 777 | 20.0 (16/80)" in esd_x and "2 of 3 trainings |" in esd_x
    once = measured("nsfw", good, Options("miniature", training_seeds=1))
    assert " trainings |" not in render_markdown([table_page(once)])


def test_a_page_explains_what_it_shows_and_nothing_else() -> None:
    pages = {name: table_page(measured(name, good)) for name in TABLES}
    for name, page in pages.items():
        overview = page[1]
        assert not any("Brackets" in line for line in overview.lines), name
        assert any("H_a" in line for line in overview.lines) == (name in ("celebrity", "category")), name
        assert page[2].lines[0].startswith("Brackets: 95 % intervals")


# The paper's own model ------------------------------------------------------------------------------------


def on_the_papers_model(values: tuple[float, ...]) -> Measured:
    """Totals of nudity on the large model, by hand: its plan needs prompts that users fetch."""
    spec = plan(table_runs(load_table("nsfw"), OPTIONS)[0].config)[0]

    def trainings(values: tuple[float, ...]) -> Trainings:
        return Trainings([_counted(spec, seed, value) for seed, value in enumerate(values)])

    rows = {("zerase", "nudity", ""): trainings(values), (ORIGINAL, "nudity", ""): trainings((600.0,))}
    planned = {("zerase", "nudity", ""): 3, (ORIGINAL, "nudity", ""): 1}
    return Measured(load_table("nsfw"), "photograph", "z-image-turbo", rows, planned, wanted=4, found=4)


def _counted(spec: CellSpec, seed: int, value: float) -> PublishedResult:
    result = result_of(spec.model_copy(update={"hyperparameters": {"training_seed": seed}}), GOOD)
    count = {"name": "count_implicit:total_groups", "value": value, "n": None, "N": 4703, "unit": "count"}
    figure = {
        **count,
        "low": value - 20,
        "high": value + 20,
        "direction": "lower",
        "note": "",
        "settings": {},
    }
    return result.model_copy(update={"result": result.result.model_copy(update={"figures": (figure,)})})


def test_counts_are_counts_and_plain_differences_have_intervals() -> None:
    found = on_the_papers_model((171.0, 172.0, 170.0))
    page = render_markdown([table_page(found)])
    total = page.split("## Nudity ↓")[1].split("\n## ")[0]
    zerase = next(line for line in total.splitlines() if line.startswith("| Z-Erase |"))
    assert "| 161 | 171 [15" in zerase and "171.0" not in zerase and "Difference as it is" in total
    columns = {each.column.name: each for each in side_by_side(found)}
    line = next(each for each in columns["total"].lines if each.row == "zerase")
    assert line.measured is not None and line.measured.unit == "count"
    assert line.absolute_bounds is not None and line.absolute_bounds[0] < 10 < line.absolute_bounds[1]
    assert f"| 10 [{line.absolute_bounds[0]:.4g}, {line.absolute_bounds[1]:.4g}] |" in zerase


def test_violence_is_subtracted_as_it_is_counted() -> None:
    line = next(line for line in _violence().lines if line.row == "zerase")
    assert line.measured is not None and line.measured.low is not None and line.absolute_bounds is not None
    assert line.absolute_bounds[0] == pytest.approx(40 * line.measured.low - 324)


def _violence() -> ColumnLines:
    return next(each for each in side_by_side(measured("nsfw", good)) if each.column.name == "violence")


def test_nearly_equal_counts_are_no_certain_difference() -> None:
    """Sums over pictures have no outcomes of their own: trainings that agree do not make them certain."""
    first, second = (
        series_of(on_the_papers_model(values), "zerase", load_table("nsfw").column("total"))
        for values in ((160.0, 160.0, 160.001), (163.0, 163.0, 163.001))
    )
    assert first is not None and second is not None
    assert effect(first, second, 600.0).p_value > 0.05
