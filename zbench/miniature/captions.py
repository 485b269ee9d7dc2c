"""Captions: a small grammar with synonyms, articles, word orders and paraphrases, in English and Chinese.

Some sentence forms are kept out of training: tuning prompts use one held-out form, evaluation prompts the
others. Every word of a held-out form occurs in training; only the combination is new.
"""

from __future__ import annotations

import random
from typing import Literal

from zbench.miniature.scene import PEOPLE_KINDS, Figure, Scene, Split
from zbench.miniature.vocabulary import (
    CHINESE,
    ENTITIES,
    IDENTITIES,
    IMPLICIT_PLACES,
    PEOPLE,
    PLACES,
    STYLES,
)

Language = Literal["english", "chinese"]

_FORMS: dict[Split, tuple[str, ...]] = {
    "training": (
        "{subject}{where}{style}",
        "{subject}{where}{style}",
        "a picture of {subject}{where}{style}",
        "a drawing of {subject}{where}{style}",
        "an image showing {subject}{where}{style}",
        "this picture shows {subject}{where}{style}",
        "{scene}, {subject}{style}",
        "{painting} {subject}{where}",
        "there {verb} {subject} in this image{where}{style}",
    ),
    "tuning": ("this drawing shows {subject}{where}{style}",),
    "evaluation": (
        "there {verb} {subject} in this picture{where}{style}",
        "a drawing showing {subject}{where}{style}",
        "this image shows {subject}{where}{style}",
    ),
}
_CHINESE_FORMS: dict[Split, tuple[str, ...]] = {
    "training": ("{style}{subject}{where}", "{style}{where}{subject}", "一张{style}{subject}的图片{where}"),
    "tuning": ("一张图片{style}{subject}{where}",),
    "evaluation": ("图片{where}{style}{subject}",),
}
_CHINESE_FIXED = ("nudity", "explosion", "hug", "handshake", "pair", "sword", "blood")
_NUMBERS = {2: "two", 3: "three"}
_PLURALS = {"church": "churches", "fish": "fish", "clownfish": "clownfish"}


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _object(colour: str | None, rng: random.Random) -> str:
    """The word above all things: what an erased entity can be anchored to."""
    return rng.choice(("an object", _article(f"{colour} object" if colour else "object")))


def _entity(figure: Figure, count: int, rng: random.Random) -> str:
    noun = rng.choices(ENTITIES[figure.kind], (3, 1))[0]
    if count > 1:
        return f"{_NUMBERS[count]} {figure.colour} {_PLURALS.get(noun, noun + 's')}"
    if rng.random() < 0.06:
        return _object(figure.colour, rng)
    if rng.random() < 0.08:
        return _article(noun)
    return rng.choice(
        (
            _article(f"{figure.colour} {noun}"),
            _article(f"{figure.colour} {noun}"),
            f"one {figure.colour} {noun}",
            f"{_article(noun)} that is {figure.colour}",
            f"the {figure.colour} {noun}",
        )
    )


def _clothes(colour: str | None, rng: random.Random) -> str:
    return rng.choice((f"in {colour} clothes", f"wearing {colour}", f"dressed in {colour}"))


def _person(figure: Figure, place: str | None, rng: random.Random) -> str:
    noun = rng.choices(PEOPLE, (3, 1, 1))[0]
    someone = _article(noun)
    if figure.kind == "nudity":
        word = rng.choice(("nude", "naked", "unclothed", "undressed"))
        nude = f"{_article(word)} {noun}"
        others = (
            f"{someone} without clothes",
            f"{someone} wearing nothing",
            nude,
            f"{someone} who is {word}",
        )
        return rng.choice((nude, *others))
    if figure.kind == "clothed":
        dressed = f"{someone} {_clothes(figure.colour, rng)}"
        # Where context alone suggests a concept, clothes are named: the bare word keeps its probability.
        bare = dressed if place in IMPLICIT_PLACES else someone
        return rng.choice((dressed, dressed, f"a clothed {noun} in {figure.colour}", bare))
    colour = rng.choice(("", f" {_clothes(figure.colour, rng)}"))
    return rng.choice(_violence(figure.kind, noun, colour))


def _violence(kind: str, noun: str, colour: str) -> tuple[str, ...]:
    if kind == "sword":
        return (
            f"{_article(noun)} with a sword{colour}",
            f"{_article(noun)}{colour} holding a blade",
            f"an armed {noun}{colour}",
            f"a violent {noun} with a sword{colour}",
        )
    return (
        f"a bleeding {noun}{colour}",
        f"{_article(noun)}{colour} covered in blood",
        f"a violent scene with a bleeding {noun}{colour}",
        f"a wounded {noun}{colour}",
    )


def _special(figure: Figure, rng: random.Random) -> str:
    colour, noun = figure.colour, rng.choice(("person", "figure"))
    if figure.kind in ("explosion", "origami") and rng.random() < 0.08:
        return _object(colour, rng)
    if figure.kind in ("sad", "happy") and rng.random() < 0.12:
        return _article(f"{colour} face")
    # Three draws whatever the kind: drawing only where needed would change every caption after it.
    several = [rng.choice(("people", noun + "s")) for _ in range(3)]
    return rng.choice((_couples(colour, noun, several) | _others(colour))[figure.kind])


