"""The measuring instruments of a run: loaded once, used for every cell.

Whatever is measured on a set of pictures is measured once: the original's pictures are compared with every
cell, and their detector scores and features stay in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.detectors.base import Detector, Progress
from zbench.metrics.clip import Clip, ClipSpec, clip_scores, load_clip
from zbench.metrics.collapse import signals
from zbench.metrics.features import FeatureCache, FeatureSource
from zbench.metrics.fidelity import load_library_source
from zbench.metrics.reference import ENDINGS, folder_pictures, reference_pictures
from zbench.protocols import DomainProtocol
from zbench.registry import load_detector
from zbench.stages.samples import SamplesView
from zbench.store import sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

SCORE_VERSION = 1
"""Raised when the same pictures and instruments would give other figures."""


@dataclass(frozen=True)
class Measurements:
    """What was measured on N pictures, one value (or row) for each.

    Attributes:
        scores: Detector -> raw scores, float32 [N, classes].
        clip_features: float32 [N, D].
        clip_scores: 100 x cosine with the picture's own prompt, float64 [N].
        signals: Collapse signal -> float64 [N].
    """

    scores: dict[str, NDArray[np.float32]]
    clip_features: Tensor
    clip_scores: NDArray[np.float64]
    signals: dict[str, NDArray[np.float64]]


class Scorer:
    """Detectors, CLIP, feature space and reference pictures of one protocol and concept.

    Args:
        settings: The protocol's table for the model's domain.
        concept: Name of the erased concept.
        detectors: In the protocol's order; the first one gives the success rates.
        clip: For CLIP scores, and for FID where the protocol says ``clip``.
        source: Feature space of FID and KID.
        references: Folder with reference pictures; None takes the protocol's own source, if it has one.
        cache: Features by content.
    """

    def __init__(
        self,
        settings: DomainProtocol,
        concept: str,
        *,
        detectors: Sequence[Detector],
        clip: Clip,
        source: FeatureSource | None,
        references: Path | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        self.settings = settings
        self.concept = concept
        self.detectors = tuple(detectors)
        self.clip = clip
        self.source = source
        self.references = references
        self.cache = cache or FeatureCache()
        self._measured: dict[str, Measurements] = {}

    def measure(self, view: SamplesView, progress: Progress | None = None) -> Measurements:
        """Measures pictures, or returns what was measured on the same ones before.

        Args:
            view: N pictures with their prompts.
            progress: Told (pictures done, pictures in all), counted once for each instrument.
        """
        key = view.sha256
        if key not in self._measured:
            self._measured[key] = self._measure(view, progress)
        return self._measured[key]

    def _measure(self, view: SamplesView, progress: Progress | None) -> Measurements:
        count, instruments = len(view), len(self.detectors) + 2
        scores = {
            detector.name: detector.scores(view.pictures, _part(progress, position, count, instruments))
            for position, detector in enumerate(self.detectors)
        }
        features = self.cache.get(self.clip, view.pictures)
        _report(progress, instruments - 1, count, instruments)
        texts = self.clip.embed_texts([sample.prompt for sample in view.samples])
        found = Measurements(scores, features, clip_scores(features, texts), signals(view.pictures))
        _report(progress, instruments, count, instruments)
        return found

    def fidelity_features(self, view: SamplesView, role: str) -> Tensor:
        """Features of one role's pictures in the feature space of FID and KID, float32 [n, D]."""
        assert self.source is not None
        if self.source is self.clip:
            return self.cache.get(self.clip, view.pictures)[view.indices(role)]
        return self.cache.get(self.source, view.select(role).pictures)

    def reference_features(self, height: int, width: int) -> Tensor | None:
        """Features of the reference pictures, float32 [M, D]; None without reference pictures.

        Args:
            height: Height of the generated pictures; a user's references are fitted to it.
            width: Their width.
        """
        pictures = self._reference_pictures(height, width)
        return None if pictures is None or self.source is None else self.cache.get(self.source, pictures)

    def _reference_pictures(self, height: int, width: int) -> Tensor | None:
        count = self.settings.reference_pictures
        if self.references is not None:
            return folder_pictures(self.references, count, height, width)
        return None if self.settings.reference is None else reference_pictures(self.settings.reference, count)

    @property
    def reference_name(self) -> str:
        """What a record calls the reference pictures."""
        return str(self.references) if self.references is not None else str(self.settings.reference)


def _part(progress: Progress | None, position: int, count: int, parts: int) -> Progress | None:
    """Progress of one instrument out of several that look at the same pictures."""
    if progress is None:
        return None
    return lambda done, _: progress(position * count + done, parts * count)


def _report(progress: Progress | None, position: int, count: int, parts: int) -> None:
    if progress is not None:
        progress(position * count, parts * count)


def load_scorer(
    settings: DomainProtocol,
    concept: str,
    *,
    references: Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
) -> Scorer:
    """Loads all instruments of a protocol.

    Missing packages and weights show here: called before pictures are generated, it saves hours.

    Args:
        settings: The protocol's table for the model's domain.
        concept: Name of the erased concept.
        references: Folder with reference pictures, for protocols without their own.
        cache: Folder where features outlive the process.
        device: Torch device; the CPU when None.

    Raises:
        MissingExtraError: A detector's package is not installed.
        WeightsError: Weights are missing or altered.
        UnknownNameError: No detector has the name that the protocol gives.
    """
    device = device or "cpu"
    clip = load_clip(ClipSpec.parse(settings.clip), device)
    return Scorer(
        settings,
        concept,
        detectors=load_detectors(settings, device),
        clip=clip,
        source=_load_source(settings, clip, references, device),
        references=references,
        cache=FeatureCache(cache),
    )


def _load_source(
    settings: DomainProtocol, clip: Clip, references: Path | None, device: str
) -> FeatureSource | None:
    """None where there is nothing to compare with: no need to fetch an extractor then."""
    if references is None and settings.reference is None:
        return None
    return clip if settings.fidelity == "clip" else load_library_source(settings.fidelity, device)


def load_detectors(settings: DomainProtocol, device: str | None = None) -> tuple[Detector, ...]:
    """The protocol's detectors at the protocol's thresholds."""
    thresholds = settings.thresholds
    return tuple(
        load_detector(name, device=device, **({"threshold": thresholds[name]} if name in thresholds else {}))
        for name in settings.detectors
    )


def instruments_config(
    settings: DomainProtocol, concept: str, references: Path | None = None
) -> dict[str, Any]:
    """What the figures depend on besides the pictures: goes into the identity of the score stage.

    Hashes files but loads no network, so that a finished run is recognised quickly.

    Args:
        settings: The protocol's table for the model's domain.
        concept: Name of the erased concept.
        references: Folder with reference pictures, if the user gave one.
    """
    return {
        "score_version": SCORE_VERSION,
        "concept": concept,
        "detectors": [
            {"name": d.name, "file_sha256": d.file_sha256, "threshold": d.threshold}
            for d in load_detectors(settings)
        ],
        "clip": ClipSpec.parse(settings.clip).identity(),
        "fidelity": settings.fidelity,
        "kid_subset_size": settings.kid_subset_size,
        "reference": folder_sha256(references, settings.reference_pictures)
        if references
        else settings.reference,
        "reference_pictures": settings.reference_pictures,
        "packages": package_versions(),
    }


def folder_sha256(folder: Path, count: int) -> str:
    """Content hash of the reference pictures that would be taken from a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)[:count]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that compute figures."""
    from importlib.metadata import version

    return {name: version(name) for name in ("open_clip_torch", "scipy", "statsmodels", "torch-fidelity")}
