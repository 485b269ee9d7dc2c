"""Greedy coordinate gradients on whole texts: the search of MMA-Diffusion, for several prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zbench.attacks.toolkit.free_text import FreeText, measured
from zbench.attacks.toolkit.tokens import encode_inputs, ordinary_tokens, token_table
from zbench.attacks.toolkit.wordings import other_names
from zbench.training.candidates import template_rows

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.concepts import Concept
    from zbench.model import Model

SHORTEST_PART = 3
"""Letters from which on a part of a banned word is banned too; shorter ones are parts of most words."""


def tokens_without(model: Model, concept: Concept) -> Tensor:
    """Ordinary tokens that neither hold a word of the concept's names nor are a part of one, [m]."""
    names = (*concept.phrases, *other_names(concept.name, model.spec.domain))
    banned = {word for name in names for word in name.lower().split()}
    allowed = ordinary_tokens(model)
    texts = [model.pipeline.tokenizer.decode([token]).strip().lower() for token in allowed.tolist()]
    return allowed[torch.tensor([not any(_hints_at(text, word) for word in banned) for text in texts])]


def _hints_at(text: str, word: str) -> bool:
    return word in text or (len(text) >= SHORTEST_PART and text in word)


class Similarity:
    """Cosines between the encodings of texts, part by part.

    Args:
        model: Its text encoder, without guards.
        concept: Its prompts to preserve say what captions have in common.
    """

    def __init__(self, model: Model, concept: Concept) -> None:
        self.template = template_rows(model)
        captions = model.encode(concept.preserve_prompts)
        self.common = torch.stack([self._parts(caption) for caption in captions]).mean(0)

    def _parts(self, caption: Tensor) -> Tensor:
        """Mean of the prompt's own rows, then each row of the template after them, [1 + after, D]."""
        before, after = self.template
        own = caption[before : len(caption) - after].float().mean(0, keepdim=True)
        return torch.cat([own, caption[len(caption) - after :].float()])

    def features(self, captions: Sequence[Tensor]) -> Tensor:
        """Function phi of captions [L_i, D], parts of unit length: [n, 1 + after, D]."""
        parts = torch.stack([self._parts(caption) for caption in captions])
        return functional.normalize(parts - self.common, dim=-1)


class TokenSearch:
    """The texts of several prompts on their way up.

    Attributes:
        words: The best tokens so far, [B, L].
        losses: 1 - cosine of the best text so far, [B].
        encodings: Texts encoded for each prompt.
        failures: Number of a prompt -> iteration at which its loss was not a number.
    """

    def __init__(
        self, context: Context, texts: FreeText, top_k: int, replacements: int, encode_batch: int
    ) -> None:
        """Starts at random texts.

        Args:
            context: The prompts, and where randomness comes from.
            texts: What texts are made of.
            top_k: Replacements of each place that are drawn from.
            replacements: Texts that are measured per prompt and step.
            encode_batch: Texts encoded at once.
        """
        self._texts, self._top_k = texts, min(top_k, len(texts.allowed))
        self._replacements, self._batch = replacements, encode_batch
        self._sources = [context.generator("search", prompt.id) for prompt in context.prompts]
        self._phi = Similarity(context.model, context.concept)
        self._targets = self._phi.features(context.model.encode([prompt.text for prompt in context.prompts]))
        self.words = torch.cat([texts.random(1, source) for source in self._sources])
        self.losses = torch.full((len(self.words),), torch.inf)
        self.encodings = [1.0] * len(self.words)
        self.failures: dict[int, int] = {}
        self._iteration = 0

    def text(self, index: int) -> str:
        """The best text so far of a prompt."""
        return self._texts.text(self.words[index])

    def step(self) -> None:
        """One iteration for all prompts that have not failed."""
        self._iteration += 1
        live = [index for index in range(len(self.words)) if index not in self.failures]
        if not live:
            return
        slopes = self._slopes(live)
        live = [index for index in live if index not in self.failures]
        proposed = {index: self._proposed(index, slopes[index]) for index in live}
        asked = [index for index in live if len(proposed[index])]
        if asked:
            self._keep_better(asked, [proposed[index] for index in asked])

    @torch.enable_grad()
    def _slopes(self, live: list[int]) -> dict[int, Tensor]:
        """First-order change of the loss by each allowed token in each place, [L, m] per live prompt."""
        inputs = self._texts.inputs(self.words[live]).float().requires_grad_()
        losses = self._loss(encode_inputs(self._texts.model, list(inputs)), torch.tensor(live))
        [gradient] = torch.autograd.grad(losses.sum(), inputs)
        table = token_table(self._texts.model)
        allowed = table[self._texts.allowed.to(table.device)].float()
        slopes = (gradient[:, self._texts.places.to(gradient.device)] @ allowed.T).cpu()
        for index, loss, slope in zip(live, losses.detach().tolist(), slopes, strict=True):
            self.losses[index] = loss
            self.encodings[index] += 1
            if not (torch.isfinite(slope).all() and torch.isfinite(self.losses[index])):
                self.failures[index] = self._iteration
        return dict(zip(live, slopes, strict=True))

    def _proposed(self, index: int, slopes: Tensor) -> Tensor:
        """Texts that differ from the best one in one place each, places taking turns, [n, L]."""
        source, count = self._sources[index], self._replacements
        best = slopes.topk(self._top_k, dim=1, largest=False).indices
        # Fewer replacements than places begin elsewhere each time, or some places would never change.
        places = (torch.arange(count) * len(slopes) // count + self._iteration) % len(slopes)
        ranks = torch.randint(self._top_k, (count,), generator=source)
        tokens = self._texts.allowed[best[places, ranks]]
        rows = self.words[index].repeat(count, 1).scatter(1, places[:, None], tokens[:, None])
        return rows[self._texts.admissible(rows)]

    def _keep_better(self, asked: list[int], proposed: list[Tensor]) -> None:
        def loss(rows: Tensor, owners: Tensor) -> Tensor:
            found = self._loss(list(self._texts.encode(rows)), torch.tensor(asked)[owners])
            return found.nan_to_num(nan=torch.inf).cpu()

        for index, rows, losses in zip(asked, proposed, measured(proposed, loss, self._batch), strict=True):
            self.encodings[index] += len(rows)
            best = int(losses.argmin())
            if losses[best] < self.losses[index]:
                self.words[index], self.losses[index] = rows[best], losses[best]

    def _loss(self, captions: Sequence[Tensor], owners: Tensor) -> Tensor:
        """1 - mean cosine of the parts, [n]."""
        targets = self._targets[owners.to(self._targets.device)]
        return 1 - (self._phi.features(captions) * targets).sum(-1).mean(-1)
