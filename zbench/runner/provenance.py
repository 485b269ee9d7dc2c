"""What a result says about where it comes from."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import zbench

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

    Args:
        device: The torch device that the work ran on.
    """
    return {
        "zbench": zbench.__version__,
        "checkout": _checkout(),
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


@cache
def _checkout() -> dict[str, Any] | None:
    """Commit and dirty flag, None for an installed release or where there is no git."""
    root = Path(zbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


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
