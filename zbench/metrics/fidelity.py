"""FID and KID through torch-fidelity, in a registered feature space.

Features are extracted once (`zbench.metrics.features`) and handed to `torch_fidelity.calculate_metrics` as
rows; the registered extractor passes rows on and computes them from pictures otherwise, so that the same name
also works for a direct call with pictures. torch-fidelity's own cache, whose keys are names and not contents,
stays off.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zbench.detectors.base import batches
from zbench.errors import ConfigurationError, WeightsError
from zbench.metrics.features import FeatureSource

if TYPE_CHECKING:
    from torch import Tensor

MINIMUM = 10
"""Fewer pictures than this give no distance worth printing."""

KID_SUBSETS = 100
LAYER = "features"
_BATCH = 64


def fidelity_distances(
    features: Tensor, reference: Tensor, source: FeatureSource, kid_subset_size: int
) -> dict[str, float]:
    """FID, and KID as the mean of unbiased estimates over subsets.

    Args:
        features: Of the generated pictures, float32 [N, D].
        reference: Of the reference pictures, float32 [M, D].
        source: What both were computed with.
        kid_subset_size: Pictures in a KID subset; cut to N and M.

    Returns:
        ``fid``, ``kid``, ``kid_subset_sd`` (spread over subsets, not a standard error) and
        ``kid_subset_size``.

    Raises:
        ConfigurationError: Fewer than `MINIMUM` pictures on either side, or features that are not finite.
    """
    import torch_fidelity
    from torch_fidelity.metric_fid import KEY_METRIC_FID
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD

    smaller = _check(features, reference)
    size = min(kid_subset_size, smaller)
    values = torch_fidelity.calculate_metrics(
        input1=_rows(features), input2=_rows(reference), feature_extractor=register(source),
        fid=True, kid=True, kid_subsets=KID_SUBSETS, kid_subset_size=size,
        batch_size=4096, cuda=False, cache=False, verbose=False,
        save_cpu_ram=True,  # no worker processes: the rows are in memory already
    )  # fmt: skip
    return {
        "fid": float(values[KEY_METRIC_FID]),
        "kid": float(values[KEY_METRIC_KID_MEAN]),
        "kid_subset_sd": float(values[KEY_METRIC_KID_STD]),
        "kid_subset_size": float(size),
    }


def _check(features: Tensor, reference: Tensor) -> int:
    smaller = min(len(features), len(reference))
    if smaller < MINIMUM:
        raise ConfigurationError(
            f"FID and KID need at least {MINIMUM} pictures on both sides, "
            f"not {len(features)} and {len(reference)}"
        )
    if not (features.isfinite().all() and reference.isfinite().all()):
        raise ConfigurationError("FID and KID need finite features")
    return smaller


def _rows(features: Tensor) -> Any:
    from torch.utils.data import Dataset

    class Rows(Dataset):  # type: ignore[type-arg]
        """Feature rows as a dataset."""

        def __len__(self) -> int:
            return len(features)

        def __getitem__(self, index: int) -> Tensor:
            return features[index]

    return Rows()


def register(source: FeatureSource) -> str:
    """Registers a source with torch-fidelity under its own name, once.

    Returns:
        The name: it holds the content hash of the weights, so that it can never mean two things.
    """
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

    if source.name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(source.name, _extractor_class(source))
    return source.name


def _extractor_class(source: FeatureSource) -> type:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Registered(FeatureExtractorBase):  # type: ignore[misc]
        """Feature rows as they are; pictures through the source."""

        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (LAYER,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LAYER

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> None:
            return None

        def forward(self, batch: Tensor) -> tuple[Tensor]:
            return (batch if batch.ndim == 2 else source.extract(batch),)

    return Registered


class LibrarySource:
    """One of torch-fidelity's own extractors (``inception-v3-compat`` ...) as a feature source.

    Args:
        library_name: Its name in torch-fidelity's registry.
        device: Where it runs.

    Raises:
        ConfigurationError: torch-fidelity does not know the name.
        WeightsError: Its weights cannot be fetched.
    """

    def __init__(self, library_name: str, device: str = "cpu") -> None:
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
        from torch_fidelity.utils import create_feature_extractor

        if library_name not in FEATURE_EXTRACTORS_REGISTRY:
            raise ConfigurationError(f"torch-fidelity has no feature extractor {library_name!r}.")
        layer = FEATURE_EXTRACTORS_REGISTRY[library_name].get_default_feature_layer_for_metric("fid")
        try:
            extractor = create_feature_extractor(library_name, [layer], cuda=False, verbose=False)
        except OSError as error:  # urllib's errors are OSErrors
            raise WeightsError(
                f"The weights of torch-fidelity's {library_name} are not here and cannot be fetched: {error}."
            ) from error
        self._extractor, self._device = extractor.to(device), device
        self.name = f"{library_name}-{_weights_sha256(extractor)[:12]}"
        self.rule = f"torch-fidelity's own, layer {layer}"

    def extract(self, pictures: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] to float32 [N, D], on the CPU."""
        import torch

        with torch.inference_mode():
            parts = [
                self._extractor(batch.to(self._device))[0].float() for batch in batches(pictures, _BATCH)
            ]
        return torch.cat(parts).cpu().clone()


@lru_cache(maxsize=1)
def load_library_source(library_name: str, device: str = "cpu") -> LibrarySource:
    """`LibrarySource`, kept loaded."""
    return LibrarySource(library_name, device)


def _weights_sha256(module: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
