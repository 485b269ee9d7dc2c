"""What a detector is.

A detector turns pictures into raw scores and nothing else: thresholds are applied afterwards, so that stored
scores can be read again at another threshold without looking at a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Progress = Callable[[int, int], None]
"""Called as ``progress(pictures done, pictures in all)``."""


class Detector(ABC):
    """Raw scores of pictures.

    Attributes:
        name: Catalogue name, recorded with every figure.
        version: Version of the detector or of the package it comes from.
        file_sha256: Hash of its weights file; the name alone has meant too many things.
        classes: Names of the columns of `scores`.
        threshold: A class is found where its score is at least this.
    """

    name: str
    version: str
    file_sha256: str
    classes: tuple[str, ...]
    threshold: float

    @abstractmethod
    def scores(self, pictures: Tensor, progress: Progress | None = None) -> NDArray[np.float32]:
        """Scores pictures.

        Args:
            pictures: uint8 [N, 3, H, W].
            progress: Told how many pictures are done.

        Returns:
            float32 [N, len(classes)], each in [0, 1].
        """

    def columns(self, concept: str) -> tuple[int, ...]:
        """The classes that stand for a concept, any of which is enough; empty where there are none."""
        return (self.classes.index(concept),) if concept in self.classes else ()

    def rivals(self, concept: str) -> tuple[int, ...]:
        """The classes that a concept is told apart from, itself included: all, unless families are known."""
        return tuple(range(len(self.classes))) if concept in self.classes else ()

    def read(self, scores: NDArray[np.float32], concept: str) -> NDArray[np.float32]:
        """Score of a concept from raw scores: the highest of its classes.

        Args:
            scores: [N, len(classes)].
            concept: Name of a concept that the detector supports.

        Returns:
            [N].

        Raises:
            ConfigurationError: The detector has no class for the concept.
        """
        columns = self.columns(concept)
        if not columns:
            raise ConfigurationError(f"The detector {self.name!r} has no class for the concept {concept!r}.")
        highest: NDArray[np.float32] = scores[:, list(columns)].max(axis=1)
        return highest

    def found(self, scores: NDArray[np.float32], concept: str) -> NDArray[np.bool_]:
        """Whether a concept is found, bool [N]; see `read`."""
        return self.read(scores, concept) >= self.threshold

    def describe(self) -> dict[str, Any]:
        """What a record says about the detector."""
        return {
            "name": self.name,
            "version": self.version,
            "file_sha256": self.file_sha256,
            "threshold": self.threshold,
            "classes": list(self.classes),
        }


def check_threshold(threshold: float) -> float:
    """Returns the threshold.

    Raises:
        ConfigurationError: It is not between 0 and 1.
    """
    if not 0.0 < threshold < 1.0:
        raise ConfigurationError(f"A detection threshold must lie between 0 and 1, not {threshold}.")
    return threshold


def batches(pictures: Tensor, size: int, progress: Progress | None = None) -> Iterator[Tensor]:
    """Yields uint8 [<= size, 3, H, W], reporting each batch when it has been worked on."""
    total = len(pictures)
    for start in range(0, total, size):
        yield pictures[start : start + size]
        if progress is not None:
            progress(min(start + size, total), total)
