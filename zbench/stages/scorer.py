"""The measuring instruments of a run: loaded once, used for every cell.

Whatever is measured on a set of pictures is measured once: the original's pictures are compared with every
cell, and their detector scores and features stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zbench.detectors.base import Detector, Progress
from zbench.metrics.clip import Clip, ClipSpec, clip_scores, load_clip
from zbench.metrics.collapse import signals
from zbench.metrics.features import FeatureCache, FeatureSource
from zbench.metrics.fidelity import FeatureSets, load_library_source
from zbench.metrics.perceptual import Perceptual, load_perceptual
from zbench.protocols import UNRELATED, DomainProtocol
from zbench.registry import load_detector
from zbench.stages.detections import CHUNK
from zbench.stages.measurements import Measurements, behind, report, share
from zbench.stages.memory import Room
from zbench.stages.references import References
from zbench.stages.samples import SamplesView
from zbench.store import identity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

SCORE_VERSION = 2
"""Raised when the same pictures and instruments would give other figures."""


Say = Callable[[str], None]

_Found = TypeVar("_Found")


class Scorer:
    """Detectors, CLIP, feature space and reference pictures of one protocol and concept.

    Args:
        settings: The protocol's table for the model's domain and the concept.
        concept: Name of the erased concept.
        detectors: In the protocol's order; the first one gives the success rates.
        members: Of a composite concept, the names of what is erased together.
        clip: For CLIP scores, and for FID where the protocol says ``clip``.
        source: Feature space of FID and KID.
        perceptual: Distance to the original's pictures, beside those of pixels and of CLIP features.
        references: Folder with reference pictures; None takes the protocol's own source, if it has one.
        cache: What was measured, by content of pictures and instruments.

    Attributes:
        say: Told where memory suffices for fewer pictures at once; may be replaced.
    """

    def __init__(
        self,
        settings: DomainProtocol,
        concept: str,
        *,
        detectors: Sequence[Detector],
        clip: Clip,
        members: Sequence[str] = (),
        source: FeatureSource | None,
        perceptual: Perceptual | None = None,
        references: Path | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        self.settings = settings
        self.concept, self.members = concept, tuple(members)
        self.detectors = tuple(detectors)
        self.clip = clip
        self.source = source
        self.perceptual = perceptual
        self.references = References(settings, references)
        self.cache = cache or FeatureCache()
        self.say: Say = _unheard
        self._measured: dict[str, Measurements] = {}
        self._texts: tuple[tuple[str, ...], Tensor] | None = None

    @cached_property
    def instruments(self) -> dict[str, Any]:
        """Names, rules and hashes of the instruments that are no detectors, for the record."""
        clip = {"name": self.clip.name, "weights_sha256": self.clip.weights_sha256, "rule": self.clip.rule}
        others = {"fidelity": self.source, "perceptual": self.perceptual}
        named = {of: each and {"name": each.name, "rule": each.rule} for of, each in others.items()}
        return {"clip": clip, **named}

    def measure(self, view: SamplesView, progress: Progress | None = None) -> Measurements:
        """Measures pictures, or returns what was measured on the same ones before.

        Args:
            view: N pictures.
            progress: Told (pictures done, pictures in all), counted once for each instrument.

        Raises:
            OutOfMemoryError: Memory does not suffice for a single picture.
        """
        key = view.sha256
        if key not in self._measured:
            self._measured[key] = self._kept(view) or self._measure(view, progress)
        report(progress, self._instruments * len(view), self._instruments * len(view))
        return self._measured[key]

    def _kept(self, view: SamplesView) -> Measurements | None:
        path = self._path(view)
        return None if path is None else Measurements.read(path)

    def _path(self, view: SamplesView) -> Path | None:
        """Where what was measured outlives the process: the original's pictures belong to many cells."""
        config = {
            "version": SCORE_VERSION,
            "pictures": view.pictures_sha256,
            "detectors": [
                [d.name, d.version, d.file_sha256, list(d.classes), d.floor] for d in self.detectors
            ],
            "clip": [self.clip.name, self.clip.rule],
            "packages": package_versions(),
        }
        return self.cache.path(identity("measured", config))

    def _measure(self, view: SamplesView, progress: Progress | None) -> Measurements:
        def look(rows: Sequence[int]) -> Measurements:
            return self._look(view.read(rows), behind(progress, rows, len(view), self._instruments))

        measured = Measurements.joined(list(self.in_parts(range(len(view)), look)) or [look(())])
        if (path := self._path(view)) is not None:
            measured.write(path)
        return measured

    @property
    def _instruments(self) -> int:
        """How many look at every picture: CLIP and the signals beside the detectors."""
        return len(self.detectors) + 2

    def _look(self, pictures: Tensor, progress: Progress | None) -> Measurements:
        count = len(pictures)
        scores = {
            detector.name: detector.scores(pictures, share(progress, position, count, self._instruments))
            for position, detector in enumerate(self.detectors)
        }
        features = self.clip.extract(pictures)
        report(progress, (self._instruments - 1) * count, self._instruments * count)
        found = Measurements(scores, features, signals(pictures))
        report(progress, self._instruments * count, self._instruments * count)
        return found

    def in_parts(self, rows: Sequence[int], look: Callable[[Sequence[int]], _Found]) -> Iterator[_Found]:
        """What `look` finds on some rows, a few at a time: as many as memory has room for."""
        for _, found in Room(CHUNK, "pictures to be scored", self.say).parts(rows, look):
            yield found

    def clip_scores(self, view: SamplesView) -> NDArray[np.float64]:
        """100 x cosine of each picture with its own prompt, float64 [N]."""
        texts = self._text_features(tuple(sample.prompt for sample in view.samples))
        return clip_scores(self.measure(view).clip_features, texts)

    def _text_features(self, prompts: tuple[str, ...]) -> Tensor:
        """Text features of the prompts, the last ones kept: a cell has those of the original."""
        if self._texts is None or self._texts[0] != prompts:
            self._texts = (prompts, self.clip.embed_texts(prompts))
        return self._texts[1]

    def fidelity(self, view: SamplesView) -> FeatureSets | None:
        """Pictures of unrelated prompts and references in the feature space of FID; None without them."""
        return None if self.source is None else self._feature_sets(view, self.source)

    def embeddings(self, view: SamplesView) -> FeatureSets | None:
        """The same in CLIP's space, where the space of FID is another one."""
        return None if self.source in (None, self.clip) else self._feature_sets(view, self.clip)

    def _feature_sets(self, view: SamplesView, source: FeatureSource) -> FeatureSets | None:
        height, width = view.size
        reference = self.references.features(self.cache, source, height, width)
        if reference is None:
            return None
        return FeatureSets(
            source,
            self._unrelated(view, source),
            reference,
            self.references.held_out_features(self.cache, source),
            self.references.name,
        )

    def _unrelated(self, view: SamplesView, source: FeatureSource) -> Tensor:
        if source is self.clip:
            return self.measure(view).clip_features[view.indices(UNRELATED)]
        part = view.select(UNRELATED)

        def extract() -> Tensor:
            import torch

            found = list(self.in_parts(range(len(part)), lambda rows: source.extract(part.read(rows))))
            return torch.cat(found) if found else source.extract(part.pictures)

        return self.cache.kept(source, part.pictures_sha256, extract)


