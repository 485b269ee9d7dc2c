"""Switches neurons off on text rows: hidden neurons of the feed-forward, heads of the attention.

A neuron's activation on text rows is multiplied by 0 or 1; image rows pass untouched. A mask cannot steer
anywhere new, it can only take away (Minimalist Concept Erasure, arXiv 2507.13386).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from zbench.edits.base import Edit
from zbench.edits.files import read_tensors
from zbench.errors import ConfigurationError, WeightsError
from zbench.model.rows import stream_of

if TYPE_CHECKING:
    from zbench.model.model import Model

_READERS = ("feed_forward.w2", "attention.to_out.0")
"""Modules whose input is masked, since nothing but them sees it; of any other module it is the output."""


class NeuronMaskEdit(Edit):
    """Multiplies activations by 0 or 1 on text rows; nothing to train.

    Args:
        masks: Linear module's path in the transformer to [units] of zeros and ones. At "feed_forward.w2" and
            "attention.to_out.0" it masks what the module reads (hidden neurons, outputs of heads), at any
            other what it writes ("attention.to_v": the values of heads). A unit is one channel or several in
            a row: as many units as there are heads mask whole heads.

    Raises:
        ConfigurationError: No masks, other values than 0 and 1, or a module that sees image rows only.
    """

    kind = "neuron_mask"
    seam = "weights"
    rows = "text"

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        super().__init__()
        if not masks or any(bool(((mask != 0) & (mask != 1)).any()) for mask in masks.values()):
            raise ConfigurationError("A neuron mask needs at least one module, and values 0 and 1 only.")
        for path in masks:
            if stream_of(path) == "image":
                raise ConfigurationError(f"{path} sees image rows only; a mask on text rows does nothing.")
        self.masks = {path: mask.detach().to("cpu", torch.uint8) for path, mask in masks.items()}
        self._gates: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def settings(self) -> dict[str, Any]:
        """Module paths, each with how many of its units are switched off and how many there are."""
        return {
            "modules": {
                path: {"off": int((mask == 0).sum()), "units": mask.numel()}
                for path, mask in sorted(self.masks.items())
            }
        }

    def tensors(self) -> dict[str, Tensor]:
        """The masks by module path, uint8."""
        return dict(self.masks)

    def gate(self, path: str) -> Tensor:
        """What the units of a module are multiplied by, [units]; asked for at every call of the module."""
        return self._gates[path]

    def _install(self, model: Model) -> None:
        modules = {path: linear_at(model, path) for path in self.masks}
        for path, module in modules.items():
            check_units(path, self.masks[path].numel(), module)
        self._gates = {path: mask.to(model.device) for path, mask in self.masks.items()}
        self._hook(model, modules)

    def _hook(self, model: Model, modules: Mapping[str, Any]) -> None:
        """Masks the input or the output of each module from now on."""
        for path, module in modules.items():
            if path.endswith(_READERS):
                handle = module.register_forward_pre_hook(self._reader(model, path))
            else:
                handle = module.register_forward_hook(self._writer(model, path))
            self._handles.append(handle)

    def _reader(self, model: Model, path: str) -> Any:
        def mask(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (self._masked(args[0], model, path), *args[1:])

        return mask

    def _writer(self, model: Model, path: str) -> Any:
        def mask(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
            return self._masked(output, model, path)

        return mask

    def _masked(self, hidden: Tensor, model: Model, path: str) -> Tensor:
        gate = self.gate(path).to(hidden.dtype)
        gate = gate.repeat_interleave(hidden.shape[-1] // gate.numel())
        stream = stream_of(path)
        if stream != "unified":
            return hidden * gate
        # The rows before the first text row of the batch are not even computed.
        start = min(model.rows.current.image)
        text = model.rows.text_row_mask(stream, hidden.shape, hidden.device)[:, start:]
        rest = hidden[:, start:]
        return torch.cat([hidden[:, :start], torch.where(text, rest * gate, rest)], dim=1)

    def _remove(self, model: Model) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._gates.clear()

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors, _ = read_tensors(folder / cls.weights_file)
        edit = cls(tensors)
        if edit.settings() != dict(settings):
            raise WeightsError(f"{folder / cls.weights_file} does not hold the masks that edit.json lists.")
        return edit


def linear_at(model: Model, path: str) -> Any:
    """The linear module at a path of the transformer, or the adapter that wraps it.

    Raises:
        ConfigurationError: There is none.
    """
    try:
        module: Any = model.transformer.get_submodule(path)
        _ = module.in_features, module.out_features
    except AttributeError as error:
        raise ConfigurationError(f"The transformer has no linear module {path}.") from error
    return module


def masked_channels(path: str, module: Any) -> int:
    """How many channels a mask at this module acts on."""
    return int(module.in_features if path.endswith(_READERS) else module.out_features)


def check_units(path: str, units: int, module: Any) -> None:
    """Raises `WeightsError` where a mask of so many units does not fit a module."""
    channels = masked_channels(path, module)
    if units < 1 or channels % units:
        raise WeightsError(f"The mask of {path} has {units} units, the module {channels} channels.")
