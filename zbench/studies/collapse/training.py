"""The fine-tunings themselves: Z-Erase's losses under any convention, on points prepared once."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zbench.errors import TrainingDivergedError
from zbench.studies.collapse.conventions import Convention
from zbench.studies.collapse.plan import Run

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.edits import LoraEdit
    from zbench.model import Model
    from zbench.training import FrozenPredictions, TrajectoryBank

RANK = 8
PRESERVE_WEIGHT = 1.0
_NOISE = {"erase": 1, "preserve": 2}


@dataclass(frozen=True)
class Points:
    """Where the losses are evaluated, and what the frozen model says there.

    Attributes:
        bank: Latents, times, prompts; `bank.velocities` are the frozen predictions of the convention.
        empty: Frozen predictions for the empty prompt.
        empty_embedding: Its embedding, [L, D].
    """

    bank: TrajectoryBank
    empty: FrozenPredictions
    empty_embedding: Tensor


@dataclass(frozen=True)
class Trained:
    """A finished fine-tuning.

    Attributes:
        edit: The adapters as training left them; of what diverged, as they were before the step that failed.
        trace: Figures of every finished step, all of them finite.
        diverged: What stopped being finite, if anything did.
    """

    edit: LoraEdit
    trace: list[dict[str, float]]
    diverged: str | None


def constants() -> dict[str, Any]:
    """What all runs have in common and no option changes, for the keys of what is kept."""
    return {"rank": RANK, "preserve_weight": PRESERVE_WEIGHT, "noise_seeds": dict(_NOISE)}


class Bench:
    """Trains runs on one model and concept; trajectories and frozen predictions are shared between runs.

    Args:
        model: No edit attached.
        concept: What is erased.
        batch_size: Samples per call.
        preserve_batch: Points of L_pr per step; each is seen under two prompts.
        trajectories: For the erase loss, and again for preservation.
        gradient_checkpointing: Recompute activations, for models that do not fit otherwise.
    """

    def __init__(
        self,
        model: Model,
        concept: Concept,
        *,
        batch_size: int,
        preserve_batch: int,
        trajectories: int,
        gradient_checkpointing: bool = False,
    ) -> None:
        self.model, self.concept = model, concept
        self.batch_size, self.preserve_batch = batch_size, preserve_batch
        self.trajectories = trajectories
        self.gradient_checkpointing = gradient_checkpointing
        self._banks: dict[str, TrajectoryBank] = {}
        self._points: dict[tuple[str, Convention], Points] = {}
        self._anchors: dict[Convention, FrozenPredictions] = {}
        self._ranking: list[int] | None = None

    def train(self, run: Run, progress: Callable[[int, int], None] | None = None) -> Trained:
        """Fine-tunes; the model is as before afterwards. What diverges is kept as it was before that step."""
        from zbench import training
        from zbench.edits import LoraEdit

        edit = LoraEdit(RANK, targets=run.targets, layers=self.layers(run), rows=run.rows, seed=run.seed)
        objective = _Objective(self, run)
        diverged, finished = None, 0

        def watch(done: int, total: int) -> None:
            nonlocal finished
            finished = done
            if progress is not None:
                progress(done, total)

        try:
            with run.convention.applied(self.model):
                training.train(
                    self.model, edit, objective, steps=run.steps, learning_rate=run.learning_rate,
                    gradient_checkpointing=self.gradient_checkpointing, progress=watch,
                )  # fmt: skip
        except TrainingDivergedError as error:
            diverged = str(error)
        return Trained(edit, objective.trace[:finished], diverged)

    def layers(self, run: Run) -> list[int] | None:
        """The layers that get adapters; None for all."""
        if run.top_layers is None:
            return None
        if self._ranking is None:
            from zbench.training.localisation import dominant_layers, localisation_scores

            scores = localisation_scores(self.model, self.concept, batch_size=self.batch_size)
            self._ranking = dominant_layers(scores, len(scores))
        return sorted(self._ranking[: run.top_layers])

    def columns(self) -> list[list[int]]:
        """Token columns of the concept, one list for each trajectory of the erase loss."""
        from zbench import training

        return [
            training.concept_columns(self.model, self.concept, prompt) for prompt in self._prompts("erase")
        ]

    def points(self, purpose: str, convention: Convention) -> Points:
        """The points of a loss under a convention, prepared when they are first asked for.

        Args:
            purpose: ``erase`` or ``preserve``.
            convention: Of the predictions.
        """
        key = (purpose, convention)
        if key not in self._points:
            self._points[key] = self._prepare(purpose, convention)
        return self._points[key]

    def anchors(self, convention: Convention) -> FrozenPredictions:
        """Frozen predictions for the anchor prompts at the points of the erase loss."""
        from zbench import training

        if convention not in self._anchors:
            bank = self.points("erase", convention).bank
            chosen = training.spread(self.concept.anchor_prompts, self.trajectories)
            embeddings = convention.encode(self.model, [self.concept.anchor_prompts[i] for i in chosen])
            with convention.applied(self.model):
                self._anchors[convention] = self._frozen(bank, embeddings)
        return self._anchors[convention]

    def _prompts(self, purpose: str) -> list[str]:
        from zbench import training

        concept = self.concept
        kept = dict.fromkeys((*concept.preserve_prompts, *concept.anchor_prompts))
        choices = list(concept.training_prompts if purpose == "erase" else kept)
        return [choices[index] for index in training.spread(choices, self.trajectories)]

    def _bank(self, purpose: str) -> TrajectoryBank:
        """The frozen model's trajectories, sampled once with the right conventions."""
        from zbench import training

        if purpose not in self._banks:
            seeds = training.seeds_for(f"collapse-{purpose}", 0, self.trajectories)
            self._banks[purpose] = training.TrajectoryBank.sample(
                self.model, self._prompts(purpose), seeds, batch_size=self.batch_size
            )
        return self._banks[purpose]

    def _prepare(self, purpose: str, convention: Convention) -> Points:
        from zbench import training

        bank = copy(self._bank(purpose))
        bank.embeddings = convention.encode(self.model, bank.prompts)
        if convention.latents == "noise":
            bank.latents = training.noise_like(bank.latents, training.generator(_NOISE[purpose]))
        empty = convention.encode(self.model, [""])[0]
        with convention.applied(self.model):
            bank.velocities = self._frozen(bank, bank.embeddings).velocities
            return Points(bank, self._frozen(bank, [empty] * len(bank)), empty)

    def _frozen(self, bank: TrajectoryBank, embeddings: list[Tensor]) -> FrozenPredictions:
        from zbench.training import FrozenPredictions

        return FrozenPredictions.compute(self.model, bank, embeddings, batch_size=self.batch_size)


