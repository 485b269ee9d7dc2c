"""Drawing the study's pictures with the original, and with models damaged in several ways.

The stages of a run do the work, in a run folder of the study's own: what is drawn once is not drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.stages.erase import erase, erase_folder
from zbench.stages.generate import generate, generate_folder, picture_seed
from zbench.stages.inputs import ModelHandle
from zbench.stages.samples import Sample, SamplesView
from zbench.store import StageFolder, Store

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.model import Model
    from zbench.prompts import Prompt, PromptSet

_BATCH = 32


@dataclass(frozen=True)
class Hand:
    """Who draws: the original, or one that something was done to.

    Attributes:
        level: Of damage to the weights (`zbench.studies.damage`).
        damage_seed: Its direction.
        guidance: Scale of guidance; the model's own when None.
        method: Erasure method, with the preset that suits the model.
        concept: What it erased.
    """

    level: float = 0.0
    damage_seed: int = 0
    guidance: float | None = None
    method: str | None = None
    concept: str = ""


ORIGINAL = Hand()


class Studio:
    """Draws for the study.

    Args:
        work: Run folder of the study's own.
        model: Catalogue name or folder of the model.
        drawn: Told how many more pictures are there.
    """

    def __init__(self, work: Path, model: str, drawn: Callable[[int], None] | None = None) -> None:
        self.store = Store.open(work)
        self.model = ModelHandle(model)
        self._drawn = drawn or (lambda count: None)

    def draw(self, samples: Sequence[Sample], hand: Hand = ORIGINAL) -> SamplesView:
        """Pictures of some prompts and seeds, drawn or found.

        Raises:
            StoreError: The run folder cannot be used.
            TrainingDivergedError: The erasure failed.
        """
        with self.store.lock():
            erasure = self._erasure(hand)
            folder = self._folder(samples, hand, erasure)
            if not folder.is_complete():
                with self._changed(hand):
                    generate(folder, erasure, self.model, list(samples), self.model.spec.steps, _BATCH)
        self._drawn(len(samples))
        return SamplesView.load(folder.path)

    def decoded_noise(self, seeds: Sequence[int]) -> Tensor:
        """What the decoder makes of pure latent noise: a generator that has not denoised anything.

        Returns:
            uint8 [len(seeds), 3, H, W].
        """
        import torch

        model = self.model.model
        vae: Any = model.pipeline.vae
        latents = model.noise(seeds) / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        with torch.inference_mode():
            parts = [vae.decode(part.to(vae.dtype)).sample.float() for part in latents.split(_BATCH)]
        pictures = (torch.cat(parts) / 2 + 0.5).clamp(0, 1)
        self._drawn(len(seeds))
        return (pictures.nan_to_num(0.0) * 255).round().to("cpu", torch.uint8)

    def _erasure(self, hand: Hand) -> StageFolder | None:
        if hand.method is None:
            return None
        from zbench.concepts import load_concept
        from zbench.registry import load_method
        from zbench.runner.planning import choose_preset

        spec = self.model.spec
        concept = load_concept(hand.concept, spec.domain)
        kind = load_method(hand.method)
        method = kind.of(kind.presets.get(choose_preset(kind, None, spec) or "", {}))
        folder = erase_folder(self.store, method, concept, self.model)
        if not folder.is_complete():
            erase(folder, method, concept, self.model)
        return folder

    def _folder(self, samples: Sequence[Sample], hand: Hand, erasure: StageFolder | None) -> StageFolder:
        folder = generate_folder(self.store, erasure, self.model, list(samples), self.model.spec.steps)
        changes: dict[str, Any] = {}
        if hand.level:
            changes["damage"] = {"level": hand.level, "seed": hand.damage_seed}
        if hand.guidance is not None:
            changes["over_guided"] = hand.guidance
        if not changes:
            return folder
        return self.store.stage("samples", {**folder.config, **changes}, prefix="pictures-broken")

    def _changed(self, hand: Hand) -> AbstractContextManager[None]:
        from zbench.studies.damage import damaged

        if hand.level:
            return damaged(self.model.model, hand.level, hand.damage_seed)
        return nullcontext() if hand.guidance is None else _guided(self.model.model, hand.guidance)


@contextmanager
def _guided(model: Model, scale: float) -> Iterator[None]:
    """The model sampled with another scale of guidance."""
    before = model.spec
    model.spec = before.model_copy(update={"guidance_scale": scale})
    try:
        yield
    finally:
        model.spec = before


def samples_of(prompts: PromptSet, rows: Sequence[Prompt], repetition: int = 0) -> list[Sample]:
    """One description for each prompt, with the seed that a run gives it."""
    return [
        Sample(
            prompt_id=prompt.id, prompt=prompt.text, role="unrelated", repetition=repetition,
            seed=picture_seed(prompt.id, repetition), prompt_set=prompts.name, object=prompt.object,
        )
        for prompt in rows
    ]  # fmt: skip
