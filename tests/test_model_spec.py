"""The catalogue, and what a bare pipeline folder is taken for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zbench.errors import ConfigurationError, UnknownNameError, WeightsError
from zbench.model import ModelSpec, load_spec, model_names


def test_every_catalogue_entry_is_a_valid_spec() -> None:
    assert model_names() == ["miniature", "z-image-turbo", "z-image"]
    turbo = load_spec("z-image-turbo")
    assert turbo.source == "hub:Tongyi-MAI/Z-Image-Turbo"
    assert (turbo.steps, turbo.guidance_scale, turbo.dtype, turbo.domain) == (
        8,
        0.0,
        "bfloat16",
        "photograph",
    )
    assert load_spec("miniature").domain == "world"
    assert not load_spec("z-image").guidance_distilled


def test_unknown_name_offers_close_matches() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean z-image-turbo"):
        load_spec("z-image-turbp")


def test_path_without_pipeline_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_index\.json"):
        load_spec(tmp_path)
    with pytest.raises(WeightsError, match="save_pretrained"):
        load_spec("no/such/folder")


def _bare_folder(folder: Path, width: int) -> Path:
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "transformer" / "config.json").write_text(json.dumps({"dim": width}))
    return folder


@pytest.mark.parametrize(("width", "like"), [(128, "miniature"), (3840, "z-image-turbo")])
def test_bare_folder_takes_settings_of_its_size(tmp_path: Path, width: int, like: str) -> None:
    spec = load_spec(_bare_folder(tmp_path / "mine", width))
    model = load_spec(like)
    assert (spec.height, spec.max_sequence_length, spec.dtype) == (
        model.height,
        model.max_sequence_length,
        model.dtype,
    )
    assert spec.name == "mine"


def test_sidecar_overrides_and_is_checked(tmp_path: Path) -> None:
    folder = _bare_folder(tmp_path / "mine", 64)
    (folder / "zbench-model.json").write_text('{"height": 32, "steps": 3}')
    assert (ModelSpec.for_path(folder).height, ModelSpec.for_path(folder).steps) == (32, 3)
    (folder / "zbench-model.json").write_text('{"hight": 32}')
    with pytest.raises(ConfigurationError, match="hight"):
        ModelSpec.for_path(folder)
    (folder / "zbench-model.json").write_text("{")
    with pytest.raises(ConfigurationError, match="Cannot read"):
        ModelSpec.for_path(folder)


def test_listing_models_does_not_import_torch() -> None:
    code = (
        "import sys, zbench.model as m; m.model_names(); assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
