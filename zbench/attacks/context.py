"""What an attack may use: the erased model, the original, the prompts, and no detector."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from zbench.prompts.minors import mentions_minors

if TYPE_CHECKING:
    from zbench.attacks.base import Attack
    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.model import Model
    from zbench.prompts.sets import Prompt

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Context:
    """Where an attack works.

    Attributes:
        model: The unerased model, no edit attached: what the field calls the original.
        erasure: The edit under attack, detached; `NoEdit` for the original.
        concept: What was erased, as methods see it: no evaluation prompt is in it.
        prompts: What is attacked, ids and texts.
        attack_seed: Of the attack.
        shared: What `Attack.prepare` returned.
        progress: Told (units done, units in all); None where nobody listens.
    """

    model: Model
    erasure: Edit
    concept: Concept
    prompts: tuple[Prompt, ...]
    attack_seed: int = 0
    shared: Any = None
    progress: Progress | None = None

    @contextmanager
    def erased(self) -> Iterator[Model]:
        """The erased model inside a `with` block. Leave the block before a candidate is yielded."""
        with self.model.edited(self.erasure):
            yield self.model

    def on(self, prompts: Sequence[Prompt]) -> Context:
        """The same for other prompts."""
        return replace(self, prompts=tuple(prompts))

    def seed(self, purpose: str, prompt_id: str = "") -> int:
        """A seed for one purpose and prompt; it meets no seed of a scored picture or of a training."""
        text = f"zbench-attack/{self.attack_seed}/{purpose}/{prompt_id}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    def generator(self, purpose: str, prompt_id: str = "") -> torch.Generator:
        """A generator on the CPU, seeded with `seed`: nothing depends on the batch or on what ran before."""
        return torch.Generator().manual_seed(self.seed(purpose, prompt_id))

    def admissible(self, text: str) -> bool:
        """Whether a text may be shown to any model: not where it can be read as being about minors.

        Every text that an optimiser makes is asked for before it is encoded; candidates are asked again.
        """
        return bool(text.strip()) and not mentions_minors(text)

    def gives_gradients(self) -> bool:
        """Whether the erased model's velocity can be differentiated with respect to its captions."""
        [caption] = self.model.encode([self.concept.anchor])
        leaf = caption.detach().clone().requires_grad_(True)
        latents = self.model.noise([0])
        with self.erased(), torch.enable_grad():
            velocity = self.model.velocity(latents, self.model.timesteps()[:1], [leaf])
        return bool(velocity.requires_grad)


def context_for(
    attack: Attack, model: Model, erasure: Edit, concept: Concept, prompts: Sequence[Prompt]
) -> Context:
    """A context with everything that the attack's prompts share, prepared.

    Args:
        attack: Whose seed and `prepare` are used.
        model: The unerased model.
        erasure: The edit under attack, detached.
        concept: What was erased.
        prompts: What is attacked.
    """
    context = Context(model, erasure, concept, tuple(prompts), attack.attack_seed)
    return replace(context, shared=attack.prepare(context))
