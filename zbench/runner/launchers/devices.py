"""The devices of this machine: one token for each cell at a time, and the threads that it may use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zbench.errors import ConfigurationError

_PATIENCE = 120.0
"""Seconds that a device is given to answer."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
_CUDA = re.compile(r"(?:cuda:)?(\d+)")

_LOST = re.compile(
    r"no CUDA-capable device|CUDA driver|device is lost|device\(s\) is/are busy or unavailable"
    r"|uncorrectable (?:ECC|NVLink) error|invalid device ordinal|GPU is lost|fallen off the bus"
    r"|hardware error|system not yet initialized|no NVIDIA driver|No CUDA GPUs are available"
    r"|forward compatibility was attempted|NVML: (?:GPU is lost|Driver/library version mismatch)",
    re.IGNORECASE,
)
"""How CUDA and its driver say that a device is gone, not that a kernel went wrong."""


@dataclass(frozen=True)
class Token:
    """The right to run one cell on a device.

    Attributes:
        name: For people: `cuda:2`, `cpu`.
        device: Torch device inside the cell's process.
        environment: What its process must find in the environment before CUDA starts.
        threads: Threads of its process on the CPU; as many as it likes when None.
    """

    name: str
    device: str
    environment: Mapping[str, str]
    threads: int | None = None


def absent(names: Sequence[str], cuda_devices: int) -> list[str]:
    """Those of the names that are CUDA devices of a number that there is not.

    Args:
        names: See `tokens`.
        cuda_devices: How many CUDA devices there are.
    """
    return [name for name in names if (match := _cuda(name)) and int(match[1]) >= cuda_devices]


def tokens(names: Sequence[str], workers: int) -> list[Token]:
    """One token for each cell that may run at a time.

    A CUDA device is the only one that its process sees; named twice it takes two cells at a time.

    Args:
        names: `0`, `cuda:0` (CUDA devices by number), `cpu`, or any other torch device.
        workers: Cells at a time on `cpu`.

    Raises:
        ConfigurationError: A name is no device.
    """
    flat = [name.strip() for name in names for _ in range(workers if name.strip() == "cpu" else 1)]
    share = max(1, usable_cores() // len(flat)) if len(flat) > 1 else None
    return [_token(name, share) for name in flat]


def _cuda(name: str) -> re.Match[str] | None:
    return _CUDA.fullmatch(name.strip())


def _token(name: str, threads: int | None) -> Token:
    match = _cuda(name)
    if match:
        number = int(match[1])
        return Token(f"cuda:{number}", "cuda", {VISIBLE: _visible(number)}, threads)
    if name in ("cpu", "mps", "xpu", "cuda") or re.fullmatch(r"xpu:\d+", name):
        return Token(name, name, {}, threads)
    raise ConfigurationError(
        f"--devices {name}: give numbers of CUDA devices, such as 0,1,2,3, or cpu with --workers N."
    )


def _visible(number: int) -> str:
    """The name of a device among those that the user lets be seen; torch counts these, and so do we."""
    shown = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return shown[number] if number < len(shown) else str(number)


def usable_cores() -> int:
    """Cores that this process may use, or fewer where `OMP_NUM_THREADS` says so."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(asked))) if asked.isdecimal() else cores


# Inside a cell's process ----------------------------------------------------------------------------------


def use_threads(count: int | None) -> None:
    """Limits torch, and what starts threads later, to so many; must come before the first parallel work."""
    if count is None:
        return
    import torch

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    torch.set_num_threads(count)


def is_there(device: str | None) -> bool:
    """Whether a cell's device can be used; the automatic choice always can."""
    if device is None or device == "cpu":
        return True
    import torch

    chosen = torch.device(device)
    if chosen.type == "cuda":
        return torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count()
    backend = getattr(torch.backends, chosen.type, None) or getattr(torch, chosen.type, None)
    return bool(getattr(backend, "is_available", lambda: True)())


def is_lost(device: str | None, error: str) -> bool:
    """Whether a cell failed because its device went away.

    The error says so, and a process that knows nothing of it cannot use the device either: a method that
    gives such an error by a fault of its own must not cost a device.
    """
    if device in (None, "cpu"):
        return False
    return _LOST.search(error) is not None and not _responds(device)


def _responds(device: str | None) -> bool:
    trial = f"import torch; print(torch.ones(1, device={device!r}).item())"
    try:
        done = subprocess.run([sys.executable, "-c", trial], capture_output=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def count_cuda() -> int:
    """How many CUDA devices torch sees; a process that asked this must not fork any more."""
    if sys.platform == "darwin":
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