def _unheard(line: str) -> None:
    del line


def load_scorer(
    settings: DomainProtocol,
    concept: str,
    *,
    members: Sequence[str] = (),
    references: Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
) -> Scorer:
    """Loads all instruments of a protocol.

    Missing packages and weights show here: called before pictures are generated, it saves hours.

    Args:
        settings: The protocol's table for the model's domain and the concept.
        concept: Name of the erased concept.
        members: Of a composite concept, the names of what is erased together.
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
        members=members,
        source=_load_source(settings, clip, references, device),
        perceptual=load_perceptual(settings.perceptual, clip, device) if settings.perceptual else None,
        references=references,
        cache=FeatureCache(cache),
    )


def _load_source(
    settings: DomainProtocol, clip: Clip, references: Path | None, device: str
) -> FeatureSource | None:
    """None where there is nothing to compare with: no need to fetch an extractor then."""
    if not References(settings, references).exist:
        return None
    return clip if settings.fidelity == "clip" else load_library_source(settings.fidelity, device)


def load_detectors(settings: DomainProtocol, device: str | None = None) -> tuple[Detector, ...]:
    """The protocol's detectors at the protocol's thresholds."""
    return tuple(
        protocol_detector(name, settings, device, settings.thresholds.get(name))
        for name in settings.detectors
    )


def first_detector(settings: DomainProtocol, device: str | None = None) -> Detector:
    """The protocol's first detector at the protocol's threshold: it gives the success rates."""
    name = settings.detectors[0]
    return protocol_detector(name, settings, device, settings.thresholds.get(name))


def protocol_detector(
    name: str, settings: DomainProtocol, device: str | None = None, threshold: float | None = None
) -> Detector:
    """One detector with the protocol's CLIP model, at a threshold or at its own."""
    options = {} if threshold is None else {"threshold": threshold}
    detector: Detector = load_detector(name, device=device, clip=settings.clip, **options)
    return detector


def instruments_config(
    settings: DomainProtocol, concept: str, references: Path | None = None
) -> dict[str, Any]:
    """What the figures depend on besides the pictures: goes into the identity of the score stage.

    Hashes files but loads no network, so that a finished run is recognised quickly.

    Args:
        settings: The protocol's table for the model's domain and the concept.
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
        "perceptual": settings.perceptual,
        "sweep": list(settings.sweep),
        "error_records": [known.model_dump(mode="json") for known in settings.error_records],
        "reference": References(settings, references).identity(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that compute figures."""
    from importlib.metadata import version

    return {name: version(name) for name in ("open_clip_torch", "scipy", "statsmodels", "torch-fidelity")}