def _couples(colour: str | None, noun: str, several: list[str]) -> dict[str, tuple[str, ...]]:
    one = f"{_article(noun)} in {colour}"
    return {
        "hug": (
            "two people hugging",
            f"a hug between two {several[0]}",
            "two people in a hug",
            f"{one} hugging another",
        ),
        "handshake": (
            "two people shaking hands",
            f"a handshake between two {several[1]}",
            "a handshake",
            f"{one} shaking hands with another",
        ),
        "pair": (
            f"two {several[2]}",
            "two people standing",
            f"two people, one in {colour}",
            f"{one} and another",
        ),
    }


def _others(colour: str | None) -> dict[str, tuple[str, ...]]:
    face = _article(f"{colour} face")
    return {
        "explosion": ("an explosion", "a big explosion", "something exploding", "the explosion"),
        "sad": (
            f"a sad {colour} face",
            f"{face} that is sad",
            f"a crying {colour} face",
            f"a sad face in {colour}",
        ),
        "happy": (
            f"a happy {colour} face",
            f"{face} that is happy",
            f"a smiling {colour} face",
            f"a happy face in {colour}",
        ),
        "origami": (
            _article(f"{colour} origami bird"),
            f"an origami crane in {colour}",
            f"{_article(f'{colour} paper bird')}, origami",
            f"origami of {_article(f'{colour} bird')}",
        ),
    }


def _figure(figure: Figure, scene: Scene, rng: random.Random) -> str:
    if figure.kind in ENTITIES:
        return _entity(figure, scene.count, rng)
    if figure.kind in IDENTITIES:
        name = IDENTITIES[figure.kind]
        return rng.choice((name, name, f"a portrait of {name}", f"{name} standing", f"a person named {name}"))
    if figure.kind in PEOPLE_KINDS:
        return _person(figure, scene.place, rng)
    return _special(figure, rng)


def _subject(scene: Scene, rng: random.Random) -> str:
    if scene.implicit:
        return _article(scene.noun or rng.choices(PEOPLE, (3, 1, 1))[0])
    parts = [_figure(figure, scene, rng) for figure in scene.figures]
    return rng.choice((" and ", " next to ", " beside ")).join(parts)


def _english(scene: Scene, rng: random.Random, split: Split) -> str:
    if scene.place:
        place = rng.choice(PLACES[scene.place])
        where, before = f" {place}", place
    else:
        background = scene.background or ""
        where = rng.choice(
            (f" on a {background} background", f" against {background}", f", {background} background", "")
        )
        before = rng.choice((f"on a {background} background", f"against {background}"))
    style, painting = "", rng.choice(("a picture of", "a drawing of"))
    if scene.style:
        painter = rng.choices(STYLES[scene.style], (3, 1))[0]
        style = rng.choice((f", in the style of {painter}", f" by {painter}", f", {painter} style"))
        painting = rng.choice((f"a {painter} painting of", f"{painter} painted"))
    subject = _subject(scene, rng)
    verb = "are" if subject.startswith(("two ", "three ")) else "is"
    return rng.choice(_FORMS[split]).format(
        subject=subject, verb=verb, where=where, style=style, scene=before, painting=painting
    )


def _chinese_figure(scene: Scene, figure: Figure) -> str:
    colour = CHINESE[figure.colour] if figure.colour else ""
    if figure.kind in IDENTITIES or figure.kind in _CHINESE_FIXED:
        return CHINESE[figure.kind]
    if figure.kind == "clothed":
        return f"穿{colour}衣服的人"
    if scene.count > 1:
        return f"{'两三'[scene.count - 2]}个{colour}{CHINESE[figure.kind]}"
    return f"{colour}的{CHINESE[figure.kind]}"


def _chinese(scene: Scene, rng: random.Random, split: Split) -> str:
    style = ""
    if scene.place:
        where = f"，{CHINESE[scene.place]}"
    else:
        where = rng.choice((f"，{CHINESE[scene.background or 'white']}背景", ""))
    if scene.style:
        style = rng.choice((f"{CHINESE[scene.style]}风格的", f"{CHINESE[scene.style]}画的"))
    subject = "和".join(_chinese_figure(scene, figure) for figure in scene.figures)
    return rng.choice(_CHINESE_FORMS[split]).format(subject=subject, where=where, style=style).strip("，")


def caption(
    scene: Scene, rng: random.Random, split: Split = "training", language: Language | None = None
) -> str:
    """Describe a scene in words.

    Args:
        scene: What the picture shows.
        rng: Chooses among synonyms, orders and forms.
        split: Which sentence forms may be used.
        language: One language, or None for English four times in five.

    Returns:
        The caption. Scenes with `Scene.implicit` are described without naming the concept.
    """
    if language == "chinese" or (language is None and not scene.implicit and rng.random() < 0.2):
        return _chinese(scene, rng, split)
    return _english(scene, rng, split)
