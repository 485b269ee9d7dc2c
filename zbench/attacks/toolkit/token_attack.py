"""Base of attacks that optimise free tokens against the erased transformer (`toolkit.descent`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zbench.attacks.base import Attack
from zbench.errors import AttackError

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.descent import Descent, Points
    from zbench.attacks.toolkit.free_tokens import FreeTokens, Vocabulary
    from zbench.attacks.toolkit.target_pictures import NoiseSource
    from zbench.attacks.toolkit.tokens import TemplatedPrompt

_TRIES = 100

_PART = 16
"""Steps whose points are in memory at once: they are made while the model is the original."""

TARGET_NOTES = (
    "Where the original draws nothing of the concept for a prompt, x0* shows none: read @shown.",
    "Candidates meet fresh noise; the release evaluates at the prompt's own seed. So figures after the "
    "attack are higher here, and are read against as many plain retries.",
)
"""On the card of every attack that pulls towards the prompt's picture x0*."""


@dataclass(frozen=True)
class Goal:
    """What the prompts of a batch are pulled towards.

    Attributes:
        texts: Prompt of each target picture.
        latents: x0* of each prompt, [B, C, h, w].
        noise: Where noise and times come from.
    """

    texts: list[str]
    latents: Tensor
    noise: NoiseSource


class TokenAttack(Attack):
    """One descent per batch of prompts; each candidate is where it stands after `iterations` more steps.

    So the first candidates of a larger budget are those of a smaller one.

    Attributes:
        target: Picture that the erased model is pulled towards: the original's for the attacked ``prompt``,
            or for a training prompt of the ``concept``, with which prompts without it can be attacked.
        iterations: Steps before each candidate; without any, candidates are the random tokens at the start.
        learning_rate: Of the optimiser.
        weight_decay: Of the optimiser.
    """

    target: Literal["prompt", "concept"] = "prompt"
    iterations: int = Field(default=40, ge=0)
    learning_rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)

    # What attacks fill in ---------------------------------------------------------------------------------

    @abstractmethod
    def layout(self, context: Context, prompt: str) -> TemplatedPrompt:
        """A prompt with its free places."""

    @abstractmethod
    def free_tokens(self, context: Context, vocabulary: Vocabulary, start: Tensor) -> FreeTokens:
        """The free tokens, at the random ones [B, n] that they start from."""

    @abstractmethod
    def points(self, context: Context, goal: Goal) -> Iterable[Points]:
        """Points of the next `iterations` steps; each is made while the model is the original."""

    @property
    def offers_text(self) -> bool:
        """Whether candidates are texts; otherwise embeddings, which are past all guards on prompts."""
        return True

    # The attack -------------------------------------------------------------------------------------------

    def supports(self, context: Context) -> str | None:
        """Gradients must pass through the erased model."""
        if not context.gives_gradients():
            return "the erased model gives no gradient with respect to its captions"
        return None

    def attack(self, context: Context) -> Iterator[Candidate]:
        """Descends, and offers what it has reached `budget` times."""
        from zbench.attacks.toolkit.descent import Descent
        from zbench.attacks.toolkit.effort import Effort

        effort = Effort(context.model, len(context.prompts))
        with effort.measured():
            layouts, start = self._start(context, "start")
            tokens = self.free_tokens(context, self._vocabulary(context, layouts), start)
            descent = Descent(layouts, tokens, guarded=self.offers_text)
            goal = self._goal(context)
        effort.encoded(len(goal.texts))
        told: set[int] = set()
        for number in range(1, self.budget + 1):
            with effort.measured():
                self._descend(context, descent, goal, number)
                effort.encoded(self._settle(context, descent, goal))
            effort.encoded(self.iterations * len(descent.live))
            yield from self._offers(context, descent, effort.spent, told)

    def control(self, context: Context) -> Iterator[Candidate]:
        """As many random free tokens in the same places."""
        from zbench.attacks.candidates import Candidate

        for number in range(1, self.budget + 1):
            layouts, start = self._start(context, f"control {number}")
            for prompt, payload in zip(
                context.prompts, self._drawn(context, layouts, start, number), strict=True
            ):
                yield Candidate(prompt.id, payload, f"random {number}")

    def _drawn(
        self, context: Context, layouts: list[TemplatedPrompt], start: Tensor, number: int
    ) -> list[Any]:
        """Payloads of the control; `number` counts its candidates."""
        return [layout.text(words) for layout, words in zip(layouts, start, strict=True)]

    # Parts ------------------------------------------------------------------------------------------------

    def _goal(self, context: Context) -> Goal:
        from zbench.attacks.toolkit.target_pictures import NoiseSource, target_latents, target_texts

        texts = target_texts(context, self.target)
        return Goal(texts, target_latents(context, texts), NoiseSource(context))

    def _descend(self, context: Context, descent: Descent, goal: Goal, number: int) -> None:
        points, done = iter(self.points(context, goal)), (number - 1) * self.iterations
        while part := list(islice(points, _PART)):
            with context.erased() as model:
                for here in part:
                    descent.step(model, here)
                    done += 1
                    if context.progress is not None:
                        context.progress(done, self.budget * self.iterations)

    def _settle(self, context: Context, descent: Descent, goal: Goal) -> int:
        """Chooses what is offered after a stretch of steps; returns how many texts it encoded."""
        return 0

    def _offers(self, context: Context, descent: Descent, spent: Any, told: set[int]) -> Iterator[Candidate]:
        from zbench.attacks.candidates import Candidate

        label = f"step {len(descent.losses)}"
        payloads = self._payloads(context, descent)
        for index, prompt in enumerate(context.prompts):
            if index not in descent.failures:
                yield Candidate(prompt.id, payloads[index], label, spent)
            elif index not in told:
                told.add(index)
                yield Candidate.failed(prompt.id, descent.failures[index], spent)

    def _payloads(self, context: Context, descent: Descent) -> list[Any]:
        """A candidate's payload for every prompt."""
        words = descent.tokens.answer() if descent.chosen is None else descent.chosen
        return [layout.text(row) for layout, row in zip(descent.layouts, words, strict=True)]

    def _vocabulary(self, context: Context, layouts: list[TemplatedPrompt]) -> Vocabulary:
        from zbench.attacks.toolkit.free_tokens import Vocabulary
        from zbench.attacks.toolkit.tokens import ordinary_tokens, token_table

        return Vocabulary(
            token_table(context.model),
            ordinary_tokens(context.model),
            lambda index, words: context.admissible(layouts[index].text(words)),
        )

    def _start(self, context: Context, purpose: str) -> tuple[list[TemplatedPrompt], Tensor]:
        """Layouts, and random tokens [B, n] for them; a layout with fewer places ignores the last ones."""
        import torch

        layouts = [self.layout(context, prompt.text) for prompt in context.prompts]
        width = max(sum(layout.counts) for layout in layouts)
        rows = [
            self._random(context, layout, context.generator(purpose, prompt.id), width)
            for layout, prompt in zip(layouts, context.prompts, strict=True)
        ]
        return layouts, torch.stack(rows)

    def _random(self, context: Context, layout: TemplatedPrompt, source: Any, width: int) -> Tensor:
        import torch

        from zbench.attacks.toolkit.tokens import ordinary_tokens

        allowed, count = ordinary_tokens(context.model), sum(layout.counts)
        for _ in range(_TRIES):
            words = allowed[torch.randint(len(allowed), (count,), generator=source)]
            if context.admissible(layout.text(words)):
                return torch.cat([words, words[:1].expand(width - count)])
        raise AttackError(
            "Random words around this prompt are refused again and again: see `zbench prompts`."
        )
