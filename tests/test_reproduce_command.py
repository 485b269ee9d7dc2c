"""`zbench reproduce` from end to end, on a grid of two cells, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from tests.runner_tools import small_instruments, stranger_world
from zbench.cli.reproduce import reproduce
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.reproduction import grids, tables
from zbench.reproduction.grids import TableRun

Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_instruments):
        yield


@pytest.fixture
def zbench(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit code and standard output; errors are raised."""
    app = typer.Typer()
    app.command()(reproduce)

    def run(*words: str) -> tuple[int, str]:
        code = app(words, standalone_mode=False)
        return int(code or 0), capfd.readouterr().out

    return run


@pytest.fixture
def _one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of nudity with one method, on one prompt of each set, in small."""
    whole, make = tables.load_table("nsfw"), grids._run
    domain = whole.domains["world"].model_copy(update={"concepts": {"nudity": ("nudity",), "violence": ()}})
    small = whole.model_copy(update={"rows": (whole.row("uce"),), "domains": {"world": domain}})

    def shortened(*arguments: object) -> TableRun:
        run = make(*arguments)  # type: ignore[arg-type]
        fewer = {"prompts": 1, "steps": 1, "height": 48, "width": 80}
        return TableRun(run.config.model_copy(update=fewer), run.concept, run.variant, run.rows)

    monkeypatch.setattr(grids, "_run", shortened)
    for module in ("zbench.reproduction.tables", "zbench.reproduction.answering"):
        monkeypatch.setattr(f"{module}.load_table", lambda name: small)
    monkeypatch.setattr("zbench.reproduction.tables.TABLES", ("nsfw",))


@pytest.mark.usefixtures("_one_row")
def test_what_is_missing_is_run_once_and_printed_side_by_side(zbench: Run, tmp_path: Path) -> None:
    runs, words = tmp_path / "runs", ("nsfw", "--training-seeds", "1", "--format", "json")
    code, first = zbench(*words, "--out", str(runs), "--launcher", "inline")
    lines = {(each["row"], each["column"]): each for each in json.loads(first)["tables"]["nsfw"]}
    assert json.loads(first)["failed"] == []
    assert code == 0 and lines["uce", "total"]["N"] == 1 and lines["uce", "total"]["paper"] == 157
    assert lines["uce", "clip_nudity"]["measured"] is not None and ("zerase", "total") not in lines
    cells = sorted(path.name for path in (runs / "cells").iterdir())
    assert zbench(*words, "--from", str(runs))[1] == first
    assert zbench(*words, "--out", str(runs), "--launcher", "inline")[1] == first
    assert sorted(path.name for path in (runs / "cells").iterdir()) == cells


def test_a_plan_writes_nothing(zbench: Run, tmp_path: Path) -> None:
    code, out = zbench("celebrity", "--plan", "--out", str(tmp_path / "runs"), "--training-seeds", "1")
    assert code == 0 and "10 cells: 10 to do" in out and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("celebrities",), UnknownNameError, "Did you mean celebrity"),
        (("nsfw", "--format", "html"), UnknownNameError, "Unknown format 'html'"),
        (("nsfw", "--training-seeds", "0"), ConfigurationError, "at least 1"),
        (("nsfw", "--model", "minature", "--plan"), UnknownNameError, "Did you mean miniature"),
        (("claims", "--from", "nowhere"), StoreError, "There is no folder nowhere"),
        (("claims", "--plan"), ConfigurationError, "The claims run nothing"),
    ],
)
def test_mistakes_are_one_clear_line(
    zbench: Run, words: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        zbench(*words)
