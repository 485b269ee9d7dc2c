"""A pipeline of the full size with random weights, and the ordinary `zbench run` taken through it.

    python -m tests.full_size FOLDER [ARGUMENTS OF ZBENCH RUN ...]

FOLDER gets the pipeline (15 GB of disk; a finished one is used again) and the run folder. The transformer has
the shape of Z-Image's, 6,154,908,736 parameters in bfloat16; the VAE has Flux's; the text encoder is tiny, of
matching width. Pictures of random weights mean nothing, so the sidecar chooses the shipped instruments.
Run by `nox -s full_size -- FOLDER`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3Model

from tests.measuring import Measured, measured
from tests.tiny import tiny_text_encoder, tiny_tokenizer
from zbench.model import Model, load_spec
from zbench.model.offload import is_tight, settle

PARAMETERS = 6_154_908_736
"""Of the transformer."""

ENCODER_PARAMETERS = 4_022_468_096


@dataclass(frozen=True)
class Shape:
    """How large a pipeline is.

    Attributes:
        transformer: Arguments of the transformer; its own defaults are Z-Image's.
        text_width: Width of the text encoder.
        vae_channels: Of the VAE's four levels.
        encoder: Of a whole text encoder, which is only made in memory: arguments of its configuration.
    """

    transformer: dict[str, Any] = field(default_factory=dict)
    text_width: int = 2560
    vae_channels: tuple[int, int, int, int] = (128, 256, 512, 512)
    encoder: dict[str, int] = field(
        default_factory=lambda: {
            "vocab_size": 151_936, "intermediate_size": 9728, "num_hidden_layers": 36,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        }
    )  # fmt: skip


FULL = Shape()
"""Z-Image's transformer, Flux's VAE, and Qwen3-4B."""

SHARD = 2 * 10**9
"""Bytes in a file of the transformer, and so about what writing it takes."""

SETTINGS = {"height": 256, "width": 256, "steps": 2, "dtype": "bfloat16", "domain": "world"}
SHORT = (
    "--methods", "zerase", "--concept", "nudity", "--protocol", "tuning", "--prompts", "1", "--steps", "2",
    "--height", "256", "--width", "256", "--device", "cpu", "--preset", "paper",
    "--set", "zerase.steps=2", "--set", "zerase.trajectories=1", "--set", "zerase.preserve_trajectories=1",
)  # fmt: skip
"""Two steps of training and one picture of each set."""

TARGET_GB = 16


def save_pipeline(folder: Path, shape: Shape = FULL) -> Path:
    """Saves a pipeline with a tiny text encoder, where no finished one is yet.

    What a broken-off run left is made anew.
    """
    if (folder / "model_index.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _save_transformer(folder / "transformer", _transformer_arguments(shape))
        rest = _rest(shape)
    (folder / "zbench-model.json").write_text(json.dumps(SETTINGS))
    index = folder / "model_index.json"
    rest.save_pretrained(folder / "rest")
    described = json.loads((folder / "rest" / index.name).read_text())
    described["transformer"] = ["diffusers", "ZImageTransformer2DModel"]
    for path in (folder / "rest").iterdir():
        if path.is_dir():
            path.rename(folder / path.name)
    shutil.rmtree(folder / "rest")
    index.write_text(json.dumps(described))
    return folder


def _transformer_arguments(shape: Shape) -> dict[str, Any]:
    return {"cap_feat_dim": shape.text_width, **shape.transformer}


def _rest(shape: Shape) -> ZImagePipeline:
    """Everything but the transformer."""
    tokenizer = tiny_tokenizer()
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=list(shape.vae_channels),
        layers_per_block=2,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    encoder = tiny_text_encoder(shape.text_width, len(tokenizer))
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae.eval().to(torch.bfloat16),
        text_encoder=encoder.eval().to(torch.bfloat16),
        tokenizer=tokenizer,
        transformer=None,
    )


# The transformer, one file at a time: never the whole of it in memory --------------------------------------


def _save_transformer(folder: Path, arguments: dict[str, Any]) -> None:
    with torch.device("meta"):
        skeleton = ZImageTransformer2DModel(**arguments)
    skeleton.save_config(folder)
    shapes = {name: tuple(value.shape) for name, value in skeleton.state_dict().items()}
    shards = list(_shards(shapes))
    index = {"metadata": {"total_size": 2 * sum(map(_elements, shapes.values()))}, "weight_map": {}}
    for number, names in enumerate(shards, 1):
        file = f"diffusion_pytorch_model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(
            {name: _random(name, shapes[name]) for name in names}, folder / file, metadata={"format": "pt"}
        )
        index["weight_map"] |= dict.fromkeys(names, file)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[list[str]]:
    names: list[str] = []
    for name in shapes:
        if names and 2 * sum(_elements(shapes[each]) for each in [*names, name]) > SHARD:
            yield names
            names = []
        names.append(name)
    yield names


def _elements(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _random(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights whose activations neither vanish nor overflow: norms about one, matrices by their inputs."""
    if len(shape) == 1 and "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    spread = 0.3 if len(shape) == 1 or "pad_token" in name else shape[-1] ** -0.5
    return torch.randn(shape, dtype=torch.bfloat16).mul_(spread)


