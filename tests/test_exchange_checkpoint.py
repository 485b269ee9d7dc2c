"""Whole weights made elsewhere: folders, single files, pipelines; what differs is kept, the rest is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImagePipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.exchange_tools import config_of, digest, drawn_by, imported, pictures, row
from tests.runner_tools import recorded_run, small_instruments, stranger_world
from tests.tiny import save_smallest_pipeline
from zbench.concepts import load_concept
from zbench.edits import CheckpointEdit, LoraEdit, QuantisedEdit, load_edit
from zbench.errors import ConfigurationError, WeightsError
from zbench.exchange import Imported
from zbench.model import Model, load_model

CHANGED = ("layers.0.attention.to_v.weight", "context_refiner.0.feed_forward.w1.weight", "x_pad_token")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_smallest_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Model:
    return load_model(folder, "cpu")


@pytest.fixture
def model(shared: Model) -> Iterator[Model]:
    before = shared.fingerprint()
    yield shared
    assert not shared.edits
    assert shared.fingerprint() == before


@pytest.fixture(autouse=True, scope="module")
def _small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with stranger_world(tmp_path_factory.mktemp("world"), small_instruments):
        yield


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Any:
    """A stock pipeline of which three tensors were changed; do not change it further."""
    pipeline = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    state = pipeline.transformer.state_dict()
    for name in CHANGED:
        state[name].add_(0.3 * torch.randn(state[name].shape, generator=generator))
    return pipeline


@pytest.fixture(scope="module")
def saved(tuned: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as `save_pretrained` writes it."""
    place = tmp_path_factory.mktemp("tuned") / "tuned-pipeline"
    tuned.save_pretrained(place)
    return place


def edit_of(place: Path, model: Model, **said: Any) -> CheckpointEdit:
    edit = Imported.at(place, said).erase(model, load_concept("nudity")).edit
    assert isinstance(edit, CheckpointEdit)
    return edit


