"""Gradient descent on free tokens through text encoder, guards and erased transformer, many prompts at once.

    L_i = mean over points (x, t, u) of prompt i of || v(x, t, c_i) - u ||^2

c_i is the prompt's caption with its free tokens. The losses are summed over prompts, so that each prompt's
tokens get the gradient of its own loss and of no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zbench.attacks.toolkit.free_tokens import FreeTokens
from zbench.attacks.toolkit.tokens import TemplatedPrompt, encode_inputs, through_guards, token_table
from zbench.model import Model


@dataclass(frozen=True)
class Points:
    """Where the erased model is asked, and what it ought to say, for B prompts at S points each.

    Attributes:
        latents: x, [B, S, C, h, w].
        timesteps: t in (0, 1000], [B, S].
        wanted: u, [B, S, C, h, w].
    """

    latents: Tensor
    timesteps: Tensor
    wanted: Tensor


class Descent:
    """Free tokens on their way down.

    Attributes:
        tokens: The free tokens.
        layouts: The prompts with their free places.
        losses: [B] of every step so far; not a number for prompts that have failed.
        failures: Number of a prompt -> why it is no longer optimised.
        chosen: What `choose` has found best, [B, n]; None where it was not asked.
    """

    def __init__(self, layouts: Sequence[TemplatedPrompt], tokens: FreeTokens, guarded: bool) -> None:
        """Starts at step 0.

        Args:
            layouts: One per prompt, each with at least one free place.
            tokens: Free tokens for all of them.
            guarded: Whether captions pass the edits on the conditioning seam.
        """
        self.layouts, self.tokens, self._guarded = list(layouts), tokens, guarded
        self.losses: list[Tensor] = []
        self.failures: dict[int, str] = {}
        self.chosen: Tensor | None = None
        self._tried: list[Tensor] = []

    @property
    def live(self) -> list[int]:
        """Numbers of the prompts that have not failed."""
        return [index for index in range(len(self.layouts)) if index not in self.failures]

    def step(self, model: Model, points: Points) -> None:
        """One step for all live prompts: one call of the text encoder and one of the transformer.

        Args:
            model: The erased model.
            points: For all prompts, failed ones included.
        """
        live = self.live
        if not live:
            return
        rows = self.tokens.rows().requires_grad_()
        with torch.enable_grad():
            losses = self._losses(model, rows, self.tokens.words, live, points)
            [gradient] = torch.autograd.grad(losses.sum(), rows)
        self._tried.append(self.tokens.words.clone())
        self._note(live, losses.detach(), gradient)
        gradient[list(self.failures)] = 0
        self.tokens.follow(gradient)

    def choose(self, model: Model, points: Sequence[Points], shortlist: int) -> int:
        """Compares rows of words on the same points, and keeps each prompt's best as `chosen`.

        Args:
            model: The erased model.
            points: Where they are compared, for all prompts.
            shortlist: Rows tried so far that are compared, those of least loss; so is the tokens' answer.

        Returns:
            Texts that were encoded.
        """
        live, steps = self.live, torch.stack(self.losses).nan_to_num(nan=torch.inf)
        order = steps.argsort(dim=0, stable=True)[:shortlist]
        tried = torch.stack(self._tried)
        numbers = torch.arange(tried.shape[1])
        rivals = [self.tokens.answer(), *(tried[row, numbers] for row in order)]
        found = torch.stack([self._compared(model, words, live, points) for words in rivals])
        best = torch.zeros(tried.shape[1], dtype=torch.long)
        best[live] = found.nan_to_num(nan=torch.inf).argmin(dim=0).cpu()
        self.chosen = torch.stack(rivals)[best, numbers]
        return len(rivals) * len(points) * len(live)

    @torch.no_grad()
    def _compared(self, model: Model, words: Tensor, live: list[int], points: Sequence[Points]) -> Tensor:
        """Mean loss of live prompts with these words, [live]."""
        table = token_table(model)
        rows = table[words.to(table.device)].float()
        return torch.stack([self._losses(model, rows, words, live, each) for each in points]).mean(0)

    def _captions(self, model: Model, rows: Tensor, words: Tensor, live: Sequence[int]) -> list[Tensor]:
        """Captions [L_i, D] of live prompts with these rows [B, n, d] in their free places.

        Guards, which read texts, are shown these words [B, n] there.
        """
        captions = encode_inputs(model, [self.layouts[index].inputs(rows[index]) for index in live])
        if not (self._guarded and model.conditioning):
            return captions
        texts = [self.layouts[index].text(words[index]) for index in live]
        return through_guards(model, captions, texts)

    def _losses(
        self, model: Model, rows: Tensor, words: Tensor, live: Sequence[int], points: Points
    ) -> Tensor:
        """L_i of live prompts."""
        shown = points.latents[live]
        captions = self._captions(model, rows, words, live)
        captions = [caption for caption in captions for _ in range(shown.shape[1])]
        said = model.velocity(shown.flatten(0, 1), points.timesteps[live].flatten(), captions)
        return (said.view(shown.shape) - points.wanted[live]).square().flatten(1).mean(1)

    def _note(self, live: list[int], losses: Tensor, gradient: Tensor) -> None:
        noted = torch.full((len(self.layouts),), torch.nan)
        noted[live] = losses.float().cpu()
        self.losses.append(noted)
        finite = gradient.isfinite().flatten(1).all(1).cpu() & noted.isfinite()
        for index in live:
            if not finite[index]:
                why = f"the loss or its gradient is not a number at step {len(self.losses)}"
                self.failures[index] = why
