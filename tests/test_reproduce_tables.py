"""The paper's tables as data, the grids that stand for them, and what is printed side by side."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reproduction_tools import OPTIONS, Quality, find_of, measured, result_of
from zbench.concepts import concept_names
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.reproduction.grids import Options, table_grid, table_runs
from zbench.reproduction.pages import percent, table_page
from zbench.reproduction.reading import finder, in_run_folder, read_measured
from zbench.reproduction.rendering import (
    render_csv,
    render_json,
    render_markdown,
    table_records,
)
from zbench.reproduction.side_by_side import side_by_side
from zbench.reproduction.tables import ORIGINAL, TABLES, load_table, printed_numbers
from zbench.results.form import to_text
from zbench.runner.planning import plan

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


# Where results are ----------------------------------------------------------------------------------------


def write_result(root: Path, row: str, seed: int, **changes: object) -> None:
    run = next(run for run in table_runs(load_table("celebrity"), OPTIONS))
    spec = next(each for each in plan(run.config) if (each.method, each.training_seed) == (row, seed))
    result = result_of(spec.model_copy(update=changes), GOOD)
    path = root / result.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_text(result))


def test_a_tree_of_results_is_read_by_what_was_done(tmp_path: Path) -> None:
    write_result(tmp_path, "zerase", 0)
    write_result(tmp_path, "zerase", 1, steps=4)
    write_result(tmp_path, "uce", 0, protocol="zbench")
    found = read_measured(load_table("celebrity"), OPTIONS, finder(tmp_path, "miniature"))
    assert {place[0]: len(of.results) for place, of in found.rows.items()} == {"zerase": 1}
    assert (found.found, found.wanted) == (1, 28)
    other = read_measured(load_table("celebrity"), OPTIONS, finder(tmp_path, "z-image-turbo"))
    assert other.found == 0


def test_a_cell_that_failed_is_named_and_no_number() -> None:
    find = find_of("celebrity", good)

    def failing(spec):  # type: ignore[no-untyped-def]
        result = find(spec)
        if result is None or spec.method != "uce":
            return result
        gone = {"status": "failed", "error": "Traceback\nValueError: too warm", "figures": ()}
        return result.model_copy(update={"result": result.result.model_copy(update=gone)})

    found = read_measured(load_table("celebrity"), OPTIONS, failing)
    assert "uce s0 on four-people: failed (ValueError: too warm)" in found.failed
    page = render_markdown([table_page(found)])
    assert "too warm" in page and "| UCE | 21.91 | – |" in page


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no folder"):
        finder(tmp_path / "nowhere", "miniature")
    with pytest.raises(StoreError, match="holds no published results"):
        finder(tmp_path, "miniature")
    run = table_runs(load_table("celebrity"), OPTIONS)[0]
    assert in_run_folder(tmp_path)(plan(run.config)[0]) is None
