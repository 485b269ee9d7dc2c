"""Puts an erasure on a stock `ZImagePipeline`, exactly as zbench measured it, without zbench.

    from load_erasure import apply
    take_off = apply(pipeline)      # take_off() restores the pipeline

Stock loaders add a LoRA to every row of the sequence. An erasure of text rows must leave the rows of the
picture alone: there, this file adds nothing. It needs torch and safetensors, and came from `zbench export`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

ROW_MULTIPLE = 32
"""The transformer pads the rows of the picture, and those of the caption, to a multiple of this."""

Undo = Callable[[], None]


def apply(pipeline: Any, folder: str | Path | None = None) -> Undo:
    """Changes a pipeline until the function that is returned is called.

    Args:
        pipeline: A `ZImagePipeline`, without other adapters.
        folder: What `zbench export` wrote; the folder of this file when None.

    Raises:
        ValueError: The erasure is of a kind that only zbench can put on a model.
    """
    undo: list[Undo] = []
    rows = _Rows()
    undo.append(pipeline.transformer.register_forward_pre_hook(rows.see, with_kwargs=True).remove)
    for part, kind, settings in _parts(Path(folder or Path(__file__).parent)):
        undo += _KINDS[kind](pipeline.transformer, part, settings, rows)

    def take_off() -> None:
        while undo:
            undo.pop()()

    return take_off


def _parts(folder: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """The edit, or the parts of a composed one."""
    description = json.loads((folder / "edit.json").read_text("utf-8"))
    kind, settings = description["kind"], description["settings"]
    if kind == "composed":
        for index in range(len(settings["parts"])):
            yield from _parts(folder / str(index))
    elif kind in _KINDS:
        yield folder, kind, settings
    else:
        raise ValueError(f"an erasure of kind {kind!r} needs zbench: see README.md")


class _Rows:
    """Where the text begins in each sample of the running call: after the padded rows of the picture."""

    def __init__(self) -> None:
        self.starts: list[int] = []

    def see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Reads the layout off the call."""
        latents = args[0] if args else kwargs["x"]
        patch, frames = kwargs.get("patch_size", 2), kwargs.get("f_patch_size", 1)
        self.starts = [
            math.ceil((f // frames) * (h // patch) * (w // patch) / ROW_MULTIPLE) * ROW_MULTIPLE
            for _, f, h, w in (picture.shape for picture in latents)
        ]

    def text(self, path: str, hidden: Tensor) -> Tensor:
        """Mask of the text rows of a module's input, [B, S, 1] or something that broadcasts to it."""
        if not path.startswith("layers."):  # before text and picture are joined
            return torch.tensor(path.startswith(("context_refiner.", "cap_embedder.")), device=hidden.device)
        starts = torch.tensor(self.starts, device=hidden.device)[:, None]
        return (torch.arange(hidden.shape[1], device=hidden.device)[None] >= starts)[..., None]


def _lora(transformer: Any, folder: Path, settings: dict[str, Any], rows: _Rows) -> list[Undo]:
    tensors = load_file(folder / "pytorch_lora_weights.safetensors")
    factors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    handles = []
    for path in dict.fromkeys(name.rpartition(".lora_")[0] for name in factors):
        module = transformer.get_submodule(path)
        down, up = (factors[f"{path}.lora_{half}.weight"].to(module.weight.device) for half in "AB")
        alpha = settings["alphas"][path] if "alphas" in settings else settings["alpha"]
        hook = _lora_hook(path, down, up, alpha / len(down), rows if settings["rows"] == "text" else None)
        handles.append(module.register_forward_hook(hook).remove)
    return handles


def _lora_hook(path: str, down: Tensor, up: Tensor, scale: float, rows: _Rows | None) -> Any:
    def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        hidden = args[0].to(down.dtype)
        if rows is not None:
            hidden = torch.where(rows.text(path, hidden), hidden, 0.0)
        update = functional.linear(functional.linear(hidden, down), up)
        return (output + update * scale).to(output.dtype)

    return add


def _delta(transformer: Any, folder: Path, settings: dict[str, Any], rows: _Rows) -> list[Undo]:
    handles = []
    for path, delta in load_file(folder / "edit.safetensors").items():
        module = transformer.get_submodule(path)
        masked = settings["rows"] == "text" and path.startswith("layers.")
        hook = _delta_hook(path, delta.to(module.weight.device), rows if masked else None)
        handles.append(module.register_forward_hook(hook).remove)
    return handles


def _delta_hook(path: str, delta: Tensor, rows: _Rows | None) -> Any:
    def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if rows is None:
            return _plus(output, args[0], delta)
        # From the first text row of the batch on, as zbench computes it: the last bits depend on the shape.
        start = min(rows.starts)
        text = _plus(output[:, start:], args[0][:, start:], delta)
        mask = rows.text(path, args[0])[:, start:]
        return torch.cat([output[:, :start], torch.where(mask, text, output[:, start:])], dim=1)

    return add


def _plus(output: Tensor, hidden: Tensor, delta: Tensor) -> Tensor:
    return (output.float() + hidden.float() @ delta.T).to(output.dtype)


def _checkpoint(transformer: Any, folder: Path, settings: dict[str, Any], rows: _Rows) -> list[Undo]:
    state = transformer.state_dict(keep_vars=True)
    undo: list[Undo] = []
    for file in sorted(folder.glob("weights-*.safetensors")):
        for name, value in load_file(file).items():
            place, before = state[name], state[name].detach().to("cpu", copy=True)
            undo.append(_writer(place, before))
            change = value.float() - before.float()
            exact = settings["strength"] == 1.0
            _writer(place, value if exact else before.float() + settings["strength"] * change)()
    return undo


def _writer(place: Tensor, value: Tensor) -> Undo:
    @torch.no_grad()
    def write() -> None:
        place.copy_(value)

    return write


_KINDS: dict[str, Callable[[Any, Path, dict[str, Any], _Rows], list[Undo]]] = {
    "lora": _lora,
    "adapter": _lora,
    "delta": _delta,
    "checkpoint": _checkpoint,
}
