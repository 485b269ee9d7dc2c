"""Methods from files that are not packaged: loaded by content, named where they are broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner_tools import install_stranger
from zbench import plugins, registry
from zbench.cli import main
from zbench.config import RunConfig, parse_settings
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.plugins import PluginFile, load_plugin
from zbench.registry import Listed, list_methods, load_method, own_method_names
from zbench.runner.planning import plan
from zbench.runner.specs import CellSpec

METHOD = """
from typing import ClassVar

from zbench.method import Method, MethodCard

class Fade(Method):
    name = "acme/fade"
    card = MethodCard(title="Fade", paper="none", arxiv="", reference_code_licence="none released",
                      rows="text", weights="none", needs_training=False, needs_pictures=False)
    presets = {"miniature": {"size": 2}}
    size: int = 1

    def erase(self, model, concept, *, progress=None):
        raise NotImplementedError
"""


def written(folder: Path, text: str = METHOD, name: str = "fade.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_gives_its_methods_by_their_own_names(tmp_path: Path) -> None:
    helper = "\nclass _Helper(Fade):\n    name = 'hidden'\n\nfrom zbench_methods.uce import UCE\n"
    file = PluginFile.at(written(tmp_path, METHOD + helper))
    assert list(load_plugin(file)) == ["acme/fade"], "neither helpers nor what is imported"
    method = load_method("acme/fade", [file.path])
    assert method is load_plugin(file)["acme/fade"], "one content is executed once"
    assert method.plugin == file and method.with_preset("miniature").model_dump()["size"] == 2
    assert "acme/fade" in registry.method_names([file.path])
    assert load_method("uce", [file.path]).plugin is None


def test_an_edited_file_is_another_method(tmp_path: Path) -> None:
    first = load_method("acme/fade", [written(tmp_path)])
    second = load_method("acme/fade", [written(tmp_path, METHOD.replace('"size": 2', '"size": 3'))])
    assert first.presets != second.presets
    assert first.plugin is not None and second.plugin is not None
    assert first.plugin.path == second.plugin.path and first.plugin.sha256 != second.plugin.sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError: No module named"),
        ("def f(:\n  pass", "cannot be imported: SyntaxError"),
        ("raise RuntimeError('no\\nway')", "cannot be imported: RuntimeError: no"),
        ("import sys; sys.exit(4)", "cannot be imported: SystemExit: 4"),
        ("x = 1", "defines no method"),
        (METHOD.replace('"acme/fade"', '"../fade"'), "has the name '../fade'"),
        (METHOD.replace('"acme/fade"', '"a/b/c"'), "has the name 'a/b/c'"),
        (METHOD.replace('"acme/fade"', '"all"'), "has the name 'all'"),
        (METHOD.replace("name = ", "title: ClassVar[str] = "), "has the name None"),
        (METHOD.replace("    card = MethodCard(", "    sheet: ClassVar[dict] = dict("), "needs a `card`"),
        (METHOD.replace('{"size": 2}', '["size"]'), "needs `presets`"),
        (
            METHOD.replace("    size", "    version = '2'\n    size"),
            "has the version '2': count versions 1, 2",
        ),
        (METHOD + "\nclass Again(Fade):\n    pass\n", "defines two methods of the name 'acme/fade'"),
        (
            METHOD + "\nfrom zbench.edits import DeltaEdit\nclass Mine(DeltaEdit):\n    kind = 'delta'\n",
            "has the kind 'delta' of zbench's DeltaEdit",
        ),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    before = set(sys.modules)
    with pytest.raises(ConfigurationError) as caught:
        load_plugin(PluginFile.at(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert path.name in str(caught.value) or "delta" in message
    assert {name for name in set(sys.modules) - before if "plugin" in name} <= {
        name for name in sys.modules if "cannot be imported" not in message
    }
    assert load_method("uce", [path]).name == "uce", "the others go on"


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.py cannot be read \(No such file"):
        load_method("uce", [tmp_path / "nowhere.py"])


def test_a_name_that_clashes_is_refused_for_that_name_only(tmp_path: Path) -> None:
    path = written(tmp_path, METHOD.replace("acme/fade", "uce"))
    with pytest.raises(
        ConfigurationError, match=r"Both .*fade\.py and zbench_methods.uce:UCE provide the method"
    ):
        load_method("uce", [path])
    assert load_method("ac", [path]).name == "ac"
    twice = [written(tmp_path, name="one.py"), written(tmp_path, name="two.py")]
    with pytest.raises(ConfigurationError, match=r"Both .*one\.py and .*two\.py provide"):
        load_method("acme/fade", twice)
    listed = {each.name: each for each in list_methods([path])}
    assert "provide the method 'uce'" in (listed["uce"].problem or "")
    assert listed["ac"].problem is None


def test_a_name_that_only_a_broken_file_may_know(tmp_path: Path) -> None:
    broken = written(tmp_path, "import nothing_of_that_name")
    with pytest.raises(ConfigurationError, match=r"No installed method is called 'acme/fade'\. The plugin"):
        load_method("acme/fade", [broken])
    with pytest.raises(UnknownNameError, match=r"Did you mean acme/fade"):
        load_method("acme/fad", [written(tmp_path)])


def test_other_packages_are_loaded_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = (
        "[zbench.methods]\nstranger/shift = stranger_methods:Shift\nuce = stranger_methods:Shift\n"
        "stranger/lost = nothing_of_that_name:Lost\nbare = stranger_methods:Shift\n"
    )
    install_stranger(tmp_path / "stranger", monkeypatch, points)
    assert not {"stranger/shift", "bare"} & set(own_method_names()), "`all` runs no stranger's method"
    listed = {each.name: each for each in list_methods()}
    assert listed["stranger/shift"] == Listed("stranger/shift", "stranger")
    assert "stranger_methods" not in sys.modules
    assert "Two installed packages provide zbench.methods 'uce'" in (listed["uce"].problem or "")
    assert listed["zerase"].method is not None and listed["zerase"].origin == "zbench"
    with pytest.raises(
        ConfigurationError, match="ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ):
        load_method("stranger/lost")


# Edits of their own -----------------------------------------------------------------------------------------

EDIT = (
    METHOD
    + """
