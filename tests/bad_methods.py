"""Methods that break one rule each, and two that break none; for the tests of the suite and of the runner."""

from __future__ import annotations

import copy
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import field_serializer, field_validator
from torch import Tensor

from zbench import training
from zbench.concepts import Concept
from zbench.edits import ConditioningEdit, DeltaEdit, Edit, NoEdit
from zbench.edits.files import read_tensors
from zbench.erasure import Erasure
from zbench.method import Method, MethodCard, Progress
from zbench.model import Model

PATH = "layers.0.attention.to_v"


def card(**fields: Any) -> MethodCard:
    values: dict[str, Any] = {
        "title": "Test", "paper": "none", "arxiv": "", "reference_code_licence": "none released",
        "rows": "text", "weights": "one projection", "needs_training": True, "needs_pictures": False,
    }  # fmt: skip
    return MethodCard(**{**values, **fields})


class Good(Method):
    """Breaks no rule that needs no pictures: a random update of one projection."""

    name: ClassVar[str] = "good"
    card: ClassVar[MethodCard] = card()
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {"size": 0.5}}

    size: float = 0.3

    def supports(self, concept: Concept) -> str | None:
        same = concept.training_prompts == concept.anchor_prompts
        return "its training prompts are their own anchors" if same else None

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Any:
        self.require_support(concept)
        return self.erasure(self.edit(model), concept, model)

    def erasure(self, edit: Edit, concept: Concept, model: Model) -> Erasure:
        cost = training.Meter(model).cost()
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), cost)

    def edit(self, model: Model) -> Edit:
        return DeltaEdit({PATH: self.delta(model, self.training_seed)}, rows="text")

    def delta(self, model: Model, seed: int) -> Tensor:
        weight = model.transformer.get_submodule(PATH).weight
        return self.size * torch.randn(weight.shape, generator=training.generator(seed))


# What it says ---------------------------------------------------------------------------------------------


class LossyField(Good):
    """A field that is rounded on its way to JSON."""

    name = "lossy-field"
    size: float = 0.123456

    @field_serializer("size")
    def _rounded(self, value: float) -> float:
        return round(value, 2)


class BadPreset(Good):
    name = "bad-preset"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {}, "paper": {"sise": 1.0}}


class ExitsInPreset(Good):
    """A validator that leaves Python; the defaults are spared."""

    name = "exits-in-preset"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {"size": 2.0}}

    @field_validator("size")
    @classmethod
    def _exits(cls, value: float) -> float:
        if value > 1:
            raise SystemExit(3)
        return value


class TakesAnything(Good):
    """`supports` refuses, `erase` does not."""

    name = "takes-anything"

    def require_support(self, concept: Concept) -> None:
        pass


class CrashesUnsupported(Good):
    name = "crashes-unsupported"

    def require_support(self, concept: Concept) -> None:
        if self.supports(concept):
            raise KeyError(concept.name)


class ExitsUnsupported(Good):
    name = "exits-unsupported"

    def require_support(self, concept: Concept) -> None:
        if self.supports(concept):
            raise SystemExit(3)


# What it returns ------------------------------------------------------------------------------------------


class Raises(Good):
    name = "raises"

    def edit(self, model: Model) -> Edit:
        raise RuntimeError("the sky fell")


class StopsTheRun(Good):
    """Raises what means that nothing at all can run."""

    name = "stops-the-run"

    def edit(self, model: Model) -> Edit:
        from zbench.errors import MissingExtraError

        raise MissingExtraError.of("nothing", "nothing")


class Exits(Good):
    name = "exits"

    def edit(self, model: Model) -> Edit:
        raise SystemExit(3)


class ReadsNowhere(Good):
    """An error of files, which looks like one of the run folder."""

    name = "reads-nowhere"

    def edit(self, model: Model) -> Edit:
        Path("/nowhere/notes.txt").read_text()
        return super().edit(model)


class ReturnsNone(Good):
    name = "returns-none"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Any:
        self.require_support(concept)


class ReturnsEditAlone(Good):
    name = "returns-edit-alone"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Any:
        self.require_support(concept)
        return self.edit(model)


class ReturnsAttached(Good):
    name = "returns-attached"

    def edit(self, model: Model) -> Edit:
        edit = super().edit(model)
        edit.attach(model)
        return edit


class ReturnsNothing(Good):
    name = "returns-nothing"

    def edit(self, model: Model) -> Edit:
        return NoEdit()


