"""The gallery of a cell: small pictures as the tiles of one WebP file.

All cells of a concept show the same plain pictures in the same order, chosen by the order of the prompt sets
alone; then come pictures that an attack brought about. What a repository must not hold is unrecognisable.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zbench.protocols import CONCEPT_ROLES, ROLES
from zbench.results.schema import Gallery, ShownPicture
from zbench.stages.thumbnails import candidate_pictures, shown_picture
from zbench.store import read_json, sha256_bytes

if TYPE_CHECKING:
    from PIL import Image as Images

    from zbench.metrics.robustness import AttackRecord, Outcomes
    from zbench.runner.specs import CellResult

Flagged = Literal["hide", "keep"]

SHOWN_OF_ROLE = {"explicit": 4, "implicit": 2, "unrelated": 4}
"""Plain pictures of a role in the gallery."""

SHOWN_OF_OTHERS = 1

WINNERS = 2
"""Pictures of an attack in the gallery at most."""

SMALL, LARGE = 64, 128
"""Sides of a tile in pixels: of pictures that are themselves this small, and of larger ones."""

_QUALITY = 72
_BLOCKS = 4
"""A hidden picture is so many squares of one colour wide and high."""


@dataclass(frozen=True)
class Tile:
    """A picture of the gallery and the file it is made from.

    Attributes:
        path: The file.
        sample: As its manifest describes it.
        flagged: Whether the concept was found in it.
        attack: Label of the attack; None for a plain picture.
        attack_prompt: What the attack asked; None where that is no text or may not be shown.
    """

    path: Path
    sample: Mapping[str, Any]
    flagged: bool
    attack: str | None = None
    attack_prompt: str | None = None


@dataclass(frozen=True)
class Rules:
    """What may be shown.

    Attributes:
        delicate: Whether pictures of the concept may not be published as they are.
        flagged: Whether such pictures are made unrecognisable all the same.
        wordings: (prompt set, prompt id) -> wording, of the prompts whose wording may be published.
    """

    delicate: bool
    flagged: Flagged
    wordings: Mapping[tuple[str, str], str]

    def hides(self, tile: Tile) -> bool:
        """Whether a tile must be unrecognisable: a detector misses some, so that all of its roles are."""
        shows = tile.flagged or tile.attack is not None or tile.sample["role"] in CONCEPT_ROLES
        return self.delicate and self.flagged == "hide" and shows

    def wording(self, tile: Tile) -> str | None:
        """The wording of a tile's prompt, None where it may not be shown."""
        return self.wordings.get((tile.sample["prompt_set"], tile.sample["prompt_id"]))


# Which pictures -------------------------------------------------------------------------------------------


def plain_tiles(
    samples: Mapping[str, Sequence[tuple[Mapping[str, Any], Path]]], found: Mapping[Any, bool]
) -> list[Tile]:
    """The first pictures of every role.

    Args:
        samples: Role -> pictures in order, as their manifests describe them, with their files.
        found: (prompt set, prompt id, repetition) of every scored picture -> whether the concept was found.
    """
    tiles = []
    for role in ROLES:
        scored = [
            each for each in samples.get(role, ()) if not each[0]["repetition"] and _key(each[0]) in found
        ]
        number = SHOWN_OF_ROLE.get(role, SHOWN_OF_OTHERS)
        tiles += [Tile(path, sample, found[_key(sample)]) for sample, path in scored[:number]]
    return tiles


def _key(sample: Mapping[str, Any]) -> tuple[str, str, int]:
    return sample["prompt_set"], sample["prompt_id"], sample["repetition"]


def attack_tiles(record: AttackRecord, outcomes: Outcomes, root: Path, flagged_texts: bool) -> list[Tile]:
    """The first success of an attack in each of the first prompts that it newly broke.

    Args:
        record: What the attack found.
        outcomes: Everything that was judged.
        root: Run folder.
        flagged_texts: Whether its texts are kept apart, unshown.
    """
    winners = list(_winners(outcomes))[:WINNERS]
    texts = {} if flagged_texts or not winners else _texts(record, root)
    lying = _lying(record, root) if winners else {}
    tiles = []
    for prompt_id, k in winners:
        if (prompt_id, k) in lying:
            sample, path = lying[prompt_id, k]
            is_text = texts.get((prompt_id, k), False)
            tiles.append(Tile(path, sample, True, record.label, sample["prompt"] if is_text else None))
    return tiles


def _winners(outcomes: Outcomes) -> Iterator[tuple[str, int]]:
    first: dict[str, int] = {}
    for row in outcomes.rows:
        if row.arm == "attack" and row.hit:
            first[row.prompt_id] = min(row.k, first.get(row.prompt_id, row.k))
    for prompt in outcomes.prompts:
        if not prompt.plain_hit and prompt.prompt_id in first:
            yield prompt.prompt_id, first[prompt.prompt_id]


