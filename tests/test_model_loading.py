"""Nothing missing, truncated, altered or half loaded passes for a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.tiny import save_tiny_pipeline
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model, ModelSpec, load_model, loading
from zbench.store import sha256_file

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, tiny_pipeline_folder: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_pipeline_folder, tmp_path / "pipeline"))


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Changes the tensors of a safetensors file."""
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path, {"format": "pt"})


def test_truncated_weights(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="truncated or altered"):
        load_model(folder, "cpu")


@pytest.mark.parametrize("network", ["transformer", "text_encoder", "vae"])
def test_missing_tensor_in_any_network(folder: Path, network: str) -> None:
    (path,) = (folder / network).glob("*.safetensors")
    rewrite(path, lambda tensors: tensors.pop(sorted(tensors)[3]))
    with pytest.raises(WeightsError, match="lacks 1 of"):
        load_model(folder, "cpu")


def test_not_a_number(folder: Path) -> None:
    rewrite(
        folder / WEIGHTS, lambda tensors: tensors["layers.1.attention.to_k.weight"][0, :1].fill_(float("nan"))
    )
    with pytest.raises(WeightsError, match=r"layers\.1\.attention\.to_k\.weight is not finite"):
        load_model(folder, "cpu")


def test_missing_network(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_model(folder, "cpu")


@pytest.mark.parametrize(("height", "width"), [(50, 80), (48, 7), (8 * 33 * 8, 80)])
def test_sizes_that_do_not_fit(folder: Path, height: int, width: int) -> None:
    with pytest.raises(ConfigurationError, match=r"multiple of 8|positions"):
        load_model(folder, "cpu", height=height, width=width)


def test_prompts_longer_than_the_rotary_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="positions"):
        load_model(save_tiny_pipeline(tmp_path / "p", max_sequence_length=256), "cpu")


def test_half_precision_files_run_in_the_specs_format(folder: Path) -> None:
    rewrite(folder / WEIGHTS, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    model = load_model(folder, "cpu")
    assert model.transformer.dtype == torch.float32
    assert model.generate(["a"], [0], steps=1).shape == (1, 3, 48, 80)


def test_bfloat16_runs(folder: Path) -> None:
    settings = json.loads((folder / "zbench-model.json").read_text())
    (folder / "zbench-model.json").write_text(json.dumps(settings | {"dtype": "bfloat16"}))
    model = load_model(folder, "cpu")
    assert model.transformer.dtype == torch.bfloat16
    velocity = model.velocity(model.noise([0]), torch.tensor([500.0]), model.encode(["a"]))
    assert velocity.dtype == torch.float32 and velocity.isfinite().all()
    assert model.generate(["a"], [0], steps=1).float().std() > 0


def packaged(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes load_model take the folder for packaged weights."""
    spec = ModelSpec.for_path(folder).model_copy(update={"source": f"package:zbench/{folder}"})
    monkeypatch.setattr(loading, "load_spec", lambda name: spec)
    monkeypatch.setattr(loading.resources, "files", lambda package: Path("/"))


def test_manifest_guards_packaged_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(monkeypatch, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    manifest = {str(path.relative_to(folder.parent)): sha256_file(path) for path in files}
    (folder.parent / "manifest.json").write_text(json.dumps(manifest))
    assert isinstance(load_model("miniature", "cpu"), Model)
    rewrite(folder / WEIGHTS, lambda tensors: tensors["x_pad_token"].add_(1))
    with pytest.raises(WeightsError, match="differs from its recorded SHA-256"):
        load_model("miniature", "cpu")


def test_packaged_weights_that_are_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(monkeypatch, folder)
    shutil.rmtree(folder)
    with pytest.raises(WeightsError, match="zbench miniature train"):
        load_model("miniature", "cpu")


def test_hub_without_network_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nto load the files")

    monkeypatch.setattr(loading.DiffusionPipeline, "download", refuse)
    with pytest.raises(WeightsError, match="hf download Tongyi-MAI/Z-Image-Turbo") as caught:
        load_model("z-image-turbo")
    assert "\n" not in str(caught.value)


def test_fingerprint_sees_every_network_and_every_bit(folder: Path) -> None:
    names = ("transformer", "text_encoder", "vae")
    first, again = load_model(folder, "cpu"), load_model(folder, "cpu")
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint(names) == again.fingerprint(names) != first.fingerprint()
    with torch.no_grad():
        again.pipeline.vae.decoder.conv_in.bias[0] += 1e-3
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint(names) != again.fingerprint(names)
    with torch.no_grad():
        again.transformer.cap_pad_token[0, 0] += 1e-3
    assert first.fingerprint() != again.fingerprint()
