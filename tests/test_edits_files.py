"""Saved edits come back whole or not at all (DESIGN rule 15).

The stock loaders are silent about most of what is done to files here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from tests.test_edits_delta import deltas
from tests.test_edits_lora import filled, random_call
from tests.tiny import save_tiny_pipeline
from zbench.edits import DeltaEdit, Edit, LoraEdit, NoEdit, load_edit
from zbench.errors import StoreError, WeightsError
from zbench.model import Model, load_model
from zbench.store import sha256_file

LORA_FILE = LoraEdit.weights_file


@pytest.fixture(scope="module")
def model(tiny_pipeline_folder: Path) -> Model:
    """One model for all of these tests."""
    return load_model(tiny_pipeline_folder, "cpu")


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    """A saved LoRA."""
    filled(LoraEdit(4, alpha=8.0, layers=[0, 2]), model).save(tmp_path / "edit", model)
    return tmp_path / "edit"


def velocity(model: Model, edit: Edit) -> Tensor:
    """What an edit makes of some call."""
    with torch.no_grad(), model.edited(edit):
        return model.velocity(*random_call(model, (12, 20), [3, 50], 1))


def tamper(folder: Path, name: str, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Changes tensors and hides it by renewing the recorded hash: the deeper checks must find it."""
    with safe_open(folder / name, framework="pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(folder / name)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / name, metadata)
    description = json.loads((folder / "edit.json").read_text())
    description["files"][name] = sha256_file(folder / name)
    (folder / "edit.json").write_text(json.dumps(description))


@pytest.mark.parametrize("rows", ["text", "all"])
@pytest.mark.parametrize("kind", ["lora", "delta"])
def test_round_trip_is_exact(model: Model, tmp_path: Path, kind: str, rows: str) -> None:
    edit = filled(LoraEdit(4, alpha=8.0, rows=rows), model) if kind == "lora" else DeltaEdit(deltas(), rows)  # type: ignore[arg-type]
    edit.save(tmp_path / "edit", model)
    loaded = load_edit(tmp_path / "edit")
    assert type(loaded) is type(edit) and loaded.describe() == edit.describe() and loaded.rows == rows
    assert torch.equal(velocity(model, loaded), velocity(model, edit))


def test_saving_while_attached_and_beside_others_probes_the_edit_alone(
    model: Model, saved: Path, tmp_path: Path
) -> None:
    other, edit = DeltaEdit(deltas()), load_edit(saved)
    with model.edited(other), model.edited(edit):
        edit.save(tmp_path / "again", model)
        assert model.edits == [other, edit]
    first, second = (
        safetensors.torch.load_file(folder / "probe.safetensors") for folder in (saved, tmp_path / "again")
    )
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    with model.edited(other):
        fresh = load_edit(tmp_path / "again")
        with model.edited(fresh):
            assert model.edits == [other, fresh]


def test_probes_are_not_counted(model: Model, saved: Path) -> None:
    before = model.counter.forwards
    with model.edited(load_edit(saved)):
        pass
    assert model.counter.forwards == before


def test_no_edit_round_trip(model: Model, tmp_path: Path) -> None:
    NoEdit().save(tmp_path / "none", model)
    assert torch.equal(velocity(model, load_edit(tmp_path / "none")), velocity(model, NoEdit()))


def test_diffusers_loads_an_all_row_lora_and_agrees(
    model: Model, tmp_path: Path, tiny_pipeline_folder: Path
) -> None:
    edit = filled(LoraEdit(4, alpha=16.0, rows="all"), model)
    edit.save(tmp_path / "edit", model)
    stock = load_model(tiny_pipeline_folder, "cpu")
    stock.pipeline.load_lora_weights(tmp_path / "edit", weight_name=LORA_FILE)
    call = random_call(model, (12, 20), [3, 50], 1)
    with torch.no_grad():
        torch.testing.assert_close(stock.velocity(*call), velocity(model, edit))


def test_altered_truncated_missing_and_unfinished_files(saved: Path) -> None:
    path = saved / LORA_FILE
    data = path.read_bytes()
    path.write_bytes(data[:-8] + bytes(8))
    with pytest.raises(WeightsError, match="altered"):
        load_edit(saved)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="altered"):
        load_edit(saved)
    path.unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_edit(saved)
    (saved / "edit.json").unlink()
    with pytest.raises(WeightsError, match="no complete edit"):
        load_edit(saved)


