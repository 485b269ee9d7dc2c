"""Other weights in the place of the model's own: a fine-tuned transformer, as far as it differs.

Values are read where they are used. Those from a file are mapped, not copied, so that on the CPU a large
checkpoint takes pages that the system can drop; on a GPU the host keeps what was there, so that the device
holds no second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from zbench.edits.base import Edit
from zbench.edits.files import Content, read_tensors
from zbench.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from zbench.model.model import Model

_SHARD_BYTES = 1 << 29
"""Of a stored file; writing one takes a few times as much memory."""


class CheckpointEdit(Edit):
    """Replaces tensors of the transformer; nothing to train.

    Args:
        values: Name in the transformer's state to new value, any number format; kept, not copied.
        strength: f in W + f (W' - W); 1 puts W' itself in place.

    Raises:
        ConfigurationError: No tensors.
    """

    kind = "checkpoint"
    seam = "weights"

    def __init__(self, values: Mapping[str, Tensor], strength: float = 1.0) -> None:
        super().__init__()
        if not values:
            raise ConfigurationError("A checkpoint edit needs at least one tensor.")
        self.values, self.strength = dict(sorted(values.items())), float(strength)
        self._formats: dict[str, torch.dtype] = {}
        self._kept: list[tuple[Tensor, Tensor]] = []

    def settings(self) -> dict[str, Any]:
        """Strength, names of the tensors, and in how many files they are stored."""
        shards = sum(1 for _ in self._shards())
        return {"strength": self.strength, "tensors": list(self.values), "shards": shards}

    def tensors(self) -> dict[str, Tensor]:
        """The new values by name."""
        return dict(self.values)

    def scaled(self, factor: float) -> CheckpointEdit:
        """The same weights, a part of the way or past them."""
        return type(self)(self.values, factor * self.strength)

    # Attaching --------------------------------------------------------------------------------------------

    def _install(self, model: Model) -> None:
        places = tensors_by_name(model.transformer)
        self._check_fit(places)
        self._formats = {name: places[name].dtype for name in self.values}
        try:
            for name, value in self.values.items():
                self._replace(places[name], value)
        except BaseException:
            self._remove(model)
            raise

    def _remove(self, model: Model) -> None:
        while self._kept:
            place, before = self._kept.pop()
            if place.device.type == "cpu":
                place.data = before
            else:
                _write(place, before)

    def _replace(self, place: Tensor, value: Tensor) -> None:
        new = value.to(place.dtype) if self.strength == 1.0 else _between(place.data, value, self.strength)
        if place.device.type == "cpu":
            self._kept.append((place, place.data))
            place.data = new
        else:
            self._kept.append((place, place.detach().to("cpu", copy=True)))
            _write(place, new)

    def _check_fit(self, places: Mapping[str, Tensor]) -> None:
        for name, value in self.values.items():
            if name not in places:
                raise WeightsError(f"These weights were made for another model: it has no {name}.")
            if places[name].shape != value.shape:
                raise WeightsError(
                    f"These weights were made for another model: {name} is {tuple(value.shape)}, the model's "
                    f"{tuple(places[name].shape)}."
                )

    # Files ------------------------------------------------------------------------------------------------

    def _contents(self) -> Iterator[tuple[str, Content]]:
        """Files of bounded size, each read only when its turn comes, in the model's own number format."""
        for index, names in enumerate(self._shards()):
            values = {name: self.values[name].to(self._formats[name]) for name in names}
            yield _shard_name(index), (values, {})

    def _shards(self) -> Iterator[list[str]]:
        names: list[str] = []
        size = 0
        for name, value in self.values.items():
            if names and size + value.nbytes > _SHARD_BYTES:
                yield names
                names, size = [], 0
            names.append(name)
            size += value.nbytes
        yield names

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        values: dict[str, Tensor] = {}
        for index in range(settings["shards"]):
            values |= read_tensors(folder / _shard_name(index))[0]
        strange = sorted(set(values) ^ set(settings["tensors"]))
        if strange:
            raise WeightsError(f"{folder}: {len(strange)} tensors missing or unknown, {strange[0]} first.")
        return cls(values, settings["strength"])


def tensors_by_name(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and stored buffers of a network, looking through adapters that wrap its modules."""
    state: dict[str, Tensor] = network.state_dict(keep_vars=True)
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}


def _shard_name(index: int) -> str:
    return f"weights-{index:05}.safetensors"


def _between(own: Tensor, new: Tensor, strength: float) -> Tensor:
    difference = new.to(own.device, torch.float32) - own.float()
    return (own.float() + strength * difference).to(own.dtype)


@torch.no_grad()
def _write(place: Tensor, values: Tensor) -> None:
    place.copy_(values)
