"""Fixtures that every part's tests share: a tiny random pipeline at two picture sizes, not square."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# No test reaches for the network; a missing weight must say so rather than wait.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.tiny import save_tiny_pipeline
from zbench.model import Model, load_model

SIZES = ((48, 80), (96, 64))
"""(height, width) in pixels: 60 image rows padded to 64, and 96, which needs no padding."""


# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("zbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zbench")


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Loading a model flushes denormals for the whole process; hypothesis draws them in other tests."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved random `ZImagePipeline`; do not write into it."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(scope="session", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def _shared_model(request: pytest.FixtureRequest, tiny_pipeline_folder: Path) -> Model:
    height, width = request.param
    return load_model(tiny_pipeline_folder, "cpu", height=height, width=width)


@pytest.fixture
def tiny_model(_shared_model: Model) -> Iterator[Model]:
    """A model on random weights, at each of `SIZES`; tests must leave it as it was."""
    before = _shared_model.fingerprint()
    yield _shared_model
    assert not _shared_model.edits, "the test left an edit attached"
    assert _shared_model.fingerprint() == before, "the test changed the weights"


@pytest.fixture
def noise_generator() -> torch.Generator:
    """A generator of test inputs."""
    return torch.Generator().manual_seed(1234)