from zbench.edits import DeltaEdit

class Mine(DeltaEdit):
    kind = "acme-mine"
"""
)
OTHER = EDIT.replace("acme/fade", "acme/veil")


@pytest.fixture
def _no_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    from zbench.edits import base

    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))


@pytest.mark.usefixtures("_no_kinds")
def test_two_files_with_edits_of_one_kind_are_refused(tmp_path: Path) -> None:
    files = [written(tmp_path, EDIT), written(tmp_path, OTHER, "veil.py")]
    with pytest.raises(ConfigurationError) as caught:
        load_method("acme/veil", files)
    said = str(caught.value)
    assert f"The edit Mine of {files[1]} has the kind 'acme-mine' of Mine ({files[0]})" in said
    assert "give one of them another `kind`" in said and "\n" not in said
    assert load_method("acme/fade", files).name == "acme/fade", "the others go on"
    twice = EDIT + "\nclass Again(DeltaEdit):\n    kind = 'acme-mine'\n"
    with pytest.raises(ConfigurationError, match=r"The edit Again of .* has the kind 'acme-mine' of Mine"):
        load_plugin(PluginFile.at(written(tmp_path, twice, "fade.py")))


@pytest.mark.usefixtures("_no_kinds")
def test_a_kind_goes_with_its_file(tmp_path: Path) -> None:
    """An edited, a copied and a moved file are the same plugin; one that cannot be imported is none."""
    broken = written(tmp_path, EDIT + "\nraise RuntimeError('no way')\n", "broken.py")
    with pytest.raises(ConfigurationError, match="no way"):
        load_plugin(PluginFile.at(broken))
    for text, name in (
        (EDIT, "fade.py"),
        (EDIT + "\n# edited\n", "fade.py"),
        (EDIT + "\n# edited\n", "copy.py"),
    ):
        load_plugin(PluginFile.at(written(tmp_path, text, name)))
    moved = (tmp_path / "copy.py").rename(tmp_path / "moved.py")
    moved.write_text(EDIT + "\n# moved, then edited\n")
    load_plugin(PluginFile.at(moved))


def test_modules_beside_a_file_are_not_importable(tmp_path: Path) -> None:
    """As the page on writing a method says: a change in them would go unnoticed."""
    written(tmp_path, "SIZE = 3\n", "zbench_test_helper.py")
    file = written(tmp_path, "from zbench_test_helper import SIZE\n" + METHOD)
    with pytest.raises(ConfigurationError, match="ModuleNotFoundError: No module named 'zbench_test_helper'"):
        load_plugin(PluginFile.at(file))


# Planning -------------------------------------------------------------------------------------------------


def config(folder: Path, *methods: str, **more: object) -> RunConfig:
    fields = {
        "methods": methods,
        "concept": "nudity",
        "out": folder / "runs",
        "plugins": (folder / "fade.py",),
    }
    return RunConfig.create({**fields, **more}, folder=folder)


def test_a_spec_carries_the_file_and_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    path = written(tmp_path)
    spec = plan(config(tmp_path, "acme/fade", settings={"acme/fade": {"size": 7}}))[1]
    assert spec.plugin == PluginFile.at(path) and spec.problem is None
    assert spec.hyperparameters == {"size": 7, "training_seed": 0}
    assert CellSpec.model_validate_json(spec.model_dump_json()) == spec
    assert plan(config(tmp_path, "uce"))[1].plugin is None


def test_settings_of_names_with_dots() -> None:
    assert parse_settings(["acme.tools/fade.size=3"]) == {"acme.tools/fade": {"size": 3}}


def test_methods_that_cannot_be_used_are_planned_with_their_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    written(tmp_path, METHOD.replace('{"size": 2}', '{"sise": 2}'))
    cells = plan(config(tmp_path, "acme/fade", "uce", training_seeds=2))
    assert [(cell.label, cell.problem is None) for cell in cells] == [
        ("original", True), ("acme/fade s0", False), ("acme/fade s1", False), ("uce s0", True),
        ("uce s1", True),
    ]  # fmt: skip
    assert "Unknown setting of acme/fade 'sise'" in (cells[1].problem or "")
    assert (cells[1].problem or "").startswith("Traceback")
    written(tmp_path, "raise RuntimeError('no way')")
    cells = plan(config(tmp_path, "acme/fade", "uce", settings={"acme/fade": {"size": 7}}))
    assert "RuntimeError: no way" in (cells[1].problem or "") and cells[2].problem is None


def test_a_validator_that_exits_is_a_problem_of_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    exits = (
        "    @field_validator('size')\n    def _size(cls, value): raise SystemExit(value)\n\n    def erase("
    )
    written(tmp_path, "from pydantic import field_validator\n" + METHOD.replace("    def erase(", exits))
    for settings in ({}, {"acme/fade": {"size": 7}}):
        cells = plan(config(tmp_path, "acme/fade", "uce", settings=settings))
        assert "SystemExit: " in (cells[1].problem or "") and cells[2].problem is None


def test_mistakes_of_the_user_are_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    written(tmp_path)
    with pytest.raises(ConfigurationError, match=r"acme/fade\.size"):
        plan(config(tmp_path, "acme/fade", settings={"acme/fade": {"size": "large"}}))
    with pytest.raises(UnknownNameError, match="Did you mean acme/fade"):
        plan(config(tmp_path, "acme/fad"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        plan(config(tmp_path, "uce", plugins=(tmp_path / "nowhere.py",)))


def test_an_edited_file_is_noticed_in_a_fresh_process(tmp_path: Path) -> None:
    planned = PluginFile.at(written(tmp_path))
    written(tmp_path, METHOD + "\n# edited\n")
    assert plugins._loaded.pop(planned, None) is None
    with pytest.raises(ConfigurationError, match="was edited since this run was planned"):
        load_method("acme/fade", [planned])


# The command line -----------------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code
    return capsys.readouterr().out


def test_methods_lists_files_and_names_what_is_broken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, broken = written(tmp_path), written(tmp_path, "import nothing_of_that_name", "broken.py")
    lines = shown(capsys, "methods", "--plugin", str(good), "--plugin", str(broken)).splitlines()
    assert any(line.split()[:2] == ["acme/fade", "Fade"] and "training-free" in line for line in lines)
    assert any("broken.py cannot be imported: ModuleNotFoundError" in line for line in lines)
    assert any(line.startswith("zerase") and "trained" in line and "text rows" in line for line in lines)
    rows = json.loads(shown(capsys, "methods", "--plugin", str(good), "--json"))
    assert {"name": "acme/fade", "origin": "fade.py", "title": "Fade", "needs_training": False,
            "rows": "text", "problem": None} in rows  # fmt: skip


def test_card_shows_fields_with_each_presets_values(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = shown(capsys, "methods", "zerase")
    assert "arXiv 2603.25074" in text and "deviations:" in text
    row = next(line for line in text.splitlines() if line.startswith("│ steps "))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    presets = load_method("zerase").presets
    assert cells[:5] == ["steps", "int, ≥ 1", "200", "1000", str(presets["miniature"]["steps"])]
    assert cells[5] == "Optimiser steps."
    card = json.loads(shown(capsys, "methods", "zerase", "--json"))
    assert card["fields"]["modulation"]["type"] == "implicit | exact | fixed"
    assert (
        card["fields"]["epsilon"]["default"] is None
        and card["fields"]["layers"]["type"] == "list of int | none"
    )
    assert all(field["description"] for field in card["fields"].values())
    assert set(card["presets"]) == {"paper", "miniature"}


def test_every_field_of_every_method_is_described() -> None:
    from zbench.cli.cards import card_of

    for each in list_methods():
        assert each.problem is None, each
        if each.method is not None:
            fields = card_of(each.method)["fields"]
            assert [name for name, field in fields.items() if not field["description"]] == [], each.name


def test_listing_imports_no_torch(tmp_path: Path) -> None:
    words = ["methods", "--plugin", str(written(tmp_path))]
    code = (
        "import sys\nfrom zbench.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as left: assert not left.code\n"
        "print('@', sorted({'torch', 'pandas', 'diffusers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rpartition("@")[2].strip() == "[]"


def test_plan_names_what_cannot_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "raise RuntimeError('no way')")
    (tmp_path / "zbench.toml").write_text('plugins = ["fade.py"]\n')
    text = shown(capsys, "plan", "--methods", "acme/fade,uce", "--concept", "nudity")
    assert "- acme/fade s0: cannot be run: " in text and "RuntimeError: no way" in text
    assert "- uce s0: " in text