def test_half_of_the_tensors(saved: Path) -> None:
    tamper(saved, LORA_FILE, lambda tensors: [tensors.pop(name) for name in sorted(tensors)[::2]])
    with pytest.raises(WeightsError, match="6 keys missing or unknown"):
        load_edit(saved)


def test_renamed_layer(saved: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        name = sorted(tensors)[0]
        tensors[name.replace("layers.0", "layers.1")] = tensors.pop(name)

    tamper(saved, LORA_FILE, rename)
    with pytest.raises(WeightsError, match="2 keys missing or unknown"):
        load_edit(saved)


def test_lora_and_delta_that_change_nothing(model: Model, tmp_path: Path) -> None:
    LoraEdit(4).save(tmp_path / "lora", model)
    with pytest.raises(WeightsError, match="changes nothing"):
        load_edit(tmp_path / "lora")
    DeltaEdit({name: 0 * delta for name, delta in deltas().items()}).save(tmp_path / "delta", model)
    with pytest.raises(WeightsError, match="changes nothing"):
        load_edit(tmp_path / "delta")


def test_not_a_number(saved: Path) -> None:
    tamper(saved, LORA_FILE, lambda tensors: tensors[sorted(tensors)[1]][0, :1].fill_(float("inf")))
    with pytest.raises(WeightsError, match="not finite"):
        load_edit(saved)


@pytest.mark.parametrize("layer", [0, 2])
def test_one_changed_factor_fails_the_probe(model: Model, saved: Path, layer: int) -> None:
    name = f"transformer.layers.{layer}.attention.to_v.lora_B.weight"
    tamper(saved, LORA_FILE, lambda tensors: tensors[name].neg_())
    with pytest.raises(WeightsError, match="does not reproduce"):
        load_edit(saved).attach(model)
    assert not model.edits


def test_changed_scale_or_rows_in_the_description(model: Model, saved: Path) -> None:
    description = json.loads((saved / "edit.json").read_text())
    for change in ({"alpha": 4.0}, {"rows": "all"}):
        altered = description | {"settings": description["settings"] | change}
        (saved / "edit.json").write_text(json.dumps(altered))
        with pytest.raises(WeightsError, match=r"settings in edit\.json"):
            load_edit(saved)


def test_small_effect_does_not_hide_in_the_tolerance(model: Model, tmp_path: Path) -> None:
    filled(LoraEdit(2), model, scale=0.005).save(tmp_path / "edit", model)
    probe = safetensors.torch.load_file(tmp_path / "edit" / "probe.safetensors")
    effect = (probe["edited"] - probe["frozen"]).square().mean().sqrt() / probe[
        "frozen"
    ].square().mean().sqrt()
    assert effect < 1e-3
    tamper(
        tmp_path / "edit",
        LORA_FILE,
        lambda tensors: [value.mul_(0.5) for n, value in tensors.items() if "lora_B" in n],
    )
    with model.edited(load_edit(tmp_path / "edit")):
        pass  # half the effect still passes: the bound is half the effect, loose enough for other devices
    tamper(
        tmp_path / "edit",
        LORA_FILE,
        lambda tensors: [value.neg_() for name, value in tensors.items() if "lora_B" in name],
    )
    with pytest.raises(WeightsError, match="does not reproduce"):
        load_edit(tmp_path / "edit").attach(model)


def test_another_base_model(model: Model, saved: Path, tmp_path: Path) -> None:
    other = load_model(save_tiny_pipeline(tmp_path / "other", seed=1), "cpu")
    with pytest.raises(WeightsError, match="made for another model"):
        load_edit(saved).attach(other)


def test_other_kinds_and_newer_layouts(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not one that DeltaEdit reads"):
        DeltaEdit.load(saved)
    description = json.loads((saved / "edit.json").read_text())
    for change, message in (({"kind": "magic"}, "magic"), ({"schema_version": 99}, "newer zbench")):
        folder = Path(shutil.copytree(saved, tmp_path / message[:3]))
        (folder / "edit.json").write_text(json.dumps(description | change))
        with pytest.raises(WeightsError, match=message):
            load_edit(folder)


def test_folder_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        NoEdit().save(tmp_path / "file" / "edit", model)
