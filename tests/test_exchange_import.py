"""Imports: adapters of others read whole or refused, names and identities of what was made elsewhere."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImagePipeline
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests.runner_tools import stranger_world
from tests.tiny import save_smallest_pipeline
from zbench.concepts import load_concept
from zbench.config import RunConfig
from zbench.edits import AdapterEdit, LoraEdit, QuantisedEdit, load_edit
from zbench.errors import ConfigurationError, UnknownNameError, WeightsError
from zbench.exchange.imported import Imported
from zbench.exchange.names import IMPORT, ImportName, placed, portable_name
from zbench.model import Model, load_model
from zbench.runner.planning import plan

PLACES = {
    "layers.0.attention.to_q": 2, "layers.1.feed_forward.w1": 3, "noise_refiner.0.attention.to_k": 2,
    "context_refiner.0.attention.to_v": 4,
}  # fmt: skip
"""Modules of a LoRA as others make them, with the ranks of a test."""


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
    with stranger_world(tmp_path_factory.mktemp("world")):
        yield


def pipeline_with_lora(folder: Path, alphas: dict[str, float] | None = None, **config: Any) -> Any:
    """A stock pipeline with a LoRA of peft's, every factor random."""
    pipeline = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    config = {"r": 2, "lora_alpha": 3, "target_modules": list(PLACES), "rank_pattern": PLACES, **config}
    pipeline.transformer.add_adapter(LoraConfig(alpha_pattern=alphas or {}, **config))
    randomise(pipeline.transformer)
    return pipeline


def randomise(transformer: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def factors_of(pipeline: Any) -> dict[str, torch.Tensor]:
    named = pipeline.transformer.named_parameters()
    return {name.replace(".default.", "."): value.detach() for name, value in named if "lora_" in name}


def velocity_of(pipeline: Any, model: Model) -> torch.Tensor:
    """Of a stock pipeline at a fixed point, as `Model.velocity` gives it."""
    latents, times, captions = point(model)
    output = pipeline.transformer(
        list(latents.unsqueeze(2)), (1000 - times) / 1000, captions, return_dict=False
    )
    return -torch.stack(output[0]).squeeze(2).detach()


def point(model: Model) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    return model.noise([1]), torch.tensor([600.0]), model.encode(["a nude person on a beach"])


def erased(place: Path, model: Model, tmp_path: Path, **settings: Any) -> torch.Tensor:
    """The velocity after importing, saving and loading: what every picture is drawn with."""
    erasure = Imported.at(place, settings).erase(model, load_concept("nudity"))
    erasure.save(tmp_path / "erasure", model)
    with model.edited(load_edit(tmp_path / "erasure" / "edit")), torch.no_grad():
        return model.velocity(*point(model))


# Formats --------------------------------------------------------------------------------------------------


def test_a_lora_of_diffusers_does_what_it_did(folder: Path, model: Model, tmp_path: Path) -> None:
    """Several ranks and alphas, refiners too; with the metadata that diffusers writes itself."""
    from peft import get_peft_model_state_dict

    pipeline = pipeline_with_lora(folder, {"layers.0.attention.to_q": 9})
    config = {k: v for k, v in vars(pipeline.transformer.peft_config["default"]).items() if k in KEPT}
    config["target_modules"] = sorted(config["target_modules"])
    ZImagePipeline.save_lora_weights(
        tmp_path / "lora", get_peft_model_state_dict(pipeline.transformer),
        transformer_lora_adapter_metadata=config,
    )  # fmt: skip
    assert torch.equal(erased(tmp_path / "lora", model, tmp_path), velocity_of(pipeline, model))
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    assert Imported.at(file).sha256 == Imported.at(shutil.copy(file, tmp_path / "other.safetensors")).sha256


KEPT = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_rslora")


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}])
def test_a_lora_of_peft_does_what_it_did(
    more: dict[str, Any], folder: Path, model: Model, tmp_path: Path
) -> None:
    pipeline = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=3, target_modules=["to_q", "w2"], **more)
    pipeline.transformer = get_peft_model(pipeline.transformer, config)
    randomise(pipeline.transformer)
    pipeline.transformer.save_pretrained(tmp_path / "peft")
    torch.testing.assert_close(erased(tmp_path / "peft", model, tmp_path), velocity_of(pipeline, model))


@pytest.mark.parametrize("form", ["kohya", "comfy"])
def test_formats_of_other_trainers_keep_their_alpha(
    form: str, folder: Path, model: Model, tmp_path: Path
) -> None:
    """Which stock loading loses without a word when it is not in the file's own way."""
    pipeline = pipeline_with_lora(folder)
    halves = {"A": "lora_down", "B": "lora_up"}
    tensors: dict[str, torch.Tensor] = {}
    for name, value in factors_of(pipeline).items():
        path, _, half = name.removesuffix(".weight").rpartition(".lora_")
        start = f"lora_unet_{path.replace('.', '_')}" if form == "kohya" else f"diffusion_model.{path}"
        tensors[f"{start}.{halves[half]}.weight"] = value.contiguous()
        tensors[f"{start}.alpha"] = torch.tensor(3.0)
    save_file(tensors, tmp_path / "lora.safetensors")
    torch.testing.assert_close(
        erased(tmp_path / "lora.safetensors", model, tmp_path), velocity_of(pipeline, model)
    )


