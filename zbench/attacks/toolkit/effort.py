"""What an attack spends on a batch of prompts, each prompt's even share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zbench.attacks.candidates import NOTHING, Spent

if TYPE_CHECKING:
    from zbench.model import Model


class Effort:
    """Counts while its `measured` block is open, so not while candidates are drawn.

    Evaluations are counted by sample, not by call: figures do not depend on how prompts are batched.

    Args:
        model: Whose counter is read.
        prompts: Among how many prompts it is shared out.
        prepared: What was spent before on what every prompt needs; each prompt is charged all of it, so that
            the figure depends neither on the batch nor on how many prompts are attacked.
    """

    def __init__(self, model: Model, prompts: int, prepared: Spent = NOTHING) -> None:
        self._counter, self._prompts, self._prepared = model.counter, prompts, prepared
        self._seconds = 0.0
        self._forwards = self._backwards = self._encodings = 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Counts what happens inside."""
        begin = time.perf_counter()
        forwards, backwards = self._counter.forward_samples, self._counter.backward_samples
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - begin
            self._forwards += self._counter.forward_samples - forwards
            self._backwards += self._counter.backward_samples - backwards

    def encoded(self, texts: int) -> None:
        """Adds texts, or rows of input embeddings, that went through the text encoder."""
        self._encodings += texts

    @property
    def spent(self) -> Spent:
        """One prompt's share so far."""
        own = {
            "seconds": self._seconds,
            "forwards": self._forwards,
            "backwards": self._backwards,
            "encodings": self._encodings,
        }
        return Spent(
            **{
                name: getattr(self._prepared, name) + value / max(1, self._prompts)
                for name, value in own.items()
            }
        )
