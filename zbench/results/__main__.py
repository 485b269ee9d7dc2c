"""``python -m zbench.results``: what pull requests that touch results are checked by."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zbench.errors import ConfigurationError, StoreError, ZbenchError
from zbench.results.change_summary import escaped, summary
from zbench.results.changes import Changes, changes, read_allowed
from zbench.results.checks import check_tree
from zbench.results.tree import parts
from zbench.results.versions import base_of, tree_at
from zbench.store import atomic_write_text

BASE = "base"
"""Stands for the revision that a change starts from; see `base_of`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Checks trees, and what changed in them since a revision.

    Returns:
        0 where all is well, 1 where something is refused, 2 where a tree cannot be read or compared.
    """
    asked = _parser().parse_args(argv)
    told, code = [], 0
    for root in asked.results:
        text, ended = _checked(root, asked.against, len(asked.results) > 1)
        told.append(text)
        code = max(code, ended)
    try:
        if asked.summary is not None:
            atomic_write_text(asked.summary, "\n".join(told))
    except ZbenchError as error:
        print(error, file=sys.stderr)
        return 2
    return code


def _checked(root: Path, against: str | None, one_of_several: bool) -> tuple[str, int]:
    """A tree's part of the summary, and what to end with; a tree that cannot be read hides no other one."""
    try:
        if one_of_several and against is not None and Path(against).is_dir():
            raise ConfigurationError(f"--against {against}: a folder is an older version of one tree only.")
        problems, found = check_tree(root), _changes(root, against)
    except ZbenchError as error:
        print(error, file=sys.stderr)
        return f"## Changes of `{escaped(str(root))}`\n\nNot compared: {escaped(str(error))}\n", 2
    lines = [*map(str, problems), *found.unexplained]
    print("\n".join([*lines, f"{root}: {len(lines)} problems"]))
    return summary(found, problems, name=str(root)), 1 if lines else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zbench.results", description=main.__doc__)
    parser.add_argument("results", nargs="*", type=Path, default=[Path("results")], help="the trees")
    parser.add_argument(
        "--against", help=f"a folder, or a revision of git; `{BASE}`: where this change starts"
    )
    parser.add_argument("--summary", type=Path, help="Markdown file for old and new figures")
    return parser


def _changes(root: Path, against: str | None) -> Changes:
    if against is None:
        read_allowed(root)
        return Changes()
    if Path(against).is_dir():
        parts(against)  # a folder without results is a slip, not an older version
        return changes(Path(against), root, read_allowed(root))
    revision = base_of(root) if against == BASE else against
    if revision is None:
        raise StoreError(f"{root}: nothing to compare with: there is no older commit, or no git.")
    with tree_at(root, revision) as old:
        return changes(old, root, read_allowed(root))


if __name__ == "__main__":
    raise SystemExit(main())
