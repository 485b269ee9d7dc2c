"""Drawing pictures into a samples folder, batch by batch: what is drawn is on disk, and stays drawn.

However many pictures there are, no more than two batches lie in memory. A drawing that was killed or stopped
goes on at the next batch, with the batches of an undisturbed one, so that its files are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from zbench.stages.memory import Room
from zbench.stages.partial import PartialSamples

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.model import Model
    from zbench.stages.inputs import ModelHandle
    from zbench.stages.samples import Sample
    from zbench.store import StageFolder

Captions = Callable[[Sequence[int]], "Sequence[Tensor]"]
"""Gives the prompt embeddings [L_i, D] of some of the samples, by their positions."""

WINDOW = 2048
"""Pictures whose embeddings are held at once; batches of equal length are sought among them."""

_fitting: WeakKeyDictionary[Model, int] = WeakKeyDictionary()
"""Pictures that a model can draw at once, where memory ran out with more: not to find out each time anew."""


@dataclass(frozen=True)
class Painter:
    """How pictures of one folder are drawn.

    Attributes:
        model: The unerased model.
        captions: What they are drawn from; asked while the model is changed.
        changed: Changes the model for the length of a `with` block.
        steps: Denoising steps.
        batch_size: Pictures drawn at once, fewer where memory does not suffice; changes none.
        progress: Told how many pictures are there, and how many there will be.
    """

    model: ModelHandle
    captions: Captions
    changed: AbstractContextManager[None]
    steps: int
    batch_size: int
    progress: Callable[[int, int], None] | None = None

    def fill(self, folder: StageFolder, samples: Sequence[Sample]) -> None:
        """Draws the pictures and puts their folder in place.

        Args:
            folder: Where they belong; its configuration says with which erasure.
            samples: What is drawn.

        Raises:
            StoreError: The folder cannot be written; what was drawn before stays.
            OutOfMemoryError: Memory does not suffice for a single picture.
            Exception: Whatever the change of the model raises.
        """
        provenance = {"erasure": folder.config["erasure"], "steps": self.steps}
        size = (self.model.model.spec.height, self.model.model.spec.width)

        def fill(place: Path) -> None:
            with PartialSamples(place, folder.config, samples) as partial:
                if len(partial.known) < len(samples):
                    with self.changed:
                        self._draw(partial, samples, folder.notify)
            partial.finish(size, provenance)

        folder.resume(fill)

    def _draw(self, partial: PartialSamples, samples: Sequence[Sample], say: Callable[[str], None]) -> None:
        model = self.model.model
        room = Room(min(self.batch_size, _fitting.get(model, self.batch_size)), "pictures", say)
        there = set(partial.known)
        try:
            for start in range(0, len(samples), WINDOW):
                window = range(start, min(start + WINDOW, len(samples)))
                if not there.issuperset(window):
                    self._draw_window(partial, samples, window, there, room)
        finally:
            if room.size < self.batch_size:
                _fitting[model] = room.size

    def _draw_window(
        self, partial: PartialSamples, samples: Sequence[Sample], window: range, there: set[int], room: Room
    ) -> None:
        model, captions = self.model.model, self.captions(window)

        def draw(places: Sequence[int]) -> Tensor:
            seeds = [samples[window[place]].seed for place in places]
            return model.draw([captions[place] for place in places], seeds, self.steps)

        for batch in model.batches(captions, self.batch_size):
            # A batch that is there in part is drawn as a whole: its pictures are then those of a whole batch.
            if there.issuperset(window[place] for place in batch):
                continue
            for places, pictures in room.parts(batch, draw):
                rows = [window[place] for place in places]
                partial.add(rows, pictures)
                there.update(rows)
                if self.progress is not None:
                    self.progress(len(there), len(samples))
