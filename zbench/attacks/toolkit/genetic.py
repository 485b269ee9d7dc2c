"""The genetic search of Ring-A-Bell: many individuals of many prompts in one pass of the text encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zbench.attacks.toolkit.free_text import FreeText, measured


class Search:
    """The population of one prompt.

    Args:
        words: What individuals are made of.
        target: What their encoding shall be, [L, D].
        source: The only source of randomness.
        population: Individuals of the first generation; half as many survive each.
        crossover: Probability that a survivor is crossed with another one.
        mutation: Probability that an offspring has a token replaced.

    Attributes:
        survivors: Admissible individuals with a finite error, the best first, [n, K].
        errors: Their errors, [n], rising.
    """

    def __init__(
        self,
        words: FreeText,
        target: Tensor,
        source: torch.Generator,
        *,
        population: int,
        crossover: float,
        mutation: float,
    ) -> None:
        self.words, self.target, self._source = words, target, source
        self._kept, self._crossover, self._mutation = population // 2, crossover, mutation
        self.survivors = torch.empty(0, words.length, dtype=torch.long)
        self.errors = torch.empty(0)
        self._first = words.random(population, source)

    def offspring(self) -> Tensor:
        """New individuals [n, K] that may be encoded: the first generation, then children and mutants."""
        made = self._children() if len(self.survivors) else self._first
        return made[self.words.admissible(made)]

    def _children(self) -> Tensor:
        parents = self.survivors
        count, length = parents.shape
        mates = parents[torch.randint(count, (count,), generator=self._source)]
        places = torch.randint(1, length, (count, 1), generator=self._source)
        head = torch.arange(length) < places
        crossed = torch.rand(count, generator=self._source) < self._crossover
        pair = (torch.where(head, parents, mates)[crossed], torch.where(head, mates, parents)[crossed])
        return self._mutated(torch.cat([*pair, parents]), copies=count)

    def _mutated(self, young: Tensor, copies: int) -> Tensor:
        """Replaces tokens; of the last `copies` rows, which are parents, only what has mutated is new."""
        count, length = young.shape
        hit = torch.rand(count, generator=self._source) < self._mutation
        places = torch.randint(length, (count,), generator=self._source)
        tokens = self.words.pick(count, self._source)
        changed = young.scatter(1, places[:, None], tokens[:, None])
        new = hit | (torch.arange(count) < count - copies)
        return torch.where(hit[:, None], changed, young)[new]

    def select(self, young: Tensor, errors: Tensor) -> None:
        """Keeps the better half of survivors and offspring; what has no finite error dies."""
        rows, values = torch.cat([self.survivors, young]), torch.cat([self.errors, errors])
        order = values.argsort(stable=True)
        order = order[values[order].isfinite()][: self._kept]
        self.survivors, self.errors = rows[order], values[order]

    @property
    def text(self) -> str:
        """The best individual."""
        return self.words.text(self.survivors[0])


def advance(searches: Sequence[Search], generations: int, batch: int) -> int:
    """Runs the searches of several prompts side by side.

    Args:
        searches: All of one length.
        generations: How many.
        batch: Texts encoded at once.

    Returns:
        Texts that were encoded.
    """
    targets, words, encoded = torch.stack([each.target for each in searches]), searches[0].words, 0

    def errors(rows: Tensor, owners: Tensor) -> Tensor:
        residual = words.encode(rows) - targets[owners.to(targets.device)]
        return residual.square().mean((1, 2)).cpu()

    for _ in range(generations):
        young = [search.offspring() for search in searches]
        encoded += sum(len(rows) for rows in young)
        for search, rows, values in zip(searches, young, measured(young, errors, batch), strict=True):
            search.select(rows, values)
    return encoded
