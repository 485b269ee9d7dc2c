"""What a result says about where it comes from."""

from __future__ import annotations

import base64
import hashlib
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

_OF_INSTALLER = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})
"""Files that whoever installs adds to those of the wheel."""


def provenance(device: str) -> dict[str, Any]:
    """Version and commit of zbench, versions of the packages that matter, machine, device and torch build.

    A checkout is named by its commit, an installed release by the hash of its files.

    Args:
        device: The torch device that the work ran on.
    """
    checkout = _checkout()
    return {
        "zbench": zbench.__version__,
        "checkout": checkout,
        "release": None if checkout else _release(),
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


@cache
def _release() -> dict[str, Any] | None:
    """Hash of the installed release and whether its files are still those; None where none is installed."""
    try:
        return release_of(metadata.distribution("zbench"), Path(zbench.__file__).resolve().parent.parent)
    except metadata.PackageNotFoundError:
        return None


def release_of(installed: metadata.Distribution, root: Path) -> dict[str, Any] | None:
    """What tells one installed release from another.

    The hash is over the files as the RECORD of the installation lists them, without what differs between two
    installations of one wheel: scripts, compiled files, the installer's own notes.

    Args:
        installed: The distribution.
        root: Folder that its packages are imported from.

    Returns:
        ``record_sha256``, and the number of ``altered`` files; None where the code that runs is not what is
        listed, as in an editable installation.
    """
    listed = {
        str(file): file.hash.value
        for file in installed.files or ()
        if file.hash is not None and file.hash.mode == "sha256" and _of_wheel(file)
    }
    if not any(name.startswith("zbench/") for name in listed):
        return None
    altered = sum(_digest(root / name) != value for name, value in listed.items())
    lines = "".join(f"{name} {listed[name]}\n" for name in sorted(listed))
    return {"record_sha256": hashlib.sha256(lines.encode()).hexdigest(), "altered": altered}


def _of_wheel(file: metadata.PackagePath) -> bool:
    """Whether a listed file is in the wheel as it is here."""
    return ".." not in file.parts and file.suffix != ".pyc" and file.name not in _OF_INSTALLER


def _digest(path: Path) -> str:
    """As RECORD writes it; empty for a file that cannot be read."""
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return ""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


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
