"""What the collapse study says: effects, corrected tests, and words for made-up records."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zbench.studies.collapse import training as fine_tuning
from zbench.studies.collapse.beyond import PAPER, beyond
from zbench.studies.collapse.changed import compared_with_naive, kind_of
from zbench.studies.collapse.effects import all_effects, effects, scale_effect
from zbench.studies.collapse.page import render_page
from zbench.studies.collapse.plan import FACTORS, Planned, Run, make_plan, naive_of
from zbench.studies.collapse.verdicts import conclusions
from zbench.studies.paired import correct


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_collect() -> Iterator[None]:
    """Holm's correction of statsmodels collects garbage, which takes long where many modules are loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


def settings_of(planned: list[Planned]) -> list[dict[str, Any]]:
    return [one.run.describe() for one in planned if one.group == "factorial"]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=5, max_size=5), st.integers(0, 1000))
def test_effects_are_differences_of_means(truth: list[float], seed: int) -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    noise = np.random.default_rng(seed).normal(0, 0.01, len(levels))
    values = [
        0.5
        + sum(t * (row[f] == FACTORS[f][1]) for t, f in zip(truth, FACTORS, strict=False))
        + float(noise[place])
        for place, row in enumerate(levels)
    ]
    found = {term["term"]: term for term in effects(levels, values)}
    assert set(found) >= set(FACTORS) and "rows x time" in found and len(found) == 10
    for factor, (_, suspected) in FACTORS.items():
        high = [v for v, row in zip(values, levels, strict=True) if row[factor] == suspected]
        low = [v for v, row in zip(values, levels, strict=True) if row[factor] != suspected]
        assert found[factor]["estimate"] == pytest.approx(np.mean(high) - np.mean(low), abs=1e-9)
        assert found[factor]["low"] < found[factor]["estimate"] < found[factor]["high"]


def test_an_interaction_is_found_where_it_is() -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    values = [float(row["rows"] == "all" and row["time"] == "released") for row in levels]
    values[0] += 0.01
    found = {term["term"]: term for term in effects(levels, values)}
    assert found["rows x time"]["estimate"] == pytest.approx(0.5, abs=0.01)
    assert found["rows x time"]["low"] > 0.4 and abs(found["preservation"]["estimate"]) < 0.01


def test_equal_runs_have_no_interval() -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    for term in effects(levels, [0.25] * 16):
        assert term["low"] is None and term["p"] is None and term["estimate"] == pytest.approx(0, abs=1e-9)
    assert scale_effect([0.0, 0.1], [0.5, 0.6])["low"] is None
    thirds = [n / 30 for n in (0, 1, 7)]
    assert scale_effect(thirds, [share + 0.1 for share in thirds])["low"] is None, "equal up to rounding"
    assert scale_effect([0.0, 0.1, 0.0], [0.5, 0.7, 0.6])["low"] > 0


def test_an_exact_fit_and_too_few_runs_give_no_interval() -> None:
    levels = settings_of(make_plan(5e-3, 60, 2.0, 15.0, (), 1))
    exact = [2 / 3 if row["rows"] == "all" else 1 / 30 for row in levels]
    found = {term["term"]: term for term in effects(levels, exact)}
    assert found["rows"]["estimate"] == pytest.approx(19 / 30)
    assert all(term["low"] is None and term["p"] is None for term in found.values())
    # Up to two factors at the suspected level: 1 + 4 + 6 runs, as many as terms.
    few = [row for row in levels if sum(row[f] == FACTORS[f][1] for f in FACTORS) <= 2]
    assert len(few) == 11
    assert all(term["low"] is None for term in effects(few, np.random.default_rng(0).random(11).tolist()))


def test_corrected_tests_count_what_could_not_be_tested() -> None:
    family: list[dict[str, Any]] = [{"p": 0.01}, {"p": None}, {"p": 0.02}]
    correct(family)
    assert [row["adjusted"] for row in family] == [pytest.approx(0.03), None, pytest.approx(0.04)]


def rate(n: int, total: int = 30) -> dict[str, Any]:
    return {"n": n, "N": total, "low": 0.0, "high": 1.0}


def hits(n: int, total: int = 30) -> list[int]:
    return [1] * n + [0] * (total - n)


def reading(flagged: int, objects: int) -> dict[str, Any]:
    return {
        "found": {"car": {**rate(3, 20), "hits": hits(3, 20)}},
        "flagged": rate(flagged), "flags": hits(flagged),
        "objects": rate(objects), "object_hits": hits(objects),
        "collapsed": flagged > 5, "destroyed": objects < 5, "reasons": [], "notes": [],
    }  # fmt: skip


def intact(run: Run, scale: str) -> bool:
    return False


