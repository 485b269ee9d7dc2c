"""``python -m zbench.results``: what pull requests that touch results are checked by."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zbench.errors import ZbenchError
from zbench.results.change_summary import summary
from zbench.results.changes import Changes, changes, read_allowed
from zbench.results.checks import check_tree
from zbench.results.versions import base_of, tree_at
from zbench.store import atomic_write_text

BASE = "base"
"""Stands for the revision that a change starts from; see `base_of`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Checks trees, and what changed in them since a revision.

    Returns:
        0 where all is well, 1 where something is refused, 2 for what cannot be read.
    """
    asked = _parser().parse_args(argv)
    texts, refused = [], 0
    try:
        for root in asked.results:
            problems, found = check_tree(root), _changes(root, asked.against)
            lines = [*map(str, problems), *found.unexplained]
            print("\n".join([*lines, f"{root}: {len(lines)} problems"]))
            texts.append(summary(found, problems, name=str(root)))
            refused += len(lines)
        if asked.summary is not None:
            atomic_write_text(asked.summary, "\n".join(texts))
    except ZbenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if refused else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zbench.results", description=main.__doc__)
    parser.add_argument("results", nargs="*", type=Path, default=[Path("results")], help="the trees")
    parser.add_argument(
        "--against", help=f"a folder, or a revision of git; `{BASE}`: where this change starts"
    )
    parser.add_argument("--summary", type=Path, help="Markdown file for old and new figures")
    return parser


def _changes(root: Path, against: str | None) -> Changes:
    if against is not None and Path(against).is_dir():
        return changes(Path(against), root, read_allowed(root))
    revision = base_of(root) if against == BASE else against
    if revision is None:
        return Changes()
    with tree_at(root, revision) as old:
        return changes(old, root, read_allowed(root))


if __name__ == "__main__":
    raise SystemExit(main())