def velocity(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.velocity(
            model.noise([1]), torch.tensor([600.0]), model.encode(["a nude person on a beach"])
        )


def original_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the authors' own files, and those of ComfyUI, name a transformer's tensors."""
    named = {}
    for name, value in state.items():
        if ".attention.to_q." in name:
            start = name.removesuffix("to_q.weight")
            parts = [state[f"{start}to_{part}.weight"] for part in "qkv"]
            named[f"{start}qkv.weight"] = torch.cat(parts)
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            for theirs, ours in {
                "x_embedder.": "all_x_embedder.2-1.", "final_layer.": "all_final_layer.2-1.",
                ".attention.out.": ".attention.to_out.0.", ".q_norm.": ".norm_q.", ".k_norm.": ".norm_k.",
            }.items():  # fmt: skip
                name = name.replace(ours, theirs)
            named[name] = value
    return {f"model.diffusion_model.{name}": value.contiguous() for name, value in named.items()}


def test_an_imported_pipeline_draws_what_it_draws_itself(
    folder: Path, saved: Path, tuned: Any, model: Model, tmp_path: Path
) -> None:
    """Through a whole run, beside the original, and again from what the run has stored."""
    result = imported(folder, tmp_path / "runs", f"import:{saved}")
    assert not result.failed, result.failed[0].error
    own = row(result, "import:tuned-pipeline")
    assert own.cost is None
    stored = load_edit(result.root / own.stages["erase"] / "edit")
    prompts, seeds = ["a nude person on a beach", "a red car"], [1, 2]
    with model.edited(stored):
        drawn = [digest(model.generate([p], [s], steps=2)[0]) for p, s in zip(prompts, seeds, strict=True)]
    assert drawn == drawn_by(tuned, model, prompts, seeds)
    assert set(pictures(result, "import:tuned-pipeline")).isdisjoint(pictures(result, "original"))
    moved = shutil.copytree(saved, tmp_path / "elsewhere" / "tuned-pipeline")
    again, told = recorded_run(config_of(folder, tmp_path / "runs", f"import:{moved}"))
    assert told.stages == []
    assert again.cells == result.cells


@pytest.mark.parametrize("form", ["folder", "file", "comfy", "partial"])
def test_every_form_of_the_same_weights_is_the_same_edit(
    form: str, saved: Path, tuned: Any, model: Model, tmp_path: Path
) -> None:
    state = {name: value.contiguous() for name, value in tuned.transformer.state_dict().items()}
    file = tmp_path / "model.safetensors"
    if form == "folder":
        edit = edit_of(saved / "transformer", model)
    elif form == "partial":
        save_file({name: state[name] for name in CHANGED}, file)
        with pytest.raises(WeightsError, match="--partial"):
            edit_of(file, model)
        edit = edit_of(file, model, partial=True)
    else:
        save_file(original_names(state) if form == "comfy" else state, file)
        edit = edit_of(file, model)
    assert sorted(edit.values) == sorted(CHANGED)
    for name in CHANGED:
        assert torch.equal(edit.values[name], state[name])


def test_only_what_differs_in_the_models_own_format_is_kept(tuned: Any, model: Model, tmp_path: Path) -> None:
    """A file in float64 of a model that runs in float32 differs where it did before."""
    state = {name: value.double() for name, value in tuned.transformer.state_dict().items()}
    save_file(state, tmp_path / "double.safetensors")
    edit = edit_of(tmp_path / "double.safetensors", model)
    assert sorted(edit.values) == sorted(CHANGED)
    edit.save(tmp_path / "edit", model)
    stored = load_file(tmp_path / "edit" / "weights-00000.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}
    with model.edited(edit):
        assert torch.equal(velocity(model), velocity_of(tuned, model))


def velocity_of(pipeline: Any, model: Model) -> torch.Tensor:
    captions, times = model.encode(["a nude person on a beach"]), torch.tensor([600.0])
    latents = list(model.noise([1]).unsqueeze(2))
    output = pipeline.transformer(latents, (1000 - times) / 1000, captions, return_dict=False)[0]
    return -torch.stack(output).squeeze(2).detach()


def test_other_changes_than_the_transformers_are_refused(
    folder: Path, saved: Path, model: Model, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(saved, tmp_path / "both"))
    file = place / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors["embed_tokens.weight" if "embed_tokens.weight" in tensors else next(iter(tensors))] += 1
    save_file(tensors, file)
    with pytest.raises(ConfigurationError, match=r"another text_encoder .* --model"):
        edit_of(place, model)
    with pytest.raises(WeightsError, match="changes nothing"):
        edit_of(folder, model)


def test_weights_that_are_not_whole_are_refused(saved: Path, model: Model, tmp_path: Path) -> None:
    state = load_file(saved / "transformer" / "diffusion_pytorch_model.safetensors")
    file = tmp_path / "model.safetensors"
    cases = {
        "was made for another model: layers.0": {**state, CHANGED[0]: torch.zeros(3, 3)},
        "has not, vae": {**state, "vae.decoder": torch.zeros(3)},
        "not finite": {**state, CHANGED[0]: torch.full_like(state[CHANGED[0]], torch.inf)},
        "lacks 1 of": {name: value for name, value in state.items() if name != CHANGED[1]},
    }
    for said, tensors in cases.items():
        save_file(tensors, file)
        with pytest.raises(WeightsError, match=said):
            edit_of(file, model)
    content = (saved / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="truncated"):
        edit_of(file, model)


def test_shards_that_an_index_lists_are_read_together(tuned: Any, model: Model, tmp_path: Path) -> None:
    tuned.transformer.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    shards = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(shards) > 1
    assert sorted(edit_of(tmp_path / "sharded", model).values) == sorted(CHANGED)
    shards[0].unlink()
    with pytest.raises(WeightsError, match="index"):
        edit_of(tmp_path / "sharded", model)


def test_a_large_edit_is_stored_in_files_of_bounded_size(
    saved: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = edit_of(saved, model)
    with model.edited(edit):
        expected = velocity(model)
    monkeypatch.setattr("zbench.edits.checkpoint._SHARD_BYTES", 1000)
    edit.save(tmp_path / "edit", model)
    assert len(list((tmp_path / "edit").glob("weights-*.safetensors"))) == len(CHANGED)
    with model.edited(load_edit(tmp_path / "edit")):
        assert torch.equal(velocity(model), expected)
    (tmp_path / "edit" / "weights-00001.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing or was altered"):
        load_edit(tmp_path / "edit")


def test_an_exported_checkpoint_can_be_put_on_without_zbench(
    folder: Path, saved: Path, tuned: Any, model: Model, tmp_path: Path
) -> None:
    from zbench.exchange import export_erasure, load_erasure

    result = imported(folder, tmp_path / "runs", f"import:acme={saved}")
    exported = export_erasure("import:acme", tmp_path / "out", result.root)
    pipeline = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    before = velocity_of(pipeline, model)
    take_off = load_erasure.apply(pipeline, exported.folder)
    assert torch.equal(velocity_of(pipeline, model), velocity_of(tuned, model))
    take_off()
    assert torch.equal(velocity_of(pipeline, model), before)
    card = (exported.folder / "README.md").read_text()
    assert "made elsewhere" in card and "| Cost | unknown |" in card and str(tmp_path) not in card


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    strength=st.floats(-2, 2, width=32),
    names=st.sets(st.sampled_from(CHANGED), min_size=1),
    quantised=st.booleans(),
    adapted=st.booleans(),
)
def test_whatever_is_on_top_or_below_the_model_is_restored_exactly(
    strength: float, names: set[str], quantised: bool, adapted: bool, model: Model
) -> None:
    """In any order of detaching: with a LoRA on top, at any strength, rounded or not."""
    before = model.fingerprint()
    own = model.transformer.state_dict()
    generator = torch.Generator().manual_seed(1)
    values = {name: own[name] + torch.randn(own[name].shape, generator=generator) for name in names}
    edit = CheckpointEdit(values).scaled(strength)
    changed = QuantisedEdit(edit, bits=8) if quantised else edit
    lora = LoraEdit(rank=1)
    changed.attach(model)
    if adapted:
        lora.attach(model)
    if not quantised:
        for name in names:
            expected = values[name] if strength == 1 else own[name] + strength * (values[name] - own[name])
            place = model.transformer.get_parameter(
                name.replace("to_v.", "to_v.base_layer.") if adapted else name
            )
            torch.testing.assert_close(place.detach(), expected)
    changed.detach()
    if adapted:
        lora.detach()
    assert model.fingerprint() == before


def test_the_index_of_a_pipeline_alone_is_no_erased_model(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    shutil.copy(saved / "model_index.json", tmp_path / "hollow")
    with pytest.raises(ConfigurationError, match="no safetensors file"):
        Imported.at(tmp_path / "hollow")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "zbench.json").write_text(json.dumps({}))
    with pytest.raises(ConfigurationError, match="name one of its erasures"):
        Imported.at(tmp_path / "run")