# The same on a device, without files ------------------------------------------------------------------------


def build_model(device: torch.device, shape: Shape = FULL) -> Model:
    """A model made where it is to run, with a whole text encoder too: there is the more to place."""
    spec = load_spec("z-image-turbo")
    config = Qwen3Config(hidden_size=shape.text_width, **shape.encoder)
    with torch.random.fork_rng(), torch.device("meta"):
        torch.manual_seed(0)
        network = ZImageTransformer2DModel(**_transformer_arguments(shape))
        text = Qwen3Model(config)
    pipeline = _rest(shape)
    pipeline.register_modules(transformer=_filled(network, device), text_encoder=_filled(text, device))
    pipeline.text_encoder.rotary_emb = type(text.rotary_emb)(config)  # its buffer is in no file
    pipeline.text_encoder.to("cpu")
    pipeline.vae.enable_slicing()
    pipeline.set_progress_bar_config(disable=True)
    settle(pipeline, device, tight=is_tight(spec, device))
    return Model(spec, pipeline)


def _filled(skeleton: Any, device: torch.device) -> Any:
    network = skeleton.to(torch.bfloat16).to_empty(device=device).eval()
    for name, parameter in network.named_parameters():
        with torch.device(device):
            parameter.data = _random(name, tuple(parameter.shape))
    return network


# The command ----------------------------------------------------------------------------------------------


def run(folder: Path, *more: str) -> Measured:
    """Takes the ordinary command through the pipeline in a fresh run folder.

    Args:
        folder: Holds the pipeline (`model`), and gets the run folder (`runs`).
        *more: Further arguments of `zbench run`.
    """
    model = save_pipeline(folder / "model")
    shutil.rmtree(folder / "runs", ignore_errors=True)
    words = ("run", "--model", str(model), "--out", str(folder / "runs"), *SHORT, *more)
    return measured([sys.executable, "-m", "zbench", *words])


def stage_seconds(runs: Path) -> dict[str, dict[str, float]]:
    """Cell -> stage -> seconds, from the results of a run folder."""
    results = (json.loads(path.read_text()) for path in sorted(runs.glob("cells/*/result.json")))
    return {result["spec"]["method"]: result["seconds"] for result in results}


def main() -> None:
    """Prints the times of the stages and the peak of memory; fails where the command fails."""
    folder = Path(sys.argv[1]).resolve()
    use = run(folder, *sys.argv[2:])
    for cell, seconds in stage_seconds(folder / "runs").items():
        print(cell, " ".join(f"{stage} {value:.0f} s," for stage, value in seconds.items()).rstrip(","))
    print(f"{use}; target: {TARGET_GB} GB")
    sys.exit(use.status)


if __name__ == "__main__":
    main()