def plain_file(
    folder: Path, place: Path, change: Callable[[dict[str, torch.Tensor]], None] | None = None
) -> Any:
    """A LoRA in diffusers' names without metadata, and the pipeline that it was made with."""
    pipeline = pipeline_with_lora(folder)
    tensors = {f"transformer.{name}": value.contiguous() for name, value in factors_of(pipeline).items()}
    if change is not None:
        change(tensors)
    save_file(tensors, place)
    return pipeline


def test_an_alpha_that_the_file_does_not_say_can_be_given(folder: Path, model: Model, tmp_path: Path) -> None:
    place = tmp_path / "lora.safetensors"
    pipeline = plain_file(folder, place)
    assert torch.equal(erased(place, model, tmp_path, alpha=3.0), velocity_of(pipeline, model))
    assert not torch.allclose(erased(place, model, tmp_path), velocity_of(pipeline, model))


def test_rows_can_be_given(folder: Path, model: Model, tmp_path: Path) -> None:
    """On text rows alone it is another model; modules that see no text are refused."""
    place = tmp_path / "lora.safetensors"
    with pytest.raises(ConfigurationError, match="image rows only"):
        plain_file(folder, place)
        Imported.at(place, {"rows": "text"}).erase(model, load_concept("nudity"))
    plain_file(folder, place, lambda tensors: drop(tensors, "noise_refiner"))
    text, everywhere = (erased(place, model, tmp_path, rows=rows) for rows in ("text", "all"))
    assert not torch.allclose(text, everywhere)


def drop(tensors: dict[str, torch.Tensor], part: str) -> None:
    for name in [name for name in tensors if part in name]:
        del tensors[name]


def test_an_imported_lora_can_be_weakened_and_quantised(folder: Path, model: Model, tmp_path: Path) -> None:
    """What attacks do to an erasure, they can do to one from elsewhere."""
    plain_file(folder, tmp_path / "lora.safetensors")
    edit = Imported.at(tmp_path / "lora.safetensors").erase(model, load_concept("nudity")).edit
    assert isinstance(edit, AdapterEdit)
    with torch.no_grad():
        plain = model.velocity(*point(model))
        with model.edited(edit.scaled(0.0)):
            assert torch.allclose(model.velocity(*point(model)), plain)
        with model.edited(QuantisedEdit(edit, bits=8)):
            rounded = model.velocity(*point(model))
        with model.edited(edit):
            full = model.velocity(*point(model))
    assert 0 < (rounded - full).norm() < (full - plain).norm()


# Integrity ------------------------------------------------------------------------------------------------


def one(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name in tensors if part in name)


