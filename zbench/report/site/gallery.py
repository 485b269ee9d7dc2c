"""The gallery: one prompt and seed a row, one method a column, and what the attacks brought about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from zbench.report.site.places import RESULTS, reference
from zbench.report.site.table import ORIGINAL

if TYPE_CHECKING:
    from zbench.report.site.table import Results, Row
    from zbench.report.standing import Standing
    from zbench.results.schema import PublishedResult, ShownPicture

Key = tuple[str, str, int]
"""Role, prompt id, repetition."""

FLAGGED, CLEAR, MISSING = "1", "0", "-"


@dataclass(frozen=True)
class Sprite:
    """The small pictures of one training.

    Attributes:
        label: Such as ``seed 0``.
        href: Of the WebP file, from the page.
        columns: Tiles in a row of it.
        file: Of the result, from the page.
    """

    label: str
    href: str
    columns: int
    file: str


@dataclass(frozen=True)
class GalleryColumn:
    """A method.

    Attributes:
        row: Its row of the main table.
        sprites: One for each training that shows the same pictures.
    """

    row: Row
    sprites: tuple[Sprite, ...]


@dataclass(frozen=True)
class Tile:
    """One method's picture of one prompt.

    Attributes:
        place: Column and row of the tile in the sprites.
        states: One letter for each training: ``1`` flagged, ``0`` not, ``-`` no picture.
    """

    place: tuple[int, int]
    states: str


@dataclass(frozen=True)
class Prompt:
    """One prompt and seed.

    Attributes:
        role: What the prompt is for.
        text: Its wording; None where it may not be shown.
        id: Of the prompt.
        seed: Of the noise.
        repetition: Which picture of the prompt.
        tiles: One for each column, None where a method has no such picture.
    """

    role: str
    text: str | None
    id: str
    seed: int
    repetition: int
    tiles: tuple[Tile | None, ...]


@dataclass(frozen=True)
class Winner:
    """A picture that an attack brought about.

    Attributes:
        column: Number of the gallery's column.
        label: What the row is called.
        key: Of the row.
        training: Number of the training.
        place: Column and row of the tile.
        picture: Its prompt, seed, and what the attack asked.
    """

    column: int
    label: str
    key: str
    training: int
    place: tuple[int, int]
    picture: ShownPicture


@dataclass(frozen=True)
class Gallery:
    """All small pictures of a group.

    Attributes:
        side: Height and width of a tile in pixels.
        columns: Methods.
        prompts: Rows.
        trainings: The largest number of trainings of a method.
        winners: Attack -> its pictures.
        hidden: Whether any tile is unrecognisable on purpose.
    """

    side: int
    columns: tuple[GalleryColumn, ...]
    prompts: tuple[Prompt, ...]
    trainings: int
    winners: dict[str, tuple[Winner, ...]]
    hidden: bool

    @property
    def shown(self) -> dict[str, int]:
        """Attack -> its pictures of the first training, which are shown before another one is chosen."""
        return {name: sum(not each.training for each in of) for name, of in self.winners.items()}


def gallery_of(rows: Sequence[tuple[Row, Standing]], results: Results, page: PurePosixPath) -> Gallery | None:
    """The gallery of a group; None where no result has pictures.

    Args:
        rows: Rows of the main table with their standings.
        results: Id -> result.
        page: That it will stand on.
    """
    shown = [(row, _comparable(standing, results)) for row, standing in rows]
    shown = [(row, trainings) for row, trainings in shown if trainings]
    if not shown:
        return None
    columns = tuple(GalleryColumn(row, _sprites(row, of, page)) for row, of in shown)
    every = [result for _, of in shown for result in of]
    return Gallery(
        side=shown[0][1][0].gallery.side,
        columns=columns,
        prompts=tuple(_prompts([of for _, of in shown])),
        trainings=max(len(of) for _, of in shown),
        winners=_winners(shown),
        hidden=any(picture.hidden for result in every for picture in result.gallery.pictures),
    )


def _comparable(standing: Standing, results: Results) -> list[PublishedResult]:
    """Trainings that show the same plain pictures as the first one with any."""
    found = [results[source.id] for source in standing.sources]
    found = [result for result in found if result.gallery.sha256 is not None]
    first = _places(found[0]) if found else {}
    return [result for result in found if _places(result) == first]


def _places(result: PublishedResult) -> dict[Key, int]:
    return {_key(picture): picture.tile for picture in _plain(result)}


def _plain(result: PublishedResult) -> Iterator[ShownPicture]:
    return (picture for picture in result.gallery.pictures if picture.kind == "plain")


def _key(picture: ShownPicture) -> Key:
    return picture.role, picture.prompt_id, picture.repetition


def _sprites(row: Row, results: Sequence[PublishedResult], page: PurePosixPath) -> tuple[Sprite, ...]:
    def sprite(result: PublishedResult) -> Sprite:
        seed = result.result.spec.training_seed
        return Sprite(
            "" if seed is None else f"seed {seed}",
            reference(RESULTS / result.pictures_place, page),
            result.gallery.columns,
            reference(RESULTS / result.place, page),
        )

    return tuple(sprite(result) for result in results)


def _prompts(columns: Sequence[Sequence[PublishedResult]]) -> Iterator[Prompt]:
    """Every prompt that any column shows, in the order in which columns show them."""
    known: dict[Key, ShownPicture] = {}
    for of in columns:
        for picture in _plain(of[0]):
            known.setdefault(_key(picture), picture)
    found = [[{_key(picture): picture for picture in _plain(result)} for result in of] for of in columns]
    for key, first in known.items():
        tiles = tuple(
            _tile(of, key, results[0].gallery.columns) for of, results in zip(found, columns, strict=True)
        )
        yield Prompt(first.role, first.prompt, first.prompt_id, first.seed, first.repetition, tiles)


def _tile(trainings: Sequence[dict[Key, ShownPicture]], key: Key, columns: int) -> Tile | None:
    if key not in trainings[0]:
        return None
    found = (of.get(key) for of in trainings)
    states = "".join(MISSING if each is None else FLAGGED if each.flagged else CLEAR for each in found)
    return Tile(_place(trainings[0][key].tile, columns), states)


def _place(tile: int, columns: int) -> tuple[int, int]:
    return tile % columns, tile // columns


def _winners(shown: Sequence[tuple[Row, list[PublishedResult]]]) -> dict[str, tuple[Winner, ...]]:
    found: dict[str, list[Winner]] = {}
    for column, (row, results) in enumerate(shown):
        if row.kind == ORIGINAL:
            continue  # nothing was erased that could come back
        for training, result in enumerate(results):
            for picture in result.gallery.pictures:
                if picture.kind == "attack":
                    place = _place(picture.tile, result.gallery.columns)
                    winner = Winner(column, row.label, row.key, training, place, picture)
                    found.setdefault(picture.attack or "attack", []).append(winner)
    return {name: tuple(found[name]) for name in found}
