"""`zbench clean`: shows what of a run folder nobody needs any more, and removes it with --yes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zbench.runner.cleaning import Contents, Waste
    from zbench.store import Store

_NAMED = 5
"""Things of one kind that are named."""

Folder = Annotated[Path, typer.Argument(help="Run folder.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove it; without this it is only shown.")]
Unfinished = Annotated[
    bool, typer.Option("--unfinished", help="Also what unfinished cells could go on with: it is done again.")
]
Reports = Annotated[bool, typer.Option("--reports", help="Also reports of other runs than the last.")]
Thumbnails = Annotated[
    bool, typer.Option("--thumbnails", help="Of pictures that are scored keep only small ones, and scores.")
]


def clean(
    folder: Folder = Path("runs"),
    yes: Yes = False,
    unfinished: Unfinished = False,
    reports: Reports = False,
    thumbnails: Thumbnails = False,
) -> None:
    """Show what nobody needs any more in a run folder; --yes removes it. Results are never touched."""
    from zbench.runner.cleaning import Contents, find_waste, remove
    from zbench.store import Store

    store = Store.open(folder, create=False, notify=print)
    contents, waste = Contents(store.root), find_waste(store)
    kept = _kept(contents, unfinished, reports)
    chosen = [each for each in waste if each.kind not in kept]
    _show(store.root, waste, kept)
    gone = remove(store, chosen) if yes else []
    _conclude(gone if yes else chosen, yes)
    if thumbnails:
        _thin(store, contents, yes)


def _kept(contents: Contents, unfinished: bool, reports: bool) -> dict[str, str]:
    """Kind of waste -> why it is kept for now."""
    from zbench.runner.cleaning import RESUMABLE

    kept = {} if reports else {"reports": "kept: --reports removes them"}
    if contents.at_work:
        return kept | dict.fromkeys(RESUMABLE, f"kept: a process is at work here ({contents.at_work[0]})")
    if contents.unfinished and not unfinished:
        count = len(contents.unfinished)
        cells = "1 unfinished cell" if count == 1 else f"{count} unfinished cells"
        return kept | dict.fromkeys(RESUMABLE, f"kept for {cells}: --unfinished removes them")
    return kept


def _show(root: Path, waste: Sequence[Waste], kept: dict[str, str]) -> None:
    from zbench.runner.cleaning import TITLES
    from zbench.runner.display.durations import shown_bytes

    print(root)
    for kind, title in TITLES.items():
        found = [each for each in waste if each.kind == kind]
        if found:
            why = f" ({kept[kind]})" if kind in kept else ""
            print(f"{title}: {len(found)}, {shown_bytes(sum(each.bytes for each in found))}{why}")
        for each in found[:_NAMED]:
            print(f"  {each.path.relative_to(root)}  {shown_bytes(each.bytes)}")
        if len(found) > _NAMED:
            print(f"  and {len(found) - _NAMED} more")


def _conclude(chosen: Sequence[Waste], removed: bool) -> None:
    from zbench.runner.display.durations import shown_bytes

    size = shown_bytes(sum(each.bytes for each in chosen))
    if removed:
        print(f"Removed {size}.")
    else:
        print(f"Nothing was removed: --yes removes {size}." if chosen else "Nothing to remove.")


def _thin(store: Store, contents: Contents, yes: bool) -> None:
    from zbench.runner.display.durations import shown_bytes
    from zbench.runner.thinning import thin_places, thinnable

    places = thinnable(store.root, contents.finished.values())
    if contents.at_work:
        print(f"Pictures are kept: a process is at work here ({contents.at_work[0]}).")
    elif yes:
        done = thin_places(store, places)
        print(f"Only thumbnails are left of {done.folders} sets of pictures: {shown_bytes(done.bytes)} less.")
    else:
        print(f"--yes leaves only thumbnails of {len(places)} sets of pictures.")