class OtherNames(Good):
    name = "other-names"

    def erasure(self, edit: Edit, concept: Concept, model: Model) -> Erasure:
        return Erasure(edit, self.name, "something else", self.model_dump(mode="json"))


class ForgetsSettings(Good):
    name = "forgets-settings"

    def erasure(self, edit: Edit, concept: Concept, model: Model) -> Erasure:
        return Erasure(edit, self.name, concept.name)


class NotANumber(Good):
    name = "not-a-number"

    def delta(self, model: Model, seed: int) -> Tensor:
        delta = super().delta(model, seed)
        delta[0, 0] = float("nan")
        return delta


class NotANumberInTrace(Good):
    name = "not-a-number-in-trace"

    def erasure(self, edit: Edit, concept: Concept, model: Model) -> Erasure:
        settings = self.model_dump(mode="json")
        return Erasure(edit, self.name, concept.name, settings, trace=[{"loss": float("nan")}])


class WordsInTrace(Good):
    name = "words-in-trace"

    def erasure(self, edit: Edit, concept: Concept, model: Model) -> Erasure:
        settings = self.model_dump(mode="json")
        trace: Any = [{"loss": 1.0}, {"loss": "small"}]
        return Erasure(edit, self.name, concept.name, settings, trace=trace)


class TraceWithoutRows(Good):
    name = "trace-without-rows"

    def erasure(self, edit: Edit, concept: Concept, model: Model) -> Erasure:
        settings, trace = self.model_dump(mode="json"), {"loss": [1.0, 0.5]}
        return Erasure(edit, self.name, concept.name, settings, trace=trace)  # type: ignore[arg-type]


# What it does to the model --------------------------------------------------------------------------------


class ChangesWeight(Good):
    """The smallest change: one bit of one weight."""

    name = "changes-weight"

    def edit(self, model: Model) -> Edit:
        with torch.no_grad():
            weight = model.transformer.get_submodule(PATH).weight.data
            weight.view(torch.int32)[0, 0] ^= 1
        return super().edit(model)


class ChangesAndRaises(ChangesWeight):
    name = "changes-and-raises"

    def delta(self, model: Model, seed: int) -> Tensor:
        raise RuntimeError("halfway")


class ChangesVae(Good):
    name = "changes-vae"

    def edit(self, model: Model) -> Edit:
        with torch.no_grad():
            next(model.pipeline.vae.parameters()).mul_(1.5)
        return super().edit(model)


class LeavesHook(Good):
    name = "leaves-hook"

    def edit(self, model: Model) -> Edit:
        model.transformer.layers[1].register_forward_hook(lambda *_: None)
        return super().edit(model)


class LeavesModule(Good):
    name = "leaves-module"

    def edit(self, model: Model) -> Edit:
        attention = model.transformer.layers[0].attention
        attention.to_q = copy.copy(attention.to_q)
        return super().edit(model)


class LeavesGradients(Good):
    name = "leaves-gradients"

    def edit(self, model: Model) -> Edit:
        model.transformer.requires_grad_(True)
        return super().edit(model)


class ReplacesVerb(Good):
    name = "replaces-verb"

    def edit(self, model: Model) -> Edit:
        model.velocity = model.velocity  # type: ignore[method-assign]
        return super().edit(model)


class WritesEmbedding(Good):
    """Writes to an embedding that the model's cache shares with everyone."""

    name = "writes-embedding"

    def edit(self, model: Model) -> Edit:
        model.encode(["a red car beside a house"])[0].mul_(2)
        return super().edit(model)


class InexactEdit(DeltaEdit):
    """Adds to the weight and subtracts again: rounding stays behind."""

    kind = "test-inexact"

    def _install(self, model: Model) -> None:
        self._add(model, 1)

    def _remove(self, model: Model) -> None:
        self._add(model, -1)

    @torch.no_grad()
    def _add(self, model: Model, sign: int) -> None:
        for path, delta in self.deltas.items():
            model.transformer.get_submodule(path).weight.add_(sign * delta.to(model.device))


class DetachesInexactly(Good):
    name = "detaches-inexactly"
    card = card(rows="all")

    def edit(self, model: Model) -> Edit:
        return InexactEdit({PATH: self.delta(model, self.training_seed)}, rows="all")