def half_gone(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[one(tensors, "lora_B")]


def other_half_gone(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[one(tensors, "lora_A")]


def nothing_done(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        if "lora_B" in name:
            tensors[name] = torch.zeros_like(tensors[name])


def renamed(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if "layers.0" in name]:
        tensors[name.replace("layers.0", "layers.7")] = tensors.pop(name)


def wrong_prefix(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("transformer.", "unet.")] = tensors.pop(name)


def wider(tensors: dict[str, torch.Tensor]) -> None:
    name = one(tensors, "lora_A")
    tensors[name] = torch.cat([tensors[name]] * 2, dim=1)


def broken(tensors: dict[str, torch.Tensor]) -> None:
    tensors[one(tensors, "lora_A")][0, 0] = math.nan


def dora(tensors: dict[str, torch.Tensor]) -> None:
    tensors["transformer.layers.0.attention.to_q.lora_magnitude_vector"] = torch.ones(24)


def text_encoder(tensors: dict[str, torch.Tensor]) -> None:
    tensors["text_encoder.layers.0.self_attn.q_proj.lora_A.weight"] = torch.ones(2, 24)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (half_gone, "Half a pair"),
        (other_half_gone, "not whole"),
        (nothing_done, "changes nothing"),
        (renamed, "no module layers.7"),
        (wrong_prefix, "no module unet"),
        (wider, "another model"),
        (broken, "not finite"),
        (dora, "DoRA"),
        (text_encoder, "text encoder"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused(
    damage: Callable[[dict[str, torch.Tensor]], None], said: str, folder: Path, model: Model, tmp_path: Path
) -> None:
    """Each of these is loaded without an error, or with a line in a log, by stock loaders."""
    plain_file(folder, tmp_path / "lora.safetensors", damage)
    with pytest.raises((WeightsError, ConfigurationError), match=said):
        erased(tmp_path / "lora.safetensors", model, tmp_path)


def test_an_edit_of_zbench_made_for_another_model_is_refused(model: Model, tmp_path: Path) -> None:
    from tests.tiny import save_tiny_pipeline

    other = save_tiny_pipeline(
        tmp_path / "other", dim=24, layers=2, text_width=24, height=32, width=48, seed=9
    )
    edit = LoraEdit(rank=2, seed=1)
    with model.edited(edit):
        edit.parameters()[1].data += 0.5
    edit.save(tmp_path / "edit", model)
    with pytest.raises(WeightsError, match="another model"):
        erased(tmp_path / "edit", load_model(other, "cpu"), tmp_path)
    config = json.loads((tmp_path / "edit" / "edit.json").read_text())
    config["settings"]["alpha"] = 9.0
    (tmp_path / "edit" / "edit.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError):
        erased(tmp_path / "edit", model, tmp_path)


def test_what_was_altered_after_the_run_was_planned_is_refused(
    folder: Path, model: Model, tmp_path: Path
) -> None:
    place = tmp_path / "lora.safetensors"
    plain_file(folder, place)
    planned = Imported.at(place)
    tensors = load_file(place)
    tensors[one(tensors, "lora_A")][0, 0] += 1
    save_file(tensors, place)
    with pytest.raises(ConfigurationError, match="altered since"):
        planned.erase(model, load_concept("nudity"))


def test_what_cannot_be_read_is_said_when_the_run_is_planned(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    (tmp_path / "empty").mkdir()
    plain_file(folder, tmp_path / "lora.safetensors")
    for name, said in {
        "model.ckpt": "pickle", "torn.safetensors": "truncated", "empty": "no safetensors file",
        "nowhere": "no such file", "": "write import:PATH",
    }.items():  # fmt: skip
        with pytest.raises((ConfigurationError, WeightsError), match=said):
            planned(folder, tmp_path, f"{IMPORT}{tmp_path / name if name else ''}")
    lora = f"{IMPORT}{tmp_path / 'lora.safetensors'}"
    for settings, said in [({"partial": True}, "says nothing about"), ({"row": "text"}, "rows")]:
        with pytest.raises((ConfigurationError, UnknownNameError), match=said):
            planned(folder, tmp_path, lora, settings={"import:lora": settings})
    assert not (tmp_path / "runs").exists()


# Names and identities -------------------------------------------------------------------------------------


def planned(folder: Path, tmp_path: Path, *methods: str, **more: Any) -> list[Any]:
    fields = {"concept": "nudity", "model": str(folder), "out": tmp_path / "runs", "methods": methods}
    return plan(RunConfig.create({**fields, **more}))


def test_an_import_is_one_cell_named_without_its_place(folder: Path, tmp_path: Path) -> None:
    plain_file(folder, tmp_path / "acme.safetensors")
    method = f"{IMPORT}{tmp_path / 'acme.safetensors'}"
    [_, cell] = planned(folder, tmp_path, method, training_seeds=3, settings={"import:acme": {"alpha": 3}})
    assert (cell.method, cell.label, cell.training_seed) == ("import:acme", "import:acme", None)
    assert cell.hyperparameters["alpha"] == 3
    assert str(tmp_path) not in cell.published().model_dump_json(exclude={"model"})
    with pytest.raises(ConfigurationError, match="import:NAME=PATH"):
        planned(folder, tmp_path, method, method.replace("acme", "other/../acme"))


def test_the_identity_is_the_content_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    plain_file(folder, tmp_path / "a.safetensors")
    (tmp_path / "b").mkdir()
    moved = shutil.copy(tmp_path / "a.safetensors", tmp_path / "b" / "pytorch_lora_weights.safetensors")
    first, second, third = (
        Imported.at(place) for place in (tmp_path / "a.safetensors", moved, tmp_path / "b")
    )
    assert first.identity() == second.identity() == third.identity()
    assert Imported.at(moved, {"alpha": 2}).identity() != first.identity()
    assert str(tmp_path) not in json.dumps(first.identity())


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
PLACES_WRITTEN = st.from_regex(r"/[a-z=. ]{1,8}(/[A-Za-z0-9=. _-]{1,8}){0,3}", fullmatch=True)


@given(NAMES, PLACES_WRITTEN)
def test_names_are_read_back_whatever_the_path(name: str, place: str) -> None:
    named, plain = ImportName.parse(f"import:{name}={place}"), ImportName.parse(f"import:{place}")
    assert (named.name, named.place) == (name, plain.place) == (name, Path(place))
    assert portable_name(plain.method) == plain.method
    for written in (f"import:{name}={place}", f"import:{place}"):
        assert ImportName.parse(placed(written, Path("/elsewhere"))) == ImportName.parse(written)
