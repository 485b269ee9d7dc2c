"""Networks that do not fit a device together: the text encoder visits it, and makes room again.

Frozen weights need no copying back: on the host they lie in the mapped files that they were loaded from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from zbench.model.spec import ModelSpec

_HOST = torch.device("cpu")
_MARGIN = 1.1
"""What a network takes while it runs, as a multiple of its weights."""


def device_memory(device: torch.device) -> int:
    """Bytes of memory that the process may have of a device; for the CPU those of the machine."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(total * torch.cuda.get_per_process_memory_fraction(device))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system: then it is not the place to spare
        return 1 << 62


def is_tight(spec: ModelSpec, device: torch.device) -> bool:
    """Whether memory has to be spared for this model on this device."""
    return device_memory(device) < spec.memory_gb * 1e9


def settle(pipeline: Any, device: torch.device, *, tight: bool) -> None:
    """Puts a pipeline's networks where they stay: all on the device, or all but the text encoder."""
    if tight:
        for network in (pipeline.transformer, pipeline.vae):
            network.to(device)
    else:
        pipeline.to(device)


@contextmanager
def visiting(network: nn.Module, device: torch.device, resident: nn.Module) -> Iterator[None]:
    """A frozen network on a device for the length of a `with` block; costs nothing where it lies there.

    Args:
        network: Goes back to exactly the tensors that it came from.
        device: Where it is needed.
        resident: A network there that leaves for the time where there is no room for both.
    """
    if next(network.parameters()).device == device:
        yield
        return
    tensors = [*network.parameters(), *network.buffers()]
    needed = int(_MARGIN * sum(tensor.nbytes for tensor in tensors))
    with _room(needed, device, resident):
        home = [tensor.data for tensor in tensors]
        try:
            for tensor in tensors:
                tensor.data = tensor.data.to(device)
            yield
        finally:
            for tensor, data in zip(tensors, home, strict=True):
                tensor.data = data


@contextmanager
def _room(needed: int, device: torch.device, resident: nn.Module) -> Iterator[None]:
    if needed <= free_memory(device):
        yield
        return
    resident.to(_HOST)
    try:
        yield
    finally:
        resident.to(device)


def free_memory(device: torch.device) -> int:
    """Bytes of a device that the next tensors can have."""
    if device.type != "cuda":
        return device_memory(device)
    reserved = torch.cuda.memory_reserved(device)
    to_come = min(torch.cuda.mem_get_info(device)[0], device_memory(device) - reserved)
    return int(to_come + reserved - torch.cuda.memory_allocated(device))
