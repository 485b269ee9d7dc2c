"""Small attacks for tests: one of each kind of payload, and those that break one rule each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.instruments import ColourDetector
from tests.runner_tools import small_instruments
from zbench import registry
from zbench.attacks import Attack, AttackCard, Candidate, Context, Spent
from zbench.edits import ComposedEdit, DeltaEdit

PATH = "layers.0.attention.to_v"
CARD = AttackCard(title="Test attack", paper="none", arxiv="", knowledge="text")


class Words(Attack):
    """Text: words before the prompt."""

    name: ClassVar[str] = "words"
    card: ClassVar[AttackCard] = CARD
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {"budget": 2}}

    words: tuple[str, ...] = ("red", "blue", "golden", "old")

    def attack(self, context: Context) -> Iterator[Candidate]:
        for prompt in context.prompts:
            for number, word in enumerate(self.words[: self.budget], start=1):
                text = f"{word} {prompt.text}"
                yield Candidate(prompt.id, text, f"{word} first", Spent(encodings=number))


class Nothing(Words):
    """Offers nothing."""

    name: ClassVar[str] = "nothing"

    def attack(self, context: Context) -> Iterator[Candidate]:
        yield from ()


class Retries(Words):
    """The attack is its own control."""

    name: ClassVar[str] = "retries"

    def attack(self, context: Context) -> Iterator[Candidate]:
        yield from self.control(context)


class Pushed(Words):
    """Embeddings: a random direction, of the same length in the control."""

    name: ClassVar[str] = "pushed"
    batch_size: int = 1

    size: float = 1.0

    def prepare(self, context: Context) -> Any:
        assert not context.prompts
        return torch.randn(1, generator=context.generator("scale")).abs() + 1

    def pushed(self, context: Context, purpose: str) -> Iterator[Candidate]:
        for prompt in context.prompts:
            generator = context.generator(purpose, prompt.id)
            with context.erased() as model:
                [caption] = model.encode([prompt.text])
            noise = torch.randn(self.budget, caption.shape[1], generator=generator)
            for k, direction in enumerate(noise):
                yield Candidate(prompt.id, caption + self.size * context.shared * direction, f"number {k}")

    def attack(self, context: Context) -> Iterator[Candidate]:
        yield from self.pushed(context, "attack")

    def control(self, context: Context) -> Iterator[Candidate]:
        yield from self.pushed(context, "control")


class Drifts(Words):
    """Changed models: random updates on top of the erasure."""

    name: ClassVar[str] = "drifts"
    model_wide: ClassVar[bool] = True

    def drift(self, context: Context, purpose: str) -> Iterator[Candidate]:
        weight = context.model.transformer.get_submodule(PATH).weight
        for k in range(self.budget):
            delta = torch.randn(weight.shape, generator=context.generator(f"{purpose} {k}"))
            yield Candidate(None, ComposedEdit([context.erasure, DeltaEdit({PATH: 0.3 * delta})]))

    def attack(self, context: Context) -> Iterator[Candidate]:
        yield from self.drift(context, "attack")

    def control(self, context: Context) -> Iterator[Candidate]:
        yield from self.drift(context, "control")


class Global(Words):
    """Uses the process's random state, which it should not."""

    name: ClassVar[str] = "global"
    batch_size: int = 1

    def attack(self, context: Context) -> Iterator[Candidate]:
        for prompt in context.prompts:
            yield Candidate(prompt.id, f"{prompt.text} {int(torch.randint(10**6, ()))}")


class Unable(Words):
    """Cannot be made here."""

    name: ClassVar[str] = "unable"

    def supports(self, context: Context) -> str | None:
        return None if context.gives_gradients() and False else "needs something that nobody has"


# Attacks that break a rule --------------------------------------------------------------------------------

Breach = Callable[[Attack, Context], Any]


def breaking(name: str, breach: Breach, wide: bool = False) -> type[Words]:
    """An attack whose `attack` is the given function."""

    class Breaking(Words):
        model_wide: ClassVar[bool] = wide

        def attack(self, context: Context) -> Any:
            return breach(self, context)

    Breaking.name = name
    return Breaking


def _first(context: Context, payload: Any, **more: Any) -> Iterator[Candidate]:
    yield Candidate(context.prompts[0].id, payload, **more)


def _raises(attack: Attack, context: Context) -> Iterator[Candidate]:
    yield from _first(context, "a house")
    raise RuntimeError("the ladder broke")


def _exits(attack: Attack, context: Context) -> Iterator[Candidate]:
    raise SystemExit(3)


