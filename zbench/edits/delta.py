"""Full-rank updates for closed forms, on text rows only or on all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zbench.edits.base import Edit, RowChoice
from zbench.edits.files import read_tensors
from zbench.errors import ConfigurationError, WeightsError
from zbench.model.rows import Stream, stream_of

if TYPE_CHECKING:
    from zbench.model.model import Model


class DeltaEdit(Edit):
    """Adds x @ delta.T to the output of linear modules; nothing to train.

    Args:
        deltas: Module path in the transformer ("layers.0.attention.to_k") to update [out, in]; float32.
        rows: "text" changes text rows only, image rows staying bit for bit; "all" every row.

    Raises:
        ConfigurationError: No deltas, or one on a module that sees image rows only while `rows` is "text".
    """

    kind = "delta"
    seam = "weights"

    def __init__(self, deltas: Mapping[str, Tensor], rows: RowChoice = "text") -> None:
        super().__init__()
        if not deltas or rows not in ("text", "all"):
            raise ConfigurationError(
                f"A delta edit needs at least one delta, and rows 'text' or 'all', not {rows!r}."
            )
        for path in deltas:
            if stream_of(path) == "image" and rows == "text":
                raise ConfigurationError(
                    f"{path} sees image rows only; a text-row delta there would do nothing."
                )
        self.deltas = {path: delta.detach().to("cpu", torch.float32) for path, delta in deltas.items()}
        self.rows = rows
        self._enabled = True
        self._handles: list[RemovableHandle] = []

    def settings(self) -> dict[str, Any]:
        """Rows and module paths."""
        return {"rows": self.rows, "modules": sorted(self.deltas)}

    def tensors(self) -> dict[str, Tensor]:
        """The updates by module path."""
        return dict(self.deltas)

    def scaled(self, factor: float) -> DeltaEdit:
        """The same updates times a factor."""
        return type(self)({path: factor * delta for path, delta in self.deltas.items()}, self.rows)

    def paths(self) -> list[str]:
        """Modules that it adds to."""
        return list(self.deltas)

    def update_at(self, path: str) -> Tensor | None:
        """What is added to a module's weight, float32 [out, in] on the CPU; None where nothing is."""
        return self.deltas.get(path)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The model without this edit inside a `with` block."""
        before, self._enabled = self._enabled, False
        try:
            yield
        finally:
            self._enabled = before

    def _install(self, model: Model) -> None:
        modules = {path: self._module_at(model, path) for path in self.deltas}
        for path, module in modules.items():
            self._handles.append(module.register_forward_hook(self._hook(model, path)))

    def _remove(self, model: Model) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _module_at(self, model: Model, path: str) -> nn.Module:
        try:
            module: Any = model.transformer.get_submodule(path)
            expected = (module.out_features, module.in_features)
        except AttributeError as error:
            raise ConfigurationError(f"The transformer has no linear module {path}.") from error
        if tuple(self.deltas[path].shape) != expected:
            raise WeightsError(
                f"The delta of {path} is {tuple(self.deltas[path].shape)}, the module is {expected}."
            )
        return module  # type: ignore[no-any-return]

    def _hook(self, model: Model, path: str) -> Any:
        delta, stream = self.deltas[path].to(model.device), stream_of(path)

        def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if not self._enabled:
                return None
            if self.rows == "all" or stream != "unified":
                return _plus(output, args[0], delta)
            return _plus_on_text_rows(output, args[0], delta, model, stream)

        return add

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors, _ = read_tensors(folder / cls.weights_file)
        if sorted(tensors) != list(settings["modules"]):
            strange = sorted(set(tensors) ^ set(settings["modules"]))
            raise WeightsError(
                f"{folder / cls.weights_file}: {len(strange)} keys missing or unknown, {strange[0]} first."
            )
        if not any(bool(delta.any()) for delta in tensors.values()):
            raise WeightsError(f"{folder / cls.weights_file} changes nothing: every delta is zero.")
        return cls(tensors, settings["rows"])


def _plus(output: Tensor, hidden: Tensor, delta: Tensor) -> Tensor:
    """Output + hidden @ delta.T, computed in float32."""
    return (output.float() + hidden.float() @ delta.T).to(output.dtype)


def _plus_on_text_rows(output: Tensor, hidden: Tensor, delta: Tensor, model: Model, stream: Stream) -> Tensor:
    """The same on text rows; the rows before the first text row of the batch are not even computed."""
    start = min(model.rows.current.image)
    mask = model.rows.text_row_mask(stream, hidden.shape, hidden.device)[:, start:]
    text = _plus(output[:, start:], hidden[:, start:], delta)
    return torch.cat([output[:, :start], torch.where(mask, text, output[:, start:])], dim=1)