def _texts(record: AttackRecord, root: Path) -> dict[tuple[str, int], bool]:
    """(prompt id, k) of the attack's candidates -> whether they are texts."""
    found = {}
    for stage, place in record.stages.items():
        if stage.startswith("candidates"):
            for row in read_json(root / place / "candidates.json")["candidates"]:
                if row["arm"] == "attack" and row["prompt_id"] is not None:
                    found[row["prompt_id"], row["k"]] = row["kind"] == "text"
    return found


def _lying(record: AttackRecord, root: Path) -> dict[tuple[str, int], tuple[dict[str, Any], Path]]:
    """(prompt id, k) -> picture of a candidate; one that was the prompt itself lies with the retries."""
    found: dict[tuple[str, int], tuple[bool, dict[str, Any], Path]] = {}
    for stage, sample, path in candidate_pictures(record, root):
        own, key = stage.startswith("pictures attack"), (sample["prompt_id"], sample["repetition"])
        if own or (stage.startswith("pictures retries") and key not in found):
            found[key] = (own, sample, path)
    return {key: (sample, path) for key, (_, sample, path) in found.items()}


# How they are shown ---------------------------------------------------------------------------------------


def gallery_of(tiles: Sequence[Tile], rules: Rules, size: tuple[int, int]) -> tuple[Gallery, bytes | None]:
    """The gallery, and its WebP file; None where there are no pictures.

    Args:
        tiles: Plain ones first.
        rules: What may be shown.
        size: (height, width) of the pictures that were scored.
    """
    side = SMALL if max(size) <= SMALL else LARGE
    if not tiles:
        return Gallery(side=side), None
    sprite = draw_sprite([(tile.path, rules.hides(tile)) for tile in tiles], side, Gallery().columns)
    pictures = tuple(_shown(number, tile, rules) for number, tile in enumerate(tiles))
    return Gallery(side=side, sha256=sha256_bytes(sprite), pictures=pictures), sprite


def _shown(number: int, tile: Tile, rules: Rules) -> ShownPicture:
    sample, wording = tile.sample, rules.wording(tile)
    return ShownPicture(
        tile=number,
        kind="plain" if tile.attack is None else "attack",
        role=sample["role"],
        prompt_id=sample["prompt_id"],
        repetition=sample["repetition"],
        seed=sample["seed"],
        prompt=wording,
        sha256=sample["sha256"],
        flagged=tile.flagged,
        hidden=rules.hides(tile),
        attack=tile.attack,
        attack_prompt=None if wording is None else tile.attack_prompt,
    )


def draw_sprite(pictures: Sequence[tuple[Path, bool]], side: int, columns: int) -> bytes:
    """Draws tiles in rows.

    Args:
        pictures: Files, each with whether it is to be unrecognisable.
        side: Height and width of a tile in pixels.
        columns: Tiles in a row.

    Returns:
        WebP, the same bytes for the same pictures and the same version of the library.
    """
    from PIL import Image

    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (side * min(columns, len(pictures)), side * rows), "white")
    for number, (path, hidden) in enumerate(pictures):
        with Image.open(path) as picture:
            tile = _hidden(picture, side) if hidden else _fitted(picture, side)
        sheet.paste(tile, (number % columns * side, number // columns * side))
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=_QUALITY, method=6)
    return buffer.getvalue()


def _fitted(picture: Images.Image, side: int) -> Images.Image:
    """A picture in the middle of a square."""
    from PIL import Image

    from zbench.stages.thumbnails import fitted

    square, small = Image.new("RGB", (side, side), "white"), fitted(picture, side)
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def _hidden(picture: Images.Image, side: int) -> Images.Image:
    """A few squares of one colour each: nothing can be made out, and nothing can be made of it again."""
    from PIL import Image

    few = picture.convert("RGB").resize((_BLOCKS, _BLOCKS), Image.Resampling.BOX)
    return few.resize((side, side), Image.Resampling.NEAREST)


def pictures_of(result: CellResult, root: Path) -> dict[str, list[tuple[dict[str, Any], Path]]]:
    """Role -> the cell's own pictures in order, as their manifests describe them, with their files."""
    found = {}
    for stage, place in result.stages.items():
        if stage.startswith("pictures "):
            samples = read_json(root / place / "manifest.json")["samples"]
            role = stage.removeprefix("pictures ")
            found[role] = [(sample, shown_picture(root / place, n)) for n, sample in enumerate(samples)]
    return found
