"""What a result says about where it comes from."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from typing import Any

import zbench
from zbench.code import code_record

_PACKAGES = (
    "accelerate",
    "diffusers",
    "numpy",
    "nudenet",
    "open_clip_torch",
    "pandas",
    "peft",
    "pillow",
    "safetensors",
    "scipy",
    "statsmodels",
    "tokenizers",
    "torch",
    "torch-fidelity",
    "torchvision",
    "transformers",
)


def provenance(device: str) -> dict[str, Any]:
    """Version and commit of zbench, versions of the packages that matter, machine, device and torch build.

    A checkout is named by its commit, an installed release by the hash of its files.

    Args:
        device: The torch device that the work ran on.
    """
    return {
        "zbench": zbench.__version__,
        **code_record(),
        "packages": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device(device),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _device(device: str) -> dict[str, Any]:
    import torch

    name = platform.processor() or platform.machine()
    if device.startswith("cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name(device)
    return {
        "type": device,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch_build": {"version": torch.__version__, "cuda": torch.version.cuda},
    }
