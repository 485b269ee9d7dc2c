"""Quantised weights, the edit's own included: does an erasure survive rounding?

    Q(W) = s round(W / s),   s = max |W| / (2^(bits - 1) - 1)

symmetric, with one s per output channel, or per output channel and group of input channels. Only weights are
rounded, activations are not, and sums run in the model's own format, as in weight-only deployments. What an
edit adds to a weight is rounded together with it: Q(W + dW), not Q(W) + dW. An edit of text rows cannot be
merged, so image rows see Q(W) and text rows Q(W + dW), two copies of an edited weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from zbench.edits.base import ComposedEdit, Edit, RowChoice, load_edit
from zbench.edits.checkpoint import CheckpointEdit
from zbench.edits.delta import DeltaEdit
from zbench.edits.lora import LoraEdit
from zbench.edits.neuron_mask import NeuronMaskEdit
from zbench.errors import ConfigurationError, WeightsError
from zbench.model.rows import stream_of

if TYPE_CHECKING:
    from zbench.model.model import Model

_BLOCKS = ("layers", "noise_refiner", "context_refiner")


class QuantisedEdit(Edit):
    """Another edit, on quantised weights.

    Quantised is every linear module of attention and feed-forward in the unified layers and both refiners,
    and whatever else the inner edit adds to; embedders, modulation, the last layer, biases and the other
    networks stay as they are. Parts of the inner edit that add nothing to weights act as ever. Two quantised
    edits on one model must be detached in reverse order.

    Args:
        inner: The edit that is rounded with the weights, detached; `NoEdit` for the original's weights.
        bits: 2 to 8; 8 and 4 are what is deployed.
        group: Input channels that share one s; all of them if None. A last group may be smaller.

    Raises:
        ConfigurationError: A value out of range, or an inner edit that is quantised already or changes
            weights in a way that cannot be read off it.
    """

    kind = "quantised"
    seam = "weights"

    def __init__(self, inner: Edit, bits: int = 8, group: int | None = None) -> None:
        super().__init__()
        if not 2 <= bits <= 8 or (group is not None and group < 1):
            raise ConfigurationError(f"Weights have 2 to 8 bits, in groups of at least 1: {bits}, {group}.")
        parts = list(_parts(inner))
        self._added = [part for part in parts if isinstance(part, LoraEdit | DeltaEdit)]
        # Other weights in the model's place are there before they are rounded.
        self._under = [part for part in parts if isinstance(part, CheckpointEdit)]
        self._beside = [part for part in parts if part not in (*self._added, *self._under)]
        for part in self._beside:
            if part.seam == "weights" and not isinstance(part, NeuronMaskEdit):
                raise ConfigurationError(
                    f"what an edit of kind {part.kind!r} adds to weights is unknown, so it cannot be rounded"
                )
        self.inner, self.bits, self.group = inner, bits, group
        self._kept: list[tuple[nn.Linear, Tensor]] = []
        self._handles: list[RemovableHandle] = []

    def settings(self) -> dict[str, Any]:
        """Bits, group, and the inner edit."""
        return {"bits": self.bits, "group": self.group, "inner": self.inner.describe()}

    def save(self, folder: Path | str, model: Model) -> None:
        """Saves the inner edit in a folder of its own, with its own probe on unrounded weights."""
        self.inner.save(Path(folder) / "inner", model)
        super().save(folder, model)

    def _verify(self, model: Model) -> None:
        self.inner._verify(model)
        super()._verify(model)

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls(load_edit(folder / "inner"), settings["bits"], settings["group"])

    # Attaching --------------------------------------------------------------------------------------------

    def _install(self, model: Model) -> None:
        modules = dict(_linear_modules(model.transformer))
        try:
            for under in self._under:
                under._join(model)
            for path in self._paths(modules):
                self._quantise(model, path, modules[path])
            for part in self._beside:
                part._join(model)
        except BaseException:
            self._remove(model)
            raise

    def _remove(self, model: Model) -> None:
        for part in reversed(self._beside):
            if part.attached:
                part._leave()
        for handle in self._handles:
            handle.remove()
        # The last one first: a module that another quantised edit rounded too gets back what it had.
        for module, weight in reversed(self._kept):
            _write(module.weight, weight)
        self._handles.clear()
        self._kept.clear()
        for under in reversed(self._under):
            if under.attached:
                under._leave()

    def _paths(self, modules: Mapping[str, nn.Linear]) -> list[str]:
        """Modules to quantise: those of the blocks, and those that the inner edit adds to."""
        usual = [path for path in modules if path.split(".")[0] in _BLOCKS and "adaLN" not in path]
        edited = [path for part in self._added for path in part.paths()]
        unknown = [path for path in edited if path not in modules]
        if unknown:
            raise ConfigurationError(f"The transformer has no linear module {unknown[0]}.")
        return list(dict.fromkeys([*usual, *edited]))

    def _quantise(self, model: Model, path: str, module: nn.Linear) -> None:
        """Rounds one weight in place; the host keeps what it was, so that the device holds no second copy."""
        weight = module.weight.detach()
        self._kept.append((module, weight.to("cpu", copy=True)))
        everywhere, on_text = self._updates(path, "all"), self._updates(path, "text")
        if stream_of(path) == "text":
            # Before text and picture are joined, text rows are all the rows there are.
            everywhere, on_text = everywhere + on_text, []
        total = _plus(weight, everywhere)
        if on_text:
            text = quantised(_plus(total, on_text), self.bits, self.group).to(weight.dtype)
            self._handles.append(module.register_forward_hook(_text_rows_through(model, path, text)))
        _write(module.weight, quantised(total, self.bits, self.group))

    def _updates(self, path: str, rows: RowChoice) -> list[Tensor]:
        found = (part.update_at(path) for part in self._added if part.rows == rows)
        return [update for update in found if update is not None]


def quantised(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """The values that a weight has after rounding, see the head of this file.

    Args:
        weight: [out, in].
        bits: At least 2.
        group: Input channels that share one s; all of them if None.

    Returns:
        [out, in] float32; at most 2^bits - 1 different values in a group, none farther than s / 2 from where
        it was.
    """
    levels = 2 ** (bits - 1) - 1
    groups = torch.split(weight.float(), group or weight.shape[1], dim=1)
    return torch.cat([_nearest(values, levels) for values in groups], dim=1)


def _nearest(values: Tensor, levels: int) -> Tensor:
    step = values.abs().amax(dim=1, keepdim=True) / levels
    # A group of zeros, or one so small that its step is flushed to zero, has nothing to divide by.
    return torch.where(step > 0, (values / step).round() * step, 0.0)


def _plus(weight: Tensor, updates: list[Tensor]) -> Tensor:
    """The sum in float32, on the weight's device."""
    total = weight.float()
    for update in updates:
        if update.shape != weight.shape:
            raise WeightsError(
                f"This edit was made for another model: {tuple(update.shape)}, not {tuple(weight.shape)}."
            )
        total = total + update.to(total)
    return total


@torch.no_grad()
def _write(parameter: Tensor, values: Tensor) -> None:
    parameter.copy_(values)


def _text_rows_through(model: Model, path: str, weight: Tensor) -> Any:
    """A forward hook by which text rows go through another weight; image rows keep their bits."""
    stream = stream_of(path)

    def replace(module: nn.Linear, args: tuple[Any, ...], output: Tensor) -> Tensor:
        hidden: Tensor = args[0]
        # The rows before the first text row of the batch are not even computed.
        start = min(model.rows.current.image)
        mask = model.rows.text_row_mask(stream, hidden.shape, hidden.device)[:, start:]
        text = functional.linear(hidden[:, start:], weight, module.bias)
        return torch.cat([output[:, :start], torch.where(mask, text, output[:, start:])], dim=1)

    return replace


def _parts(edit: Edit) -> Iterator[Edit]:
    """The edit, or its parts and theirs."""
    for part in edit.edits if isinstance(edit, ComposedEdit) else ():
        yield from _parts(part)
    if not isinstance(edit, ComposedEdit):
        yield edit


def _linear_modules(transformer: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Linear modules by path, looking through adapters that wrap them."""
    for path, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and ".lora_" not in path:
            yield path.replace(".base_layer", ""), module