def record(breaks: Any, diverges: Any = lambda run: False, seeds: int = 1) -> dict[str, Any]:
    """A study in which `breaks(run, scale)` says which runs break, and `diverges(run)` which diverge."""
    rows = []
    for place, one in enumerate(make_plan(5e-3, 60, 2.0, 15.0, (), seeds)):
        readings = {
            key: reading(20 if breaks(one.run, key) else place % 2, 28 - place % 3) for key in ("1", "15")
        }
        about = {"group": one.group, "label": one.label, "run": one.run.describe(), "readings": readings}
        lost = bool(diverges(one.run))
        trained: dict[str, Any] = {"steps": 0 if lost else one.run.steps, "first": {}, "last": {}}
        if not lost:
            trained |= {"first": {"erase": 3.0}, "last": {"erase": 1.0}}
        rows.append({**about, **trained, "diverged": "Training diverged: erase is nan" if lost else None})
    config = {
        "model": "m", "concept": "car", "protocol": "p v1", "explicit": 20, "unrelated": 30, "calibration": 9,
        "training": {"batch_size": 4, "trajectories": 16}, "released_scale": 15.0, "eta": 2.0,
        "constants": fine_tuning.constants(), "training_seeds": seeds, "steps": 60, "learning_rate": 5e-3,
    }  # fmt: skip
    original = {"reading": reading(0, 29), "again": reading(0, 29), "parameters": 2_000_000}
    return {
        "config": config, "original": original, "runs": rows,
        "effects": all_effects(rows, "car", ("1", "15")),
        "paired": compared_with_naive(rows, "car", ("1", "15")),
    }  # fmt: skip


def words(found: dict[str, Any]) -> str:
    return " ".join(conclusions(found))


def test_the_words_where_nothing_collapses() -> None:
    found = record(intact)
    said = words(found)
    assert said.count("0 of the 16 fine-tunings") == 2
    assert said.count("In a model of this size none of these combinations makes fine-tuning collapse") == 2
    assert "shared projections alone do not break naive fine-tuning (one training seed" in said
    assert "where the verdict on the naive run itself is neither: none" in said and "diverged" not in said
    assert "can be told from it" in said and "that differ from zero" not in said
    far = beyond(found)
    assert "not cleared" in far and "intact naive run here" in far and "candidate" not in far


def test_the_words_where_everything_collapses() -> None:
    found = record(lambda run, scale: True)
    said = words(found)
    assert said.count("16 of the 16 fine-tunings of the factorial break the model (16 collapsed") == 2
    assert "none of them is what it takes" in said and "none of these combinations" not in said
    assert "breaks with either rows: sharing the projections is not what it takes" in said
    assert said.count("where the verdict on the naive run itself is collapsed: all") == 2
    far = beyond(found)
    assert "not cleared" not in far and "intact" not in far and "in a model of this size, and is" in far


def test_the_words_where_all_rows_collapse() -> None:
    found = record(lambda run, scale: run.rows == "all" and scale == "1")
    said = conclusions(found)
    assert "8 of the 16" in said[0] and "rows text 0 of 8, all 8 of 8" in said[0]
    assert "adapters on all rows instead of text rows" in said[1]
    shared = next(row for row in said if row.startswith("The paper's explanation"))
    assert "all rows nothing preserved collapsed" in shared and "text rows preserved neither" in shared
    assert "breaks with all rows and not with text rows, as the explanation has it" in shared
    far = beyond(found)
    assert "candidate" in far and "not cleared" in far and "shows that it can in a model of this size" in far
    assert beyond(found | {"original": {"parameters": PAPER}}).endswith("the paper's observation is about.")


def test_lost_objects_are_said_also_where_the_verdict_is_neither() -> None:
    found = record(intact)
    for row, left in zip(found["runs"], (14, 15, 28), strict=False):
        row["readings"]["1"]["objects"] = rate(left)
    said = conclusions(found)
    assert "0 of the 16" in said[0] and "; 1 more leave less than half of the unrelated objects." in said[0]
    assert "none of these combinations" not in said[0]


def test_the_words_where_only_strength_breaks() -> None:
    strong = words(record(lambda run, scale: scale == "15"))
    assert "Multiplying the same trained adapters by 15 when pictures are drawn: +6" in strong
    assert "0 of the 16" in strong and "16 of the 16" in strong


def test_training_seeds_that_disagree_settle_nothing() -> None:
    said = words(record(lambda run, scale: run.rows == "all" and run.seed == 1, seeds=3))
    assert "all rows nothing preserved 1 of 3 break" in said and "training seeds disagree" in said
    agreed = words(record(lambda run, scale: run.rows == "text", seeds=3))
    assert "with text rows and not with all, against the explanation (3 training seeds)" in agreed


