"""Every mistake of a user is one clear line and exit code 2; nothing half-written is trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runner_tools import small_instruments, stranger_world
from zbench.cli import main
from zbench.store import sha256_file

Run = Callable[..., tuple[int, str, str]]

SMALL = ("--concept", "nudity", "--prompts", "1", "--steps", "1", "--height", "48", "--width", "80")
# The instruments of these tests are installed in this process alone.
INLINE = ("--launcher", "inline")


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_instruments):
        yield


@pytest.fixture
def zbench(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(words)
        output = capfd.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


def complaint(result: tuple[int, str, str]) -> str:
    """The one line of a refused command."""
    code, _, err = result
    assert code == 2, err
    # What is planned and how far it came may stand before it, and nothing after it.
    *before, line = err.splitlines()
    assert line.startswith("zbench: ")
    assert "Traceback" not in err and not [each for each in before if each.startswith("zbench: ")]
    return line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--methods", "zeras", "--concept", "nudity"), "Unknown method 'zeras'. Did you mean zerase"),
        (("--methods", "uce", "--concept", "nuditi"), "Unknown concept 'nuditi'. Did you mean nudity"),
        (("--methods", "uce", "--concept", "nudity", "--model", "minature"), "Did you mean miniature"),
        (
            ("--methods", "uce", "--concept", "nudity", "--prompts", "0"),
            "prompts: Input should be greater than",
        ),
        (
            ("--methods", "uce", "--concept", "nudity", "--training-seeds", "0"),
            "training_seeds: Input should be",
        ),
        (("--methods", "uce", "--concept", "nudity", "--set", "uce.targts=1"), "Did you mean targets"),
        (("--methods", "uce", "--concept", "nudity", "--set", "uce.batch_size=few"), "valid integer"),
        (("--methods", "uce", "--concept", "nudity", "--set", "uce.batch_size"), "METHOD.FIELD=VALUE"),
        (("--methods", "uce", "--concept", "nudity", "--set", "ac.rank=2"), "not part of this run"),
        (("--methods", " , ", "--concept", "nudity"), "--methods names no method"),
        (("--methods", "uce", "--concept", "nudity", "--attacks", " , "), "--attacks names no attack"),
        (("--methods", "uce", "--concept", "nudity", "--attacks", ""), "--attacks names no attack"),
        (("--methods", "uce", "--concept", "nudity", "--attacks", "replay"), "write replay:PATH"),
        (("--methods", "uce", "--concept", "nudity", "--protocol", "zbnch"), "Did you mean zbench"),
    ],
)
def test_mistaken_flags(zbench: Run, tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    out = tmp_path / "runs"
    assert expected in complaint(zbench("run", *words, "--out", str(out)))
    assert not out.exists(), "a refused command leaves nothing behind"


def test_output_folder_that_is_something_else(
    zbench: Run, tmp_path: Path, tiny_pipeline_folder: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    words = ("--methods", "shift", "--model", str(tiny_pipeline_folder), *SMALL)
    assert "not written by zbench" in complaint(zbench("run", *words, "--out", str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_output_folder_that_cannot_be_written(
    zbench: Run, tmp_path: Path, tiny_pipeline_folder: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ("--methods", "shift", "--model", str(tiny_pipeline_folder), *SMALL)
    assert "Cannot use" in complaint(zbench("run", *words, "--out", str(tmp_path / "file" / "runs")))


def test_model_folder_without_a_pipeline(zbench: Run, tmp_path: Path) -> None:
    line = complaint(
        zbench("run", "--methods", "shift", "--model", str(tmp_path), *SMALL, "--out", str(tmp_path / "o"))
    )
    assert "ZImagePipeline" in line


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_weights(zbench: Run, tmp_path: Path, tiny_pipeline_folder: Path, damage: str) -> None:
    copy = Path(shutil.copytree(tiny_pipeline_folder, tmp_path / "model"))
    weights = next((copy / "transformer").glob("*.safetensors"))
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        weights.unlink()
    out = tmp_path / "runs"
    line = complaint(zbench("run", "--methods", "shift", "--model", str(copy), *SMALL, "--out", str(out)))
    assert str(copy) in line
    assert not list(out.glob("samples/*")), "no picture of a damaged model is kept"


def test_model_that_is_not_at_hand(zbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    words = ("--methods", "shift", "--concept", "church", "--model", "z-image-turbo")
    line = complaint(zbench("run", *words, "--out", str(tmp_path / "runs")))
    assert "Tongyi-MAI/Z-Image-Turbo" in line
    assert "--model PATH" in line


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    from zbench.errors import UnknownNameError

    with pytest.raises(UnknownNameError):
        main(["run", "--methods", "zeras", "--concept", "nudity", "--out", str(tmp_path / "o"), "--debug"])


def test_failed_cell_gives_exit_code_one(zbench: Run, tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    out = tmp_path / "runs"
    model = ("--model", str(tiny_pipeline_folder), "--device", "cpu")
    code, shown, err = zbench("run", "--methods", "breaks", *model, *SMALL, *INLINE, "--out", str(out))
    assert code == 1
    assert "RuntimeError: the sky fell" in err
    assert "original" in shown
    assert (out / "table.csv").is_file()
    again = zbench("table", str(out), "--format", "csv")
    assert again[:2] == (0, (out / "table.csv").read_text())
    next((out / "erasures").parent.glob("cells/original-*/result.json")).write_text('{"id": 1')
    assert "truncated or not JSON" in complaint(zbench("table", str(out)))
    assert "Did you mean md" in complaint(zbench("table", str(out), "--format", "mdd"))


def test_a_result_of_another_layout_is_written_again(
    zbench: Run, tmp_path: Path, tiny_pipeline_folder: Path
) -> None:
    out = tmp_path / "runs"
    words = ("run", "--methods", "shift", "--model", str(tiny_pipeline_folder), *SMALL, *INLINE)
    words = (*words, "--out", str(out))
    first = zbench(*words)
    assert first[0] == 0
    result = next(out.glob("cells/shift-*/result.json"))
    done = result.with_name("done.json")
    record, before = json.loads(done.read_text()), result.read_text()
    result.write_text('{"id": "an older layout"}')
    record["files"]["result.json"] = sha256_file(result)
    done.write_text(json.dumps(record))
    code, _, err = zbench(*words)
    assert code == 0 and "result.json is malformed: it is written again" in err
    assert json.loads(result.read_text())["figures"] == json.loads(before)["figures"]


@pytest.mark.parametrize(
    ("study", "option", "expected"),
    [
        ("collapse", "steps=abc", "steps = 'abc': Input should be a valid integer"),
        ("collapse", "curve=3", "curve = 3: Input should be a valid array"),
        ("collapse", "explicit=0", "explicit = 0: Input should be greater than or equal to 1"),
        ("convergence", "beta_factors=[]", "beta_factors = []: Input should not be empty"),
        ("convergence", "scales=foo", "scales = 'foo': Input should be an object"),
    ],
)
def test_mistaken_options_of_a_study(
    zbench: Run, tmp_path: Path, study: str, option: str, expected: str
) -> None:
    out = tmp_path / "study"
    assert expected in complaint(zbench("study", study, "--set", option, "--out", str(out)))
    assert not out.exists(), "a refused command leaves nothing behind"


def test_table_of_no_run(zbench: Run, tmp_path: Path) -> None:
    assert "holds no finished run" in complaint(zbench("table", str(tmp_path)))


@pytest.mark.parametrize("kind", ["methods", "concepts", "detectors", "prompts", "models"])
def test_unknown_names_of_cards(zbench: Run, kind: str) -> None:
    assert "Unknown" in complaint(zbench(kind, "nothing-of-that-name"))