class _Objective:
    """Gradients of L_erase, with L_attn and L_pr where the run wants them."""

    def __init__(self, bench: Bench, run: Run) -> None:
        from zbench import training

        self.bench, self.run, self.model = bench, run, bench.model
        self.erased = bench.points("erase", run.convention)
        anchored = run.reference == "anchor"
        self.reference = bench.anchors(run.convention) if anchored else self.erased.empty
        self.kept = bench.points("preserve", run.convention) if run.preservation else None
        self.columns = bench.columns() if run.attention else []
        self.generator = training.generator(run.seed)
        self.trace: list[dict[str, float]] = []

    def gradients(self) -> dict[str, float]:
        """Adds the gradients of one step."""
        row = {**self._erase(), **self._preserve()}
        self.trace.append(row)
        return row

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}

    def _erase(self) -> dict[str, float]:
        from zbench import training

        points, model = self.erased, self.model
        draw = points.bank.draw(self.generator, self.bench.batch_size)
        columns = [self.columns[entry] for entry in draw.entries.tolist()] if self.columns else []
        with training.AttentionColumns(model, columns, None if columns else []) as watched:
            live = model.velocity(draw.latents, draw.timesteps, draw.embeddings)
            erase = training.erase_loss(live, draw.velocities, self.reference.at(draw), self.run.eta)
            if not columns:
                training.backward(erase)
                return {"erase": erase.item()}
            attended = training.attention_loss(watched.masses)
            training.backward(erase + attended)
        return {"erase": erase.item(), "attention": attended.item()}

    def _preserve(self) -> dict[str, float]:
        from zbench import training

        points = self.kept
        if points is None:
            return {}
        draw = points.bank.draw(self.generator, self.bench.preserve_batch)
        count = len(draw.entries)
        live = self.model.velocity(
            draw.latents.repeat(2, 1, 1, 1),
            draw.timesteps.repeat(2),
            [points.empty_embedding] * count + draw.embeddings,
        )
        loss = training.preserve_loss(live[:count], points.empty.at(draw), live[count:], draw.velocities)
        training.backward(PRESERVE_WEIGHT * loss)
        return {"preserve": loss.item()}