def test_an_effect_must_survive_the_correction() -> None:
    found = record(intact)
    term = found["effects"]["flagged"]["by_scale"]["1"][2]
    term |= {"estimate": 0.2, "low": 0.02, "high": 0.38, "p": 0.02, "adjusted": 0.16}
    assert "that differ from zero" not in words(found) and "**+20.0" not in render_page(found)
    term["adjusted"] = 0.01
    assert "the release's time input: +20.0 points (+2.0 to +38.0) flagged unrelated" in words(found)
    assert "| time: released - right | **+20.0 (+2.0 to +38.0)** |" in render_page(found)


def test_main_effects_at_both_strengths_are_one_family() -> None:
    found = record(lambda run, scale: run.rows == "all" and scale == "1")["effects"]["objects"]["by_scale"]
    main = [term for terms in found.values() for term in terms if term["term"] in FACTORS]
    assert len(main) == 8
    lowest = min(main, key=lambda term: term["p"])
    assert lowest["adjusted"] == pytest.approx(min(1.0, 8 * lowest["p"]))
    assert all(term["adjusted"] >= term["p"] for terms in found.values() for term in terms)


def test_effects_that_cannot_be_tested_are_not_claimed() -> None:
    found = record(intact)
    for row in found["runs"]:
        bad = row["run"]["rows"] == "all"
        row["readings"] = {key: reading(20 if bad else 0, 28) for key in ("1", "15")}
    found["effects"] = all_effects(found["runs"], "car", ("1", "15"))
    said = words(found)
    assert "that differ from zero" not in said and "can be told from zero" not in said
    assert "fit flagged unrelated pictures exactly" in said and "instead of text rows +66.7 points" in said
    assert "main effects on unrelated objects found are all zero and cannot be tested" in said
    assert "+66.7 (no interval)" in render_page(found) and "-0.0" not in render_page(found)


def test_single_changes_are_single() -> None:
    found = record(lambda run, scale: run.embeddings == "released")
    naive = naive_of(found["runs"])
    kinds: dict[str | None, list[str]] = {}
    for row in found["runs"]:
        kinds.setdefault(kind_of(row, naive), []).append(row["label"])
    assert len(kinds["several"]) == 3 and all(
        "all released" in label or "eta 0" in label for label in kinds["several"]
    )
    assert "released embeddings" in kinds["single"] and len(kinds["single"]) == 13
    said = conclusions(found)
    single = next(row for row in said if "single changes to the naive run" in row)
    assert (
        "Of the 13" in single and "neither: released embeddings;" in single and "all released" not in single
    )
    several = next(row for row in said if row.startswith("Several changes at once"))
    assert "all released conventions, text rows: collapsed at strength 1" in several
    assert "towards the anchor, eta 0 (the release's): neither at strength 1" in several


def test_changes_are_compared_picture_by_picture() -> None:
    found = record(lambda run, scale: run.embeddings == "released")
    tests = [row for row in found["paired"] if (row["kind"], row["response"]) == ("single", "flagged")]
    assert len(tests) == 26
    worst = next(row for row in tests if row["label"] == "released embeddings")
    assert worst["value"] > 0.6 and worst["only_second"] == 0 and worst["adjusted"] < 0.001
    assert worst["adjusted"] == pytest.approx(26 * worst["p"])
    assert {"rows text", "preservation on", "time released", "latents noise"} <= {
        row["label"] for row in tests
    }
    said = words(found)
    assert "these single changes differ: released embeddings, strength 1: +" in said
    assert "| released embeddings | x1 | **+6" in render_page(found)


def test_what_diverged_is_said_and_not_taken_for_intact() -> None:
    def lost(run: Run) -> bool:
        return run.learning_rate > 0.01 or (run.rows == "all" and run.time == "released")

    found = record(intact, lost)
    said, page = words(found), render_page(found)
    assert "0 of the 16 fine-tunings of the factorial break the model; 4 more diverged" in said
    assert "none of these combinations" not in said
    assert "6 of the" in said and "learning rate 0.02 (after 0 of 60 steps)" in said
    assert page.count("(diverged after 0 of 60 steps)") == 6
    naive = record(intact, lambda run: run.rows == "all")
    assert "a run diverged, so that nothing is settled" in words(naive)
    assert "itself is neither (diverged): none" in words(naive)
    assert "intact naive run" not in beyond(naive) and "naive run diverged here" in beyond(naive)


def test_the_page_shows_every_run_and_promises_nothing_about_the_large_model() -> None:
    found = record(lambda run, scale: run.rows == "all")
    page = render_page(found)
    for row in found["runs"]:
        assert f"| {row['label']} | 3 to 1 |" in page
    assert "6,154,908,736" in page and "is not cleared" in page and "2,000,000" in page
    assert "sheet.png" in page and "scales.png" in page and "nan" not in page.lower().split()
    assert "interactions of three and more factors are the error" in page and "training_seeds=3" in page
    assert "3 training seeds for each combination" in render_page(record(intact, seeds=3))
