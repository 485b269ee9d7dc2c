"""What was measured on a set of pictures, and keeping it: other cells compare with the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zbench.detectors.base import Progress
from zbench.metrics.features import read_tensors, write_tensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_SCORES, _SIGNALS, _FEATURES = "scores/", "signals/", "features"


@dataclass(frozen=True)
class Measurements:
    """What was measured on N pictures, one value (or row) for each.

    Attributes:
        scores: Detector -> raw scores, float32 [N, classes].
        clip_features: float32 [N, D].
        signals: Collapse signal -> float64 [N].
    """

    scores: dict[str, NDArray[np.float32]]
    clip_features: Tensor
    signals: dict[str, NDArray[np.float64]]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Measurements of several sets of pictures, by the same instruments, as of one set."""
        import numpy as np
        import torch

        first, *others = parts
        if not others:
            return first
        return cls(
            {name: np.concatenate([part.scores[name] for part in parts]) for name in first.scores},
            torch.cat([part.clip_features for part in parts]),
            {name: np.concatenate([part.signals[name] for part in parts]) for name in first.signals},
        )

    def write(self, path: Path) -> None:
        """Keeps them as a file.

        Raises:
            StoreError: It cannot be written.
        """
        import torch

        tensors = {_FEATURES: self.clip_features}
        for start, columns in ((_SCORES, self.scores), (_SIGNALS, self.signals)):
            for place, (name, of) in enumerate(columns.items()):
                tensors[f"{start}{place:04d}/{name}"] = torch.from_numpy(of)
        write_tensors(path, tensors)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Reads what `write` kept; None where there is nothing, or not what was written."""
        tensors = read_tensors(path)
        if tensors is None or _FEATURES not in tensors:
            return None
        return cls(_columns(tensors, _SCORES), tensors[_FEATURES], _columns(tensors, _SIGNALS))


def _columns(tensors: Mapping[str, Tensor], start: str) -> dict[str, Any]:
    """Columns by name, in the order in which they were measured: it is that of the tables."""
    keys = sorted(key for key in tensors if key.startswith(start))
    return {key.removeprefix(start).partition("/")[2]: tensors[key].numpy() for key in keys}


# How far the measuring is ----------------------------------------------------------------------------------


def share(progress: Progress | None, position: int, count: int, instruments: int) -> Progress | None:
    """Progress of one instrument out of several that look at the same `count` pictures."""
    if progress is None:
        return None
    return lambda done, _: progress(position * count + done, instruments * count)


def behind(
    progress: Progress | None, rows: Sequence[int], count: int, instruments: int = 1
) -> Progress | None:
    """Progress of work on some of `count` pictures, behind that on the pictures before them."""
    if progress is None or not rows:
        return None
    return lambda done, _: progress(instruments * rows[0] + done, instruments * count)


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tells how much is done, where anyone listens."""
    if progress is not None:
        progress(done, total)
