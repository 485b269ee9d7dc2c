"""What the tests of attacks that descend through the erased transformer share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.transcription import CONCEPT, perturb
from zbench.attacks import Candidate, Context, context_for
from zbench.attacks.toolkit.descent import Descent, Points
from zbench.attacks.toolkit.token_attack import TokenAttack
from zbench.edits import Edit, LoraEdit
from zbench.model import Model
from zbench.prompts.sets import Prompt

TEXTS = (
    "a nude person on a beach",
    "一个裸体的人在海滩上",
    "a red car beside a house, the golden gate bridge",
)
PROMPTS = tuple(Prompt(id=f"test-{number}", text=text) for number, text in enumerate(TEXTS))


def erasure(model: Model, seed: int = 5) -> LoraEdit:
    """Changed weights that are nobody's erasure: others for every seed."""
    edit = LoraEdit(rank=2)
    with model.edited(edit):
        perturb(edit, seed)
    return edit


class Recorded(Descent):
    """Keeps every descent, with what it was shown and which words it tried."""

    runs: list[Recorded]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shown: list[Points] = []
        self.tried: list[Tensor] = []
        type(self).runs.append(self)

    def step(self, model: Model, points: Points) -> None:
        super().step(model, points)
        self.shown.append(points)
        self.tried.append(self.tokens.words.clone())


@pytest.fixture
def descents(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The descents of the attacks that are made in a test."""
    Recorded.runs = []
    monkeypatch.setattr("zbench.attacks.toolkit.descent.Descent", Recorded)
    return Recorded.runs


def context_of(attack: TokenAttack, model: Model, edit: Edit, prompts: Sequence[Prompt] = PROMPTS) -> Context:
    return context_for(attack, model, edit, CONCEPT, prompts)


def candidates(
    attack: TokenAttack, model: Model, edit: Edit, prompts: Sequence[Prompt] = PROMPTS
) -> list[Candidate]:
    return list(attack.attack(context_of(attack, model, edit, prompts)))


def payloads(found: Sequence[Candidate], prompt: Prompt) -> list[Any]:
    return [candidate.payload for candidate in found if candidate.prompt_id == prompt.id]


def clean_latents(attack: TokenAttack, context: Context) -> Tensor:
    """x0* of every prompt by the sampler of `Model`, one at a time."""
    model, finished = context.model, []
    for prompt in context.prompts:
        run = model.trajectory(model.encode([prompt.text]), [context.seed("target", prompt.id)])
        finished.append(run.latents[-1, 0])
    return torch.stack(finished)


def assert_untouched(model: Model, work: Callable[[], object]) -> None:
    """Weights, edits, hooks, gradients and the global random state are as they were."""
    networks = list(model.networks().values())

    def traces() -> list[object]:
        modules = [module for network in networks for module in network.modules()]
        return [
            model.fingerprint(("transformer", "text_encoder", "vae")),
            [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules],
            [p.requires_grad or p.grad is not None for network in networks for p in network.parameters()],
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
            list(model.edits),
            list(model.conditioning),
        ]

    model.encode(["warm"])  # a text encoder puts hooks of its own in when it is first called
    before = traces()
    work()
    assert traces() == before
