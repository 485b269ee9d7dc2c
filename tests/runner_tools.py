"""What tests of the runner need: methods as a stranger would install them, and small instruments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.instruments import ColourDetector, tiny_clip
from zbench.config import RunConfig
from zbench.runner import RunResult, run
from zbench.runner.display.progress import Reporter
from zbench.runner.running import VERIFYING
from zbench.stages.scorer import Scorer

METHODS_MODULE = '''
"""Methods of a stranger's package: one that works, and three that do not."""

import torch

from zbench.edits import DeltaEdit
from zbench.erasure import Cost, Erasure
from zbench.errors import TrainingDivergedError
from zbench.method import Method, MethodCard

CARD = MethodCard(title="Shift", paper="none", arxiv="", reference_code_licence="none released", rows="text",
                  weights="one projection", needs_training=False, needs_pictures=False)


class Shift(Method):
    name = "shift"
    card = CARD
    presets = {"miniature": {"size": 0.5}}
    size: float = 0.1
    taps: tuple[str, ...] = ("a",)

    def erase(self, model, concept, *, progress=None):
        linear = model.transformer.layers[0].attention.to_v
        generator = torch.Generator().manual_seed(self.training_seed)
        delta = self.size * torch.randn(linear.weight.shape, generator=generator)
        if progress is not None:
            progress(1, 1)
        edit = DeltaEdit({"layers.0.attention.to_v": delta})
        cost = Cost(seconds=1.5, forwards=3)
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), cost)


class Breaks(Shift):
    name = "breaks"

    def erase(self, model, concept, *, progress=None):
        raise RuntimeError("the sky fell")


class Diverges(Shift):
    name = "diverges"

    def erase(self, model, concept, *, progress=None):
        raise TrainingDivergedError("the loss is not a number at step 3")


class Picky(Shift):
    name = "picky"

    def supports(self, concept):
        return "only erases styles"
'''
ENTRY_POINTS = """[zbench.methods]
shift = stranger_methods:Shift
breaks = stranger_methods:Breaks
diverges = stranger_methods:Diverges
picky = stranger_methods:Picky
"""


def install_stranger(folder: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str = ENTRY_POINTS) -> None:
    """Puts a package with its metadata on the import path, as an installer would."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stranger_methods.py").write_text(METHODS_MODULE)
    metadata = folder / f"{folder.name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder.name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "stranger_methods", raising=False)


def small_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores with a colour detector and a random CLIP instead of the shipped networks."""

    def load_scorer(settings: Any, concept: str, members: Sequence[str] = (), **options: Any) -> Scorer:
        detector = ColourDetector(classes=("nudity", "pencil", "cat"), gain=1.2)
        clip = tiny_clip()
        return Scorer(settings, concept, members=members, detectors=[detector], clip=clip, source=None)

    def instruments_config(settings: Any, concept: str, references: Path | None = None) -> dict[str, Any]:
        return {"detector": "colour", "concept": concept}

    monkeypatch.setattr("zbench.stages.scorer.load_scorer", load_scorer)
    monkeypatch.setattr("zbench.stages.scorer.instruments_config", instruments_config)


class Recorder(Reporter):
    """A reporter that keeps what it was told; that finished work is looked at is not work."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.lines: list[str] = []

    @contextmanager
    def stage(self, label: str) -> Iterator[Any]:
        if label != VERIFYING:
            self.stages.append(label)
        yield lambda done, total: None

    def say(self, line: str) -> None:
        self.lines.append(line)


@contextmanager
def stranger_world(folder: Path, *installs: Callable[[pytest.MonkeyPatch], None]) -> Iterator[None]:
    """A folder to work in, a stranger's methods and what else is installed; no defaults of this machine."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("ZBENCH_MODEL", raising=False)
        monkeypatch.chdir(folder)
        install_stranger(folder / "stranger", monkeypatch)
        for install in installs:
            install(monkeypatch)
        yield


def recorded_run(config: RunConfig) -> tuple[RunResult, Recorder]:
    """A run, and what was reported of it."""
    recorder = Recorder()
    return run(config, reporter=recorder), recorder
