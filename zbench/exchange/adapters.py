"""LoRA files of others, read whole or not at all.

Stock loaders take half an adapter, another scale or a wrong prefix without a word, and the base model is then
scored as the erased one. Here every tensor of the file must find its place, with a strength that is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zbench.edits import AdapterEdit
from zbench.edits.adapter import require_change
from zbench.edits.base import RowChoice
from zbench.edits.files import read_tensors
from zbench.errors import ConfigurationError, WeightsError
from zbench.exchange.foreign import Foreign
from zbench.store import read_json

_PREFIXES = ("base_model.model.", "transformer.")
"""Of peft, and of diffusers."""

_METADATA = "lora_adapter_metadata"
"""Under which diffusers keeps an adapter's configuration in the header of its file."""

_NOT_LORA = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    ".lokr_": "LoKr",
    ".hada_": "LoHa",
    ".oft_": "OFT",
    "lora_B.bias": "a LoRA with biases",
    "text_encoder": "a LoRA on the text encoder",
    "lora_te": "a LoRA on the text encoder",
}

_UNUSUAL_SETTINGS = ("use_dora", "modules_to_save", "lora_bias", "trainable_token_indices", "fan_in_fan_out")

_INSTEAD = "merge it (pipeline.fuse_lora, unload_lora_weights, save_pretrained) and import the saved pipeline"


@dataclass(frozen=True)
class Strengths:
    """What an adapter says about alpha; where it says nothing, alpha is the rank.

    Attributes:
        config: Fields of a peft LoraConfig; empty where the file has none.
        alpha: What the user says.
    """

    config: Mapping[str, Any]
    alpha: float | None = None

    def of(self, path: str, rank: int) -> float:
        """The alpha by which alpha / rank is the strength of a module.

        Raises:
            WeightsError: The configuration is for another rank.
        """
        if not self.config:
            return float(rank if self.alpha is None else self.alpha)
        said = _matching(self.config.get("rank_pattern"), path, self.config.get("r"))
        if said != rank:
            raise WeightsError(f"{path} has rank {rank}, but the adapter's configuration says {said}.")
        alpha = float(_matching(self.config.get("alpha_pattern"), path, self.config.get("lora_alpha", 8)))
        return alpha * math.sqrt(rank) if self.config.get("use_rslora") else alpha


def read_adapter(foreign: Foreign, rows: RowChoice | None = None, alpha: float | None = None) -> AdapterEdit:
    """Reads a LoRA of diffusers, of peft, or of another trainer whose format diffusers knows.

    Args:
        foreign: Where it lies.
        rows: Rows that it changes; as the file says when None, all where it says nothing.
        alpha: Its alpha, for files that do not say it.

    Raises:
        WeightsError: Tensors are missing, unknown or of the wrong shape, or nothing is changed.
        ConfigurationError: It is no plain LoRA on the transformer, or `alpha` contradicts the file.
    """
    [file] = foreign.weights()
    tensors, metadata = read_tensors(file)
    _require_lora(tensors, file)
    config = _config(foreign, metadata)
    own_strength = bool(config) or any(name.endswith(".alpha") for name in tensors)
    if alpha is not None and own_strength:
        raise ConfigurationError(f"{file} says what its alpha is: leave the setting `alpha` out.")
    factors = _by_module(_in_diffusers_form(tensors, file), file)
    require_change(factors, file)
    paths = sorted({name.rpartition(".lora_")[0] for name in factors})
    strengths = Strengths(config, alpha)
    alphas = {path: strengths.of(path, _rank_of(factors, path, file)) for path in paths}
    return AdapterEdit(factors, alphas, rows or _rows(metadata))


def _require_lora(tensors: Mapping[str, Tensor], file: Path) -> None:
    for part, what in _NOT_LORA.items():
        if any(part in name for name in tensors):
            raise ConfigurationError(f"{file} holds {what}, which zbench does not import: {_INSTEAD}.")


def _config(foreign: Foreign, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Fields of the LoraConfig, from beside the file or from its header."""
    beside = [path for path in foreign.files if path.suffix == ".json"]
    if beside:
        fields = read_json(beside[0])
    else:
        fields = json.loads(metadata.get(_METADATA, "{}"))
        fields = {key.removeprefix("transformer."): value for key, value in fields.items()}
    unusual = [name for name in _UNUSUAL_SETTINGS if fields.get(name)]
    if unusual or str(fields.get("peft_type", "LORA")).upper() != "LORA":
        what = f"{unusual[0]}={fields[unusual[0]]}" if unusual else fields["peft_type"]
        raise ConfigurationError(f"{foreign.place} is no plain LoRA ({what}): {_INSTEAD}.")
    return dict(fields)


def _rows(metadata: Mapping[str, str]) -> RowChoice:
    """What zbench wrote into the header; whoever else made the file meant all rows."""
    said = json.loads(metadata.get("zbench", "{}")).get("rows")
    return "text" if said == "text" else "all"


def _in_diffusers_form(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The same factors by the names that diffusers gives them, alphas of other formats multiplied in."""
    plain = {_plain(name): value for name, value in tensors.items()}
    if all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in plain) and not any(
        name.startswith(("diffusion_model.", "lora_unet_")) for name in plain
    ):
        return plain
    from diffusers import ZImagePipeline

    try:
        converted = ZImagePipeline.lora_state_dict(dict(tensors))
    except Exception as error:  # its converters raise what they happen to stumble over
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{file} has a format that diffusers cannot read either: {reason}") from error
    return {_plain(name): value for name, value in converted.items()}


def _plain(name: str) -> str:
    """Without the prefix of the library that wrote it, and without the name of an adapter."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace(".default.weight", ".weight")


def _by_module(factors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    strange = [name for name in factors if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
    if strange or not factors:
        what = strange[0] if strange else "no factor at all"
        raise WeightsError(f"{file}: {len(strange)} tensors are no factors of a LoRA, {what} first.")
    return dict(factors)


def _rank_of(factors: Mapping[str, Tensor], path: str, file: Path) -> int:
    down = factors.get(f"{path}.lora_A.weight")
    if down is None:
        raise WeightsError(f"{file} lacks {path}.lora_A.weight: it is not whole.")
    return len(down)


def _matching(pattern: Mapping[str, Any] | None, path: str, otherwise: Any) -> Any:
    """The value of the first key of a peft pattern that names this module."""
    from peft.utils.other import get_pattern_key

    chosen = pattern or {}
    return chosen.get(get_pattern_key(list(chosen), path), otherwise)
