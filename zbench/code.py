"""Which code is at work: the commit of a checkout, or the hash of an installed release."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import zbench

_SHA1, _SHA256 = 40, 64
"""Digits of a commit: of git's usual hash, and of its longer one."""

_OF_INSTALLER = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})
"""Files that whoever installs adds to those of the wheel."""


def code_record() -> dict[str, Any]:
    """The code: ``checkout`` with commit and dirty flag, else ``release`` with the hash of its files."""
    found = checkout()
    return {"checkout": found, "release": None if found else release()}


def code_fault(record: Mapping[str, Any]) -> str | None:
    """Why nobody can get this code again; None for a commit without changes, or an unaltered release.

    Args:
        record: With ``checkout`` and ``release``; it may come from a file that anybody wrote.
    """
    found, installed = record.get("checkout"), record.get("release")
    if isinstance(found, Mapping) and _is_hash(found.get("commit"), _SHA1, _SHA256):
        if found.get("dirty") is False:
            return None
        return f"made by a checkout with uncommitted changes ({found['commit'][:7]})"
    if not found and isinstance(installed, Mapping) and _is_hash(installed.get("record_sha256"), _SHA256):
        altered = installed.get("altered")
        if altered == 0 and not isinstance(altered, bool):
            return None
        return f"made by an installed release with {altered} altered files"
    return "which code made it is unknown: neither a commit nor an installed release is recorded"


def _is_hash(value: Any, *lengths: int) -> bool:
    return isinstance(value, str) and len(value) in lengths and not set(value) - set("0123456789abcdef")


@cache
def checkout() -> dict[str, Any] | None:
    """Commit and dirty flag, None for an installed release or where there is no git."""
    root = Path(zbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


@cache
def release() -> dict[str, Any] | None:
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