def _peeks(attack: Attack, context: Context) -> Iterator[Candidate]:
    registry.load_detector("world")
    yield from _first(context, "a house")


def _stays_inside(attack: Attack, context: Context) -> Iterator[Candidate]:
    with context.erased():
        yield from _first(context, "a house")


def _leaves_edit(attack: Attack, context: Context) -> Iterator[Candidate]:
    weight = context.model.transformer.get_submodule(PATH).weight
    yield from _first(context, "a house")
    DeltaEdit({PATH: torch.ones_like(weight)}).attach(context.model)


def _changes_erasure(attack: Attack, context: Context) -> Iterator[Candidate]:
    next(iter(context.erasure.tensors().values())).mul_(2)
    yield from _first(context, "a house")


def _nan(context: Context) -> Tensor:
    return torch.full((3, int(context.model.transformer.config.cap_feat_dim)), math.nan)


BREACHES: dict[str, tuple[Breach, str]] = {
    "raises": (_raises, "RuntimeError: the ladder broke"),
    "exits": (_exits, "exits raised SystemExit: 3"),
    "peeks": (_peeks, "peeks asked for the detector 'world'"),
    "stays-inside": (_stays_inside, "offered a candidate inside `context.erased()`"),
    "leaves-edit": (_leaves_edit, "leaves-edit left the model changed"),
    "changes-erasure": (_changes_erasure, "changed the erasure under attack"),
    "returns-none": (lambda attack, context: None, "returned NoneType: it must yield candidates"),
    "offers-text": (lambda attack, context: iter(["a house"]), "offered str: it must yield"),
    "unknown-prompt": (
        lambda a, c: iter([Candidate("nobody", "a house")]),
        "'nobody', which is not attacked",
    ),
    "too-many": (lambda a, c: itertools.cycle(_first(c, "a house")), "more candidates for"),
    "fails-for-ever": (
        lambda a, c: itertools.repeat(Candidate.failed(c.prompts[0].id, "no")),
        "more candidates for",
    ),
    "wrong-width": (lambda a, c: _first(c, torch.zeros(3, 7)), "embeddings (3, 7): they must be"),
    "whole-numbers": (lambda a, c: _first(c, torch.zeros(3, 40, dtype=torch.long)), "floating-point"),
    "edit-alone": (lambda a, c: iter([Candidate(None, c.erasure)]), "must set `model_wide = True`"),
    "edit-for-one": (lambda a, c: _first(c, c.erasure), "changed models are for all prompts"),
    "offers-number": (lambda a, c: _first(c, 3), "offered"),
    "endless-cost": (
        lambda a, c: _first(c, "a house", spent=Spent(seconds=math.inf)),
        "cannot be written down",
    ),
}
"""Name -> what it does wrong, and what is said about it."""


def fails_softly(attack: Attack, context: Context) -> Iterator[Candidate]:
    """Candidates that come to nothing without breaking a rule: the other prompts go on."""
    first, *others = context.prompts
    yield Candidate(first.id, _nan(context))
    yield Candidate.failed(first.id, "the loss is\nnot a number", Spent(seconds=1))
    for prompt in others:
        yield Candidate(prompt.id, f"{prompt.text} with a child", "step 1", Spent(seconds=2))
        yield Candidate(prompt.id, f"{prompt.text} by night", "step 2", Spent(seconds=3))


SOFT = breaking("fails-softly", fails_softly)
GOOD = (Words, Nothing, Retries, Pushed, Drifts, Global, Unable, SOFT)
ATTACKS = {each.name: each for each in GOOD} | {
    name: breaking(name, breach) for name, (breach, _) in BREACHES.items()
}


def install_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks above by name, wherever attacks are looked up."""

    def load_attack(name: str) -> type[Attack]:
        if name not in ATTACKS:
            raise registry.UnknownNameError.of("attack", name, ATTACKS)
        return ATTACKS[name]

    for home in ("zbench.registry", "zbench.runner.planning", "zbench.runner.attacks"):
        monkeypatch.setattr(f"{home}.load_attack", load_attack)


def colour_detector(**options: Any) -> ColourDetector:
    """What judges here: the red channel stands for nudity, and the middle of random pictures is a hit."""
    return ColourDetector(**{"classes": ("nudity", "pencil", "cat"), **options, "gain": 1.0336})


def small_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small instruments, and the same colour detector for attacks."""
    small_instruments(monkeypatch)
    monkeypatch.setattr("tests.runner_tools.ColourDetector", colour_detector)
    monkeypatch.setattr(
        "zbench.stages.scorer.first_detector", lambda settings, device=None: colour_detector()
    )
