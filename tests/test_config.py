"""Where settings come from, and what is wrong with them in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from zbench.config import RunConfig, parse_fields, parse_settings
from zbench.errors import ConfigurationError, UnknownNameError, ZbenchError
from zbench.registry import load_method, own_method_names
from zbench.runner.planning import plan
from zbench.validation import validated

FLAGS = {"methods": ("uce",), "concept": "nudity"}


@pytest.fixture(autouse=True)
def _no_model_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_sources_are_asked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunConfig.create(FLAGS).model == "miniature"
    (tmp_path / "zbench.toml").write_text('model = "z-image"\nbatch_size = 3\n')
    assert RunConfig.create(FLAGS).model == "z-image"
    monkeypatch.setenv("ZBENCH_MODEL", "z-image-turbo")
    assert RunConfig.create(FLAGS).model == "z-image-turbo"
    config = RunConfig.create({**FLAGS, "model": "elsewhere", "batch_size": None})
    assert (config.model, config.batch_size) == ("elsewhere", 3)


def test_original_and_repeated_methods_count_once() -> None:
    config = RunConfig.create({**FLAGS, "methods": ("uce", "original", "uce", "ac")})
    assert config.methods == ("uce", "ac")


def test_commands_about_one_method_take_fields_with_and_without_its_name() -> None:
    assert parse_fields("uce", ["erase_scale=2", "uce.tokens=span"]) == {"erase_scale": 2, "tokens": "span"}
    for text in ("zerase.eta=1", "erase_scale", "=2"):
        with pytest.raises(ConfigurationError, match="write FIELD=VALUE with a field of uce"):
            parse_fields("uce", [text])


def test_all_means_every_method_of_zbench_and_none_of_a_stranger() -> None:
    config = RunConfig.create({**FLAGS, "methods": ("uce", "all")})
    assert config.methods[0] == "uce" and sorted(config.methods) == list(own_method_names())
    assert {"zerase", "ac", "negative_prompt"} < set(config.methods)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell = 'x'", r"Unknown setting 'modell'\. Did you mean model"),
        ("batch_size = 'many'", "batch_size: Input should be a valid integer"),
        ("model = ", "cannot be used"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "zbench.toml").write_text(text)
    with pytest.raises(ZbenchError, match=message) as caught:
        RunConfig.create(FLAGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["prompts", "training_seeds", "repetitions", "steps", "batch_size"])
def test_counts_start_at_one(field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field}: Input should be greater than or equal to 1"):
        RunConfig.create({**FLAGS, field: 0})


def test_settings_are_parsed_as_json_or_text() -> None:
    parsed = parse_settings(
        ["zerase.rank=16", "zerase.modulation=exact", 'uce.targets=["to_k"]', "uce.layers=null"]
    )
    assert parsed == {
        "zerase": {"rank": 16, "modulation": "exact"},
        "uce": {"targets": ["to_k"], "layers": None},
    }


@pytest.mark.parametrize("assignment", ["zerase", "zerase.rank", "rank=3", ".rank=3", "zerase.=3", "="])
def test_malformed_settings_are_refused(assignment: str) -> None:
    with pytest.raises(ConfigurationError, match=r"METHOD\.FIELD=VALUE"):
        parse_settings([assignment])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "NaN", "-Infinity"])
def test_numbers_must_be_finite(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"zerase\.learning_rate: must be a finite number"):
        validated(load_method("zerase"), {"learning_rate": value}, "zerase.")


def test_plan_resolves_every_default() -> None:
    cells = plan(RunConfig.create({**FLAGS, "methods": ("uce", "zerase"), "training_seeds": 2}))
    assert [cell.label for cell in cells] == ["original", "uce s0", "uce s1", "zerase s0", "zerase s1"]
    assert set(cells[3].hyperparameters) == set(load_method("zerase").model_fields)
    assert cells[4].hyperparameters["training_seed"] == 1
    assert {cell.steps for cell in cells} == {8}
    assert cells[1].preset == "miniature"


def test_plan_takes_settings_over_the_preset() -> None:
    config = RunConfig.create(
        {**FLAGS, "methods": ("zerase",), "settings": {"zerase": {"rank": 3}}, "preset": "paper"}
    )
    cell = plan(config)[1]
    assert cell.hyperparameters["rank"] == 3
    assert cell.preset == "paper"


def test_plan_takes_the_paper_preset_for_photographs() -> None:
    cell = plan(RunConfig.create({**FLAGS, "concept": "church", "model": "z-image-turbo"}))[1]
    assert cell.preset == "paper"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"uce": {"targts": 1}}}, r"Unknown setting of uce 'targts'\. Did you mean targets"),
        ({"settings": {"uce": {"erase_scale": "big"}}}, r"uce\.erase_scale: Input should be a valid number"),
        ({"settings": {"uce": {"training_seed": 1}}}, "--training-seeds"),
        ({"preset": "papr"}, r"Unknown preset of uce 'papr'\. Did you mean paper"),
        ({"protocol": "zbnch"}, r"Unknown protocol 'zbnch'\. Did you mean zbench"),
    ],
)
def test_plan_refuses_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(ZbenchError, match=message) as caught:
        plan(RunConfig.create({**FLAGS, **change}))
    assert "\n" not in str(caught.value)


def test_settings_of_a_method_outside_the_run_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'ac' is not part of this run"):
        RunConfig.create({**FLAGS, "settings": {"ac": {"rank": 2}}})


def test_unknown_name_error_is_raised_for_unknown_flags() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean concept"):
        RunConfig.create({**FLAGS, "conzept": "x"})
