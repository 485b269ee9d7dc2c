"""Whether a model, and the settings of the process, are what they were: a method is a stranger's code.

Tensors are compared by a checksum that is computed where they lie, so that a model of billions of weights is
compared in about the time of one pass over its memory; structure, hooks and modes are compared one by one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from zbench.store import sha256_bytes

if TYPE_CHECKING:
    from zbench.model import Model

_CHUNK = 1 << 20
"""Bytes looked at in one go: they fit the cache of a processor."""

_MIX = -7046029254386353131
"""2^64 divided by the golden ratio, odd, as a signed number: spreads places over all 64 bits."""

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_hooks")


def checksum(tensor: Tensor) -> int:
    """A 64-bit checksum of a tensor's bits: the sum of its words of eight bytes times an odd number each.

    Any change of a single element changes it; it is no cryptographic hash.
    """
    flat = tensor.detach().reshape(-1).contiguous().view(torch.uint8)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for index, piece in enumerate(torch.split(flat, _CHUNK)):
        words = _words(piece)
        total += (words * _factors(words.device)[: len(words)]).sum() * _signed(index * _MIX | 1)
    return int(total) % (1 << 64)


def _words(piece: Tensor) -> Tensor:
    """Bytes as numbers of eight bytes, zeros after the last; copied only where they lie askew."""
    if len(piece) % 8:
        piece = nn.functional.pad(piece, (0, -len(piece) % 8))
    return (piece.clone() if piece.storage_offset() % 8 else piece).view(torch.int64)


@cache
def _factors(device: torch.device) -> Tensor:
    """An odd number for each word of a piece."""
    return (2 * torch.arange(_CHUNK // 8, device=device) + 1) * _MIX


def _signed(number: int) -> int:
    """The low 64 bits, as torch holds them."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


@dataclass(frozen=True)
class ModelState:
    """What must be the same before and after an erasure.

    Attributes:
        facts: Name of a tensor, module or property -> what it was.
        encoded: Prompt -> checksum of its cached embedding, which is shared and must not be written to.
    """

    facts: dict[str, Hashable]
    encoded: dict[str, int]

    @classmethod
    def of(cls, model: Model) -> Self:
        """The state as it is now."""
        if not model.prompts.known:
            model.encode([""])  # a text encoder puts hooks of its own in when it is first called
        facts: dict[str, Hashable] = dict(_model_facts(model))
        for name, network in model.networks().items():
            facts.update(_tensor_facts(name, network))
            facts.update(
                (f"module {name}.{path}", _module_facts(module)) for path, module in _modules(network)
            )
        return cls(facts, {prompt: checksum(value) for prompt, value in model.prompts.known.items()})

    def changes(self, model: Model) -> list[str]:
        """What is different by now, by name; empty where nothing is."""
        now = ModelState.of(model)
        names = dict.fromkeys([*self.facts, *now.facts])
        changed = [name for name in names if self.facts.get(name) != now.facts.get(name)]
        # A hash: the prompt may be one that nothing shows.
        written = (sha256_bytes(prompt.encode())[:12] for prompt in self._rewritten(now, model))
        return changed + [f"cached embedding of the prompt of SHA-256 {digest}" for digest in written]

    def _rewritten(self, now: ModelState, model: Model) -> Iterator[str]:
        """Prompts whose cached embedding was written to, or can no longer be trained with."""
        for prompt, value in now.encoded.items():
            cached, known = model.prompts.known[prompt], self.encoded.get(prompt)
            # A new one counts its writes itself, unless it was made in inference mode.
            written = cached.is_inference() or cached._version > 0 if known is None else known != value
            if written:
                yield prompt


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return iter(network.named_modules(remove_duplicate=False))


def _tensor_facts(prefix: str, network: nn.Module) -> Iterator[tuple[str, Hashable]]:
    for name, parameter in network.named_parameters(remove_duplicate=False):
        flags = (parameter.requires_grad, parameter.grad is None)
        yield f"{prefix}.{name}", (parameter.dtype, tuple(parameter.shape), checksum(parameter), *flags)
    for name, buffer in network.named_buffers(remove_duplicate=False):
        yield f"{prefix}.{name}", (buffer.dtype, tuple(buffer.shape), checksum(buffer))


def _module_facts(module: nn.Module) -> Hashable:
    """The module itself, its mode and hooks, and what stands in for its forward or its attention."""
    hooks = tuple(tuple(getattr(module, name)) for name in _HOOKS)
    forward = (vars(module).get("forward"), type(module).forward)
    modes = (module.training, getattr(module, "gradient_checkpointing", None))
    return (module, *modes, hooks, *forward, getattr(module, "processor", None))


def _model_facts(model: Model) -> Iterator[tuple[str, Hashable]]:
    pipeline = model.pipeline
    yield "attached edits", tuple(model.edits)
    yield "conditioning edits", tuple(model.conditioning)
    yield "spec", model.spec.model_dump_json()
    yield "replaced methods of the model", tuple(name for name in vars(model) if hasattr(type(model), name))
    yield "transformer", model.transformer
    yield "tokenizer", pipeline.tokenizer
    yield "scheduler", (pipeline.scheduler, repr(pipeline.scheduler.config))
    yield "replaced methods of the pipeline", "__call__" in vars(pipeline)
    yield "torch's global hooks", tuple(tuple(getattr(torch_module, name)) for name in _GLOBAL_HOOKS)


# The process ----------------------------------------------------------------------------------------------

_Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _cuda_is_used() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _attribute(home: Any, name: str) -> _Setting:
    return lambda: getattr(home, name), lambda value: setattr(home, name, value)


_SETTINGS: dict[str, _Setting] = {
    "torch's random state": (torch.get_rng_state, torch.set_rng_state),
    "CUDA's random states": (
        lambda: torch.cuda.get_rng_state_all() if _cuda_is_used() else [],
        lambda states: torch.cuda.set_rng_state_all(states) if states else None,
    ),
    "Python's random state": (random.getstate, random.setstate),
    "NumPy's random state": (np.random.get_state, np.random.set_state),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, torch.set_default_device),
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cudnn.benchmark": _attribute(torch.backends.cudnn, "benchmark"),
    "cudnn.deterministic": _attribute(torch.backends.cudnn, "deterministic"),
    "working directory": (os.getcwd, os.chdir),
}
"""Name -> how to read and how to set it. Flushing of denormals cannot be read; models of the CPU set it."""


@dataclass(frozen=True)
class ProcessState:
    """Random states and settings that everyone in the process shares.

    Attributes:
        values: By name.
    """

    values: dict[str, Any]

    @classmethod
    def now(cls) -> Self:
        """The state as it is."""
        return cls({name: read() for name, (read, _) in _SETTINGS.items()})

    def changes(self) -> list[str]:
        """Names of what is different by now."""
        return [name for name, (read, _) in _SETTINGS.items() if not _equal(read(), self.values[name])]

    def restore(self) -> None:
        """Sets what is different back to what it was."""
        for name in self.changes():
            _SETTINGS[name][1](self.values[name])


def _equal(now: Any, then: Any) -> bool:
    if isinstance(now, Tensor):
        return torch.equal(now, then)
    if isinstance(now, np.ndarray):
        return np.array_equal(now, then)
    if isinstance(now, list | tuple):
        return len(now) == len(then) and all(map(_equal, now, then))
    return bool(now == then)
