"""Older versions of a tree, from git."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zbench.errors import StoreError

DEFAULT_BRANCH = "origin/main"


def repository_of(root: Path) -> Path | None:
    """The working tree of git that a folder lies in; None where there is none, or no git."""
    folder = next((each for each in (root, *root.absolute().parents) if each.is_dir()), None)
    if folder is None:
        return None
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    except StoreError:
        return None


def base_of(root: Path) -> str | None:
    """What a tree is compared with: the merge base with the main branch, else the commit before the last.

    Returns:
        A commit; None where the tree is not under git, or HEAD is the first commit.

    Raises:
        StoreError: There are older commits, but not here.
    """
    if repository_of(root) is None:
        return None
    for arguments in (("merge-base", "HEAD", DEFAULT_BRANCH), ("rev-parse", "--verify", "HEAD~1")):
        try:
            commit = _git(root, *arguments).decode().strip()
        except StoreError:
            continue
        if commit != _git(root, "rev-parse", "HEAD").decode().strip():
            return commit
    if _has_parent(root):
        raise StoreError(f"{root}: nothing to compare with: fetch more history (git fetch --unshallow).")
    return None


def _has_parent(root: Path) -> bool:
    """Whether HEAD is not the first commit, by what it says itself: a shallow clone lacks its parents."""
    try:
        header, _, _ = _git(root, "cat-file", "commit", "HEAD").partition(b"\n\n")
    except StoreError:
        return False
    return any(line.startswith(b"parent ") for line in header.splitlines())


@contextmanager
def tree_at(root: Path, revision: str) -> Iterator[Path | None]:
    """A tree as it was at a revision, in a folder that is there for the length of a `with` block.

    Args:
        root: The tree in the working tree of git.
        revision: Anything that git takes for a commit.

    Yields:
        The folder; None where the revision has no such tree. Links are not in it: they are no results.

    Raises:
        StoreError: There is no git here, or no such revision.
    """
    repository = repository_of(root)
    if repository is None:
        raise StoreError(f"{root} is not under git: nothing to compare it with.")
    _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    below = _below(root, repository)
    if not _git(repository, "ls-tree", "-d", revision, "--", below).strip():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="zbench-results-") as place:
        _unpack(_git(repository, "archive", revision, "--", below), place)
        yield Path(place) / below


def _below(root: Path, repository: Path) -> str:
    """Where a tree lies in its repository, which a link may lead to."""
    try:
        return root.resolve().relative_to(repository.resolve()).as_posix()
    except ValueError as error:
        raise StoreError(f"{root} leads out of {repository}: nothing to compare it with.") from error


def _unpack(content: bytes, place: str) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(place, filter=_without_links)
    except tarfile.TarError as error:
        raise StoreError(f"the older version cannot be unpacked: {error}") from error


def _without_links(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
    return None if member.issym() or member.islnk() else tarfile.data_filter(member, place)


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True)
    except FileNotFoundError as error:
        raise StoreError("git is not installed: nothing to compare with.") from error
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", b"") or b""
        raise StoreError(f"git {' '.join(arguments)}: {told.decode(errors='replace').strip()}") from error
    return done.stdout
