"""Retrace: moves a prompt's embeddings until the erased model goes where the original goes. A worked example.

    L(d) = E_t || v(x_t, E(p) + d) - v0(x_t, E(p)) ||^2,   || d_i || <= r || E_i(p) ||  for every row i

v is the erased model, v0 the original; x_t lies on v0's trajectory under the attacked prompt p, at a random
step of the sampler. d is the only thing that is optimised; its rows stay in a ball.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from zbench import training
from zbench.attacks import Attack, AttackCard, Candidate

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.attacks import Context
    from zbench.model import Model


class Retrace(Attack):
    """Follows the original's path with embeddings that no prompt has.

    Attributes:
        steps: Updates of d from one candidate to the next.
        learning_rate: Of Adam, in units of the embeddings.
        radius: r, how far a row may be moved, as a share of its length.
    """

    name: ClassVar[str] = "examples/retrace"
    card: ClassVar[AttackCard] = AttackCard(
        title="Retrace (worked example)",
        paper="none: an example of how to write an attack",
        arxiv="",
        knowledge="model",
        control="random embeddings as far away as the attack may go, as often",
        notes=("The payload is embeddings: a guard that reads prompts does not see it.",),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "miniature": {"steps": 10, "learning_rate": 0.05, "budget": 4}
    }

    steps: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    radius: float = Field(default=0.5, gt=0)

    def supports(self, context: Context) -> str | None:
        """An edit that cannot be differentiated leaves nothing to follow."""
        return None if context.gives_gradients() else "the erased model gives no gradients"

    def attack(self, context: Context) -> Iterator[Candidate]:
        """Snapshots of one optimisation for each prompt."""
        from zbench.attacks.toolkit.effort import Effort

        effort = Effort(context.model, len(context.prompts))
        with effort.measured():
            search = Search(self, context)
        effort.encoded(2 * len(context.prompts))
        for number in range(1, self.budget + 1):
            with effort.measured(), context.erased() as model:
                broken = search.advance(model)
            for prompt in context.prompts:
                if prompt.id in broken:
                    yield Candidate.failed(prompt.id, "the loss is not a number", effort.spent)
                elif prompt.id in search.offsets:
                    label = f"step {number * self.steps}"
                    yield Candidate(prompt.id, search.payload(prompt.id), label, effort.spent)

    def control(self, context: Context) -> Iterator[Candidate]:
        """Random embeddings at the full distance, as many."""
        from zbench.attacks.toolkit.directions import random_like

        for prompt in context.prompts:
            with context.erased() as model:
                [caption] = model.encode([prompt.text])
            source = context.generator("control", prompt.id)
            for number in range(1, self.budget + 1):
                moved = caption + random_like(self.radius * caption, source)
                yield Candidate(prompt.id, moved, label=f"random {number}")


class Search:
    """The offsets d of all prompts of a batch, each with its own random numbers and its own loss."""

    def __init__(self, attack: Retrace, context: Context) -> None:
        import torch

        self.attack, self.ids = attack, [prompt.id for prompt in context.prompts]
        texts = [prompt.text for prompt in context.prompts]
        seeds = [context.seed("path", name) for name in self.ids]
        self.paths = training.TrajectoryBank.sample(context.model, texts, seeds, batch_size=len(texts))
        with context.erased() as model:
            self.captions = dict(zip(self.ids, model.encode(texts), strict=True))
        self.sources = {name: context.generator("points", name) for name in self.ids}
        self.offsets = {name: torch.zeros_like(each).requires_grad_() for name, each in self.captions.items()}
        self.optimiser = torch.optim.Adam(self.offsets.values(), lr=attack.learning_rate)

    def payload(self, name: str) -> Tensor:
        """E(p) + d of one prompt, as it is now."""
        return (self.captions[name] + self.offsets[name]).detach()

    def advance(self, model: Model) -> set[str]:
        """Takes the steps up to the next candidate; names prompts whose loss became no number."""
        broken: set[str] = set()
        for _ in range(self.attack.steps):
            broken |= self.step(model)
        return broken

    def step(self, model: Model) -> set[str]:
        """One update of every d that is left."""
        import torch

        self.optimiser.zero_grad()
        with torch.enable_grad():
            losses = self.losses(model)
            training.backward(sum(losses.values(), torch.zeros(())))
        self.optimiser.step()
        broken = {name for name, loss in losses.items() if not loss.isfinite()}
        self.offsets = {name: offset for name, offset in self.offsets.items() if name not in broken}
        for name, offset in self.offsets.items():
            shorten(offset, self.attack.radius * self.captions[name])
        return broken

    def losses(self, model: Model) -> dict[str, Tensor]:
        """|| v(x_t, E(p) + d) - v0(x_t, E(p)) ||^2 of each prompt, at a step of its own choice."""
        import torch

        if not self.offsets:
            return {}
        steps = [
            torch.randint(len(self.paths.timesteps), (), generator=self.sources[name])
            for name in self.offsets
        ]
        entries = [self.ids.index(name) for name in self.offsets]
        draw = self.paths.at(torch.tensor(entries), torch.stack(steps))
        moved = [self.captions[name] + offset for name, offset in self.offsets.items()]
        velocity = model.velocity(draw.latents, draw.timesteps, moved)
        squares = (velocity - draw.velocities).square().flatten(1).mean(1)
        return dict(zip(self.offsets, squares, strict=True))


def shorten(offset: Tensor, longest: Tensor) -> None:
    """Puts rows of an offset [L, D] back into the ball, in place: no longer than the rows of `longest`."""
    import torch

    with torch.no_grad():
        lengths = offset.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        offset.mul_((longest.norm(dim=-1, keepdim=True) / lengths).clamp_max(1.0))
