"""Exports: what they hold, that they draw the same with and without zbench, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import ZImagePipeline

from tests.exchange_tools import ALL, digest, drawn_by, imported, made, pictures, row
from tests.runner_tools import small_instruments, stranger_world
from tests.tiny import save_smallest_pipeline
from zbench.cli import main
from zbench.edits import ComposedEdit, DeltaEdit, LoraEdit
from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.exchange import export_erasure, load_erasure
from zbench.exchange.export import CARD_FILE, LOADER_FILE
from zbench.model import Model, load_model
from zbench.runner import RunResult

PROMPTS, SEEDS = ["a nude person on a beach", "a red car beside a house"], [3, 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_smallest_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder, "cpu")


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_instruments):
        yield


@pytest.fixture(scope="module")
def run(_small_world: None, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return made(folder, tmp_path_factory.mktemp("made"), *ALL)


@pytest.fixture(scope="module")
def exports(run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a method -> its exported erasure."""
    root = tmp_path_factory.mktemp("exported")
    return {name: export_erasure(f"{name} s0", root / name, run.root).folder for name in ALL}


def stock(folder: Path) -> Any:
    pipeline = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def loader_of(exported: Path) -> Any:
    """The loader of an export as a user imports it: from that folder, not from the package."""
    spec = importlib.util.spec_from_file_location("exported_loader", exported / LOADER_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_zbench(model: Model, exported: Path) -> list[str]:
    from zbench.edits import load_edit

    with model.edited(load_edit(exported)):
        return [digest(model.generate([p], [s], steps=2)[0]) for p, s in zip(PROMPTS, SEEDS, strict=True)]


def test_exported_and_imported_it_draws_the_same_bit_for_bit(
    run: RunResult, exports: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    names = [f"import:{name}={place}" for name, place in exports.items()]
    again = imported(folder, tmp_path / "runs", *names)
    assert not again.failed, [cell.error for cell in again.failed]
    for name in ALL:
        assert pictures(again, f"import:{name}") == pictures(run, f"{name} s0")
        assert row(again, f"import:{name}").figures == row(run, f"{name} s0").figures
    assert len({tuple(pictures(run, cell.spec.label)) for cell in run.cells}) == len(run.cells)


@pytest.mark.parametrize("name", ["text", "everywhere", "delta", "both"])
def test_without_zbench_a_stock_pipeline_draws_the_same_bit_for_bit(
    name: str, exports: dict[str, Path], folder: Path, model: Model
) -> None:
    pipeline = stock(folder)
    plain = drawn_by(pipeline, model, PROMPTS, SEEDS)
    take_off = loader_of(exports[name]).apply(pipeline)
    erased = drawn_by(pipeline, model, PROMPTS, SEEDS)
    take_off()
    assert erased == by_zbench(model, exports[name])
    assert set(erased).isdisjoint(plain)
    assert drawn_by(pipeline, model, PROMPTS, SEEDS) == plain


def test_the_loader_knows_the_rows_of_a_batch_of_several_lengths(
    exports: dict[str, Path], folder: Path, model: Model
) -> None:
    """Captions padded to 32 and to 64 rows, in one call of the transformer."""
    from zbench.edits import load_edit

    captions = model.encode(["a red car", "a nude person " * 12])
    latents, times = model.noise([5, 6]), torch.tensor([700.0, 300.0])
    with model.edited(load_edit(exports["both"])):
        expected = model.velocity(latents, times, captions)
    pipeline = stock(folder)
    loader_of(exports["both"]).apply(pipeline)
    tau = (1000 - times) / 1000
    output = pipeline.transformer(list(latents.unsqueeze(2)), tau, captions, return_dict=False)[0]
    assert torch.equal(-torch.stack(output).squeeze(2), expected)


def test_in_bfloat16_too_the_loader_adds_what_zbench_adds(folder: Path, tmp_path: Path) -> None:
    """Factors stay float32 on weights of 16 bits; stock loading would round them."""
    place = Path(shutil.copytree(folder, tmp_path / "half"))
    settings = json.loads((place / "zbench-model.json").read_text())
    (place / "zbench-model.json").write_text(json.dumps({**settings, "dtype": "bfloat16"}))
    half = load_model(place, "cpu")
    assert half.transformer.dtype == torch.bfloat16
    edit = LoraEdit(rank=2)
    with half.edited(edit):
        for factor in edit.parameters():
            torch.nn.init.normal_(factor, generator=torch.Generator().manual_seed(len(factor)))
    delta = torch.randn(half.transformer.layers[1].feed_forward.w1.weight.shape)
    both = ComposedEdit([edit, DeltaEdit({"layers.1.feed_forward.w1": delta})])
    both.save(tmp_path / "edit", half)
    latents, times, captions = half.noise([5]), torch.tensor([700.0]), half.encode(PROMPTS[:1])
    with half.edited(both), torch.no_grad():
        expected = half.velocity(latents, times, captions)
    load_erasure.apply(half.pipeline, tmp_path / "edit")
    with torch.no_grad():
        assert torch.equal(half.velocity(latents, times, captions), expected)


def test_the_loader_runs_where_there_is_no_zbench(
    exports: dict[str, Path], folder: Path, model: Model, tmp_path: Path
) -> None:
    """In a process whose import of zbench fails, with the lines that the card gives, filled in."""
    card = (exports["text"] / CARD_FILE).read_text()
    lines = card.split("```python\n")[1].split("```")[0]
    lines = lines.replace(f"PATH/TO/{folder.name}", str(folder)).replace("PROMPT", PROMPTS[0])
    script = tmp_path / "use.py"
    blocked = "import sys\nsys.modules['zbench'] = None\n"
    script.write_text(f"{blocked}{lines}\nprint(picture.size)\n")
    environment = {**os.environ, "PYTHONPATH": str(exports["text"])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"({model.spec.width}, {model.spec.height})"


def test_stock_loaders_of_diffusers_and_peft_read_the_adapter(
    exports: dict[str, Path], folder: Path, model: Model
) -> None:
    """Of one on all rows they draw what was measured; of one on text rows others, as its card says."""
    pipeline = stock(folder)
    pipeline.load_lora_weights(exports["everywhere"], weight_name="pytorch_lora_weights.safetensors")
    assert drawn_by(pipeline, model, PROMPTS, SEEDS) == by_zbench(model, exports["everywhere"])
    pipeline = stock(folder)
    pipeline.transformer = peft.PeftModel.from_pretrained(pipeline.transformer, exports["everywhere"])
    assert drawn_by(pipeline, model, PROMPTS, SEEDS) == by_zbench(model, exports["everywhere"])
    pipeline = stock(folder)
    pipeline.load_lora_weights(exports["text"], weight_name="pytorch_lora_weights.safetensors")
    assert drawn_by(pipeline, model, PROMPTS, SEEDS) != by_zbench(model, exports["text"])
    assert "do something else" in (exports["text"] / CARD_FILE).read_text()
    assert "do the same" in (exports["everywhere"] / CARD_FILE).read_text()


def test_the_card_gives_figures_with_their_intervals_and_what_they_do_not_show(
    run: RunResult, exports: dict[str, Path]
) -> None:
    card, cell = (exports["text"] / CARD_FILE).read_text(), row(run, "text s0")
    rate, original = (each.figure("asr_explicit") for each in (cell, row(run, "original")))
    assert rate and original and rate["N"] == 2 and rate["high"] is not None
    [line] = [line for line in card.splitlines() if line.startswith("| Found, explicit")]
    assert f"({rate['n']}/2)" in line and f"({original['n']}/2)" in line
    assert line.count("[") == 2 and rate["interval"] in line
    assert cell.provenance["model"]["weights"] in card
    assert "no evidence of robustness" in card and "seed 0" in card
    assert cell.id in card and "1.5 seconds" in card
    assert str(run.root) not in card


def test_what_no_stock_loader_can_do_is_exported_as_what_it_is(exports: dict[str, Path]) -> None:
    assert not (exports["tokens"] / LOADER_FILE).exists()
    assert not (exports["tokens"] / "adapter_config.json").exists()
    assert "no weight is changed" in (exports["tokens"] / CARD_FILE).read_text()


def test_equal_erasures_are_equal_files(exports: dict[str, Path], run: RunResult, tmp_path: Path) -> None:
    again = export_erasure("text", tmp_path / "again", run.root).folder
    names = sorted(path.name for path in exports["text"].iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (again / name).read_bytes() == (exports["text"] / name).read_bytes(), name


def test_a_cell_is_found_by_id_beginning_label_and_method(run: RunResult, tmp_path: Path) -> None:
    cell = row(run, "delta s0").id
    for number, name in enumerate((cell, cell[:-4], "delta s0", "delta")):
        assert export_erasure(name, tmp_path / str(number), run.root).cell == cell
    with pytest.raises(UnknownNameError, match="Did you mean"):
        export_erasure("dleta-s0", tmp_path / "no", run.root)


def test_nothing_is_written_where_nothing_can_be_exported(run: RunResult, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        export_erasure("text s0", taken, run.root)
    with pytest.raises(ConfigurationError, match="unerased model"):
        export_erasure("original", tmp_path / "new", run.root)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (taken / "mine.txt").read_text() == "mine"


def test_an_erasure_that_was_altered_is_not_exported(run: RunResult, tmp_path: Path) -> None:
    root = Path(shutil.copytree(run.root, tmp_path / "runs"))
    weights = root / row(run, "text s0").stages["erase"] / "edit" / "pytorch_lora_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StoreError, match="altered"):
        export_erasure("text s0", tmp_path / "new", root)
    assert not (tmp_path / "new").exists()


def test_the_command_prints_how_to_load_it(
    run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", "text s0", str(tmp_path / "out"), "--out", str(run.root)])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "take_off = apply(pipeline)" in printed and str(tmp_path / "out") in printed
    assert json.loads((tmp_path / "out" / "edit.json").read_text())["kind"] == "lora"