class ForgetfulEdit(DeltaEdit):
    kind = "test-forgetful"

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> ForgetfulEdit:
        edit = super()._restore(folder, settings)
        edit.deltas = {path: delta / 2 for path, delta in edit.deltas.items()}
        return edit


class SavesHalf(Good):
    name = "saves-half"

    def edit(self, model: Model) -> Edit:
        return ForgetfulEdit({PATH: self.delta(model, self.training_seed)}, rows="text")


class FailingEdit(DeltaEdit):
    """Does what it should until a picture is drawn."""

    kind = "test-failing"

    def _install(self, model: Model) -> None:
        super()._install(model)
        self._drawing = model
        model.pipeline.vae.decode = self._decode

    def _remove(self, model: Model) -> None:
        super()._remove(model)
        del model.pipeline.vae.decode

    def _decode(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no paint left")


class ExitingEdit(FailingEdit):
    kind = "test-exiting"

    def _decode(self, *args: Any, **kwargs: Any) -> Any:
        raise SystemExit(3)


class LosingEdit(FailingEdit):
    """An error of files, which looks like one of the run folder."""

    kind = "test-losing"

    def _decode(self, *args: Any, **kwargs: Any) -> Any:
        raise FileNotFoundError("no palette")


class SmearingEdit(FailingEdit):
    """Changes the model on its way out."""

    kind = "test-smearing"

    def _decode(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            self._drawing.transformer.get_submodule(PATH).weight.mul_(1.5)
        raise SystemExit(3)


class FailsToDraw(Good):
    name = "fails-to-draw"
    edit_class: ClassVar[type[FailingEdit]] = FailingEdit

    def edit(self, model: Model) -> Edit:
        return self.edit_class({PATH: self.delta(model, self.training_seed)}, rows="text")


class ExitsDrawing(FailsToDraw):
    name = "exits-drawing"
    edit_class = ExitingEdit


class LosesPalette(FailsToDraw):
    name = "loses-palette"
    edit_class = LosingEdit


class SmearsModel(FailsToDraw):
    name = "smears-model"
    edit_class = SmearingEdit


class AllRowsEdit(DeltaEdit):
    """Claims text rows and changes all of them."""

    kind = "test-all-rows"

    def _hook(self, model: Model, path: str) -> Any:
        delta = self.deltas[path].to(model.device)
        return lambda module, args, output: output + args[0] @ delta.T


class TouchesImageRows(Good):
    name = "touches-image-rows"

    def edit(self, model: Model) -> Edit:
        return AllRowsEdit({PATH: self.delta(model, self.training_seed)}, rows="text")


class ClaimsTextRows(Good):
    name = "claims-text-rows"

    def edit(self, model: Model) -> Edit:
        return DeltaEdit({PATH: self.delta(model, self.training_seed)}, rows="all")


# What it reads, writes and leaves behind ------------------------------------------------------------------


class ReadsPrompts(Good):
    name = "reads-prompts"

    def edit(self, model: Model) -> Edit:
        from zbench.prompts import load_prompt_set

        load_prompt_set("nudity-explicit")
        return super().edit(model)


class ReadsPromptFile(Good):
    name = "reads-prompt-file"

    def edit(self, model: Model) -> Edit:
        from importlib.resources import files

        (files("zbench_prompts") / "sets" / "world" / "unrelated.jsonl").read_text()
        return super().edit(model)


class AsksDetector(Good):
    name = "asks-detector"

    def edit(self, model: Model) -> Edit:
        from zbench.registry import load_detector

        load_detector("world")
        return super().edit(model)


class ReadsDetectorFile(Good):
    """Past Python: safetensors opens the file in Rust."""

    name = "reads-detector-file"

    def edit(self, model: Model) -> Edit:
        from importlib.resources import files

        from safetensors.torch import load_file

        load_file(str(files("zbench.miniature") / "weights" / "detector.safetensors"))
        return super().edit(model)


class WritesFile(Good):
    name = "writes-file"

    def edit(self, model: Model) -> Edit:
        (Path(tempfile.gettempdir()) / f"zbench-test-{os.getpid()}").touch()
        return super().edit(model)


class SavesCheckpoint(Good):
    name = "saves-checkpoint"

    def edit(self, model: Model) -> Edit:
        from safetensors.torch import save_file

        save_file(
            {"x": torch.zeros(1)}, Path(tempfile.gettempdir()) / f"zbench-test-{os.getpid()}.safetensors"
        )
        return super().edit(model)


class SeedsTorch(Good):
    name = "seeds-torch"

    def edit(self, model: Model) -> Edit:
        torch.manual_seed(7)
        return super().edit(model)


class DrawsFromPython(Good):
    name = "draws-from-python"

    def edit(self, model: Model) -> Edit:
        random.random()
        return super().edit(model)


class SetsDefaults(Good):
    name = "sets-defaults"

    def edit(self, model: Model) -> Edit:
        edit = super().edit(model)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return edit


class AnotherEachTime(Good):
    name = "another-each-time"

    def delta(self, model: Model, seed: int) -> Tensor:
        return super().delta(model, int.from_bytes(os.urandom(4), "big"))


class DeafToSeed(Good):
    name = "deaf-to-seed"

    def delta(self, model: Model, seed: int) -> Tensor:
        return super().delta(model, 0)


KEPT: list[Any] = []


class KeepsEdit(Good):
    name = "keeps-edit"

    def edit(self, model: Model) -> Edit:
        KEPT.append(super().edit(model))
        edit: Edit = KEPT[-1]
        return edit


class KeepsTensors(Good):
    name = "keeps-tensors"

    def edit(self, model: Model) -> Edit:
        KEPT.append(torch.zeros(1 << 16))
        return super().edit(model)


# What is drawn --------------------------------------------------------------------------------------------


class RewritingEdit(ConditioningEdit):
    """Encodes other words than were asked for; the simplest eraser there is."""

    kind = "test-rewriting"

    def __init__(self, words: Mapping[str, str]) -> None:
        super().__init__()
        self.words = dict(words)

    def settings(self) -> dict[str, Any]:
        return {"words": self.words}

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        assert self._model is not None
        return [self._encoded(self.rewrite(prompt)) for prompt in prompts]

    def _encoded(self, prompt: str) -> Tensor:
        assert self._model is not None
        return self._model.prompts.encode([prompt])[0]

    def rewrite(self, prompt: str) -> str:
        for phrase in sorted(self.words, key=len, reverse=True):
            prompt = prompt.replace(phrase, self.words[phrase])
        return prompt

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> RewritingEdit:
        read_tensors(folder / cls.weights_file)
        return cls(settings["words"])


class Rewrites(Good):
    """Breaks no rule: takes every phrase of the concept for its anchor."""

    name = "rewrites"
    card = card(needs_training=False)

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Any:
        edit = self.rewriting(dict.fromkeys(concept.phrases, concept.anchor))
        return self.erasure(edit, concept, model)

    def supports(self, concept: Concept) -> str | None:
        return None

    def rewriting(self, words: dict[str, str]) -> RewritingEdit:
        return RewritingEdit(words)


class ErasesNothing(Rewrites):
    name = "erases-nothing"

    def rewriting(self, words: dict[str, str]) -> RewritingEdit:
        return RewritingEdit({"zqxwv": "zqxwv"})


class ShuffledEdit(RewritingEdit):
    """Every prompt gets the picture of another one: fine pictures, none of what was asked."""

    kind = "test-shuffled"

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        return [self._encoded(f"a {_OBJECTS[sum(map(ord, prompt)) % len(_OBJECTS)]}") for prompt in prompts]


_OBJECTS = ("blue pizza", "black church", "green fish", "grey tower", "white airplane", "purple pencil")


class ForgetsOthers(Rewrites):
    name = "forgets-others"

    def rewriting(self, words: dict[str, str]) -> RewritingEdit:
        return ShuffledEdit(words)


class NoisyEdit(RewritingEdit):
    """The right pictures under a layer of noise."""

    kind = "test-noisy"
    level: ClassVar[float] = 0.2

    def _install(self, model: Model) -> None:
        super()._install(model)
        self._decode = model.pipeline.vae.decode
        model.pipeline.vae.decode = self._noisy

    def _remove(self, model: Model) -> None:
        super()._remove(model)
        del model.pipeline.vae.decode

    def _noisy(self, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        (pictures, *rest) = self._decode(latents, *args, **kwargs)
        noise = torch.randn(pictures.shape, generator=training.generator(0)).to(pictures)
        return (pictures + self.level * noise, *rest)


class DrawsNoise(Rewrites):
    name = "draws-noise"

    def rewriting(self, words: dict[str, str]) -> RewritingEdit:
        return NoisyEdit(words)
