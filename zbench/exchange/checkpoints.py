"""Weights of whole networks made elsewhere: what of them differs from the model they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zbench.edits import CheckpointEdit
from zbench.edits.checkpoint import tensors_by_name
from zbench.errors import ConfigurationError, WeightsError
from zbench.exchange.foreign import NETWORKS, Foreign

if TYPE_CHECKING:
    from zbench.model import Model

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "module.")
"""That trainers put before the names of a transformer's tensors."""

_ORIGINAL_NAMES = (".attention.qkv.", ".attention.q_norm.", "x_embedder.")
"""Parts of names in checkpoints that are not in diffusers' form."""


def read_checkpoint(foreign: Foreign, model: Model, partial: bool = False) -> CheckpointEdit:
    """The tensors of a transformer that are not those of a model.

    Args:
        foreign: A file, a folder of a transformer, or a saved pipeline.
        model: The unerased model, without edits.
        partial: The file holds only what was changed.

    Raises:
        WeightsError: Tensors are missing, unknown, of another shape or not finite, or nothing differs.
        ConfigurationError: Something else than the transformer was changed.
    """
    whole = foreign.form == "pipeline"
    if whole:
        for name in NETWORKS[1:]:
            _require_same(foreign, name, model)
    values = _in_diffusers_names(_read(foreign.weights("transformer" if whole else None)))
    own = tensors_by_name(model.transformer)
    _require_names(values, own, foreign.place, partial)
    _require_shapes(values, own, foreign.place)
    changed = {name: value for name, value in values.items() if _differs(value, own[name])}
    if not changed:
        raise WeightsError(
            f"{foreign.place} changes nothing: its {len(values)} tensors are those of {model.spec.name!r}."
        )
    broken = [name for name, value in changed.items() if not bool(torch.isfinite(value.float()).all())]
    if broken:
        raise WeightsError(f"{foreign.place}: {broken[0]} is not finite ({len(broken)} such tensors).")
    return CheckpointEdit(changed)


def _read(files: tuple[Path, ...]) -> dict[str, Tensor]:
    """All tensors, mapped from their files: what is not looked at takes no memory."""
    values: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                values |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read (truncated or altered?): {error}") from error
    return values


def _in_diffusers_names(values: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in values)), "")
    values = {name.removeprefix(prefix): value for name, value in values.items()}
    original = any(
        part in name and not name.startswith("all_") for name in values for part in _ORIGINAL_NAMES
    )
    if not original:
        return values
    from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers

    return dict(convert_z_image_transformer_checkpoint_to_diffusers(values))


def _require_names(
    values: Mapping[str, Tensor], own: Mapping[str, Tensor], place: Path, partial: bool
) -> None:
    unknown = [name for name in values if name not in own]
    if unknown:
        raise WeightsError(
            f"{place} holds {len(unknown)} tensors that the transformer has not, {unknown[0]} first: it was "
            "made for another model, or holds other networks too."
        )
    missing = [name for name in own if name not in values]
    if missing and not partial:
        raise WeightsError(
            f"{place} lacks {len(missing)} of {len(own)} tensors, {missing[0]} first. If it was saved with "
            "only what was changed, say so: --partial."
        )


def _require_shapes(values: Mapping[str, Tensor], own: Mapping[str, Tensor], place: Path) -> None:
    for name, value in values.items():
        if value.shape != own[name].shape:
            raise WeightsError(
                f"{place} was made for another model: {name} is {tuple(value.shape)}, not "
                f"{tuple(own[name].shape)}."
            )


def _differs(value: Tensor, own: Tensor) -> bool:
    """In the number format that the model is run in: nothing else can change a picture."""
    return not torch.equal(value.to(own.device, own.dtype), own.detach())


def _require_same(foreign: Foreign, name: str, model: Model) -> None:
    """Refuses a pipeline of which more than the transformer was changed: it is no edit of this model."""
    own = tensors_by_name(model.networks()[name])
    for key, value in _named_alike(_read(foreign.weights(name)), own):
        if key not in own or value.shape != own[key].shape or _differs(value, own[key]):
            raise ConfigurationError(
                f"{foreign.place} has another {name} than {model.spec.name!r} ({key} first): only changes of "
                f"the transformer are imported. Run it as a model of its own: --model {foreign.place}."
            )


def _named_alike(values: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """A text encoder saved from a language model carries that model's prefix, and its last layer."""
    for name, value in values.items():
        key = name if name in own else name.removeprefix("model.")
        if key in own or name != "lm_head.weight":
            yield key, value
