"""Z-Erase: concept erasure on the text rows of a single-stream transformer (arXiv 2603.25074).

    L_erase = E || v(x_t, c_er) - [ v0(x_t, "") - eta ( v0(x_t, c_er) - v0(x_t, "") ) ] ||^2
    L_attn  = attention that image tokens pay to the concept's tokens
    L_er    = L_erase + L_attn
    L_pr    = E || v(y_t, "") - v0(y_t, "") ||^2 + E || v(y_t, c_pr) - v0(y_t, c_pr) ||^2
    d       = grad L_er + lambda grad L_pr,   lambda >= 0 adapted such that <grad L_pr, d> >= -epsilon

v is the model being trained, v0 the frozen one, x_t and y_t points on v0's trajectories under c_er and c_pr.
lambda <- max(0, lambda - beta g~),   g~ = ( L_pr(before the step) - L_pr(after it) ) / alpha + epsilon
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.model import Model
    from zbench.training import Meter

# The paper's appendix: slack per family.
EPSILON = {"nsfw": 1e-3, "style": 1e-3, "entity": 1e-2, "abstraction": 1e-2, "identity": 1e-2}


class ZErase(LoraMethod):
    """Z-Erase as the paper states it.

    Attributes:
        eta: Negative guidance of the erase target.
        reference: What the target starts from: the ``empty`` prompt (paper) or the ``anchor`` prompts.
        erase_weight: Weight of L_erase; 0 leaves it out, and traces it all the same.
        attention_weight: Weight of L_attn; 0 skips it.
        modulation: How lambda is found: ``implicit`` (paper), ``exact`` (two gradients), ``fixed``.
        multiplier: lambda at the start; with ``fixed``, for good.
        multiplier_max: Upper clamp of lambda; none if None (the paper).
        beta: Step size of the implicit update of lambda.
        epsilon: Slack of the preservation constraint; the paper's value for the concept's family if None.
        shuffle: Probability that a trajectory's prompt has its words shuffled (phrases stay whole).
        trajectories: Cached trajectories under the concept's prompts.
        preserve_trajectories: Cached trajectories under prompts to preserve.
        preserve_batch: Points per step for L_pr; each is seen under the empty prompt and under its own.
        preserve_anchors: Whether the anchor prompts are preserved along with the concept's preserve prompts.
        trace_gradients: Trace norms and cosine of both gradients every so many steps, for one more forward
            and backward each, not counted, and the same weights; 0 never does.
    """

    name: ClassVar[str] = "zerase"
    card: ClassVar[MethodCard] = MethodCard(
        title="Z-Erase",
        paper="Z-Erase: concept erasure for single-stream diffusion transformers (ICML 2026)",
        arxiv="2603.25074",
        reference_code_licence="contradictory: LICENSE file BSD-3-Clause, README badge CC-BY",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "lambda is clamped at zero, as the dual problem asks; the paper's algorithm omits the clamp",
            "L_pr is probed on the same samples before and after a step",
            "L_attn: mean over layers, heads and image queries of the summed columns (paper: open)",
            "trajectories and frozen predictions are cached; shuffled prompts are drawn once per trajectory",
            "squared norms are means over elements, so that beta and epsilon do not depend on resolution",
            "the released code departs from the paper, this does not: live anchor predictions as targets, no "
            "to_v, a multiplier that follows a fixed schedule, adapters scaled by 10 to 25 after training",
        ),
        notes=(
            "The empty-prompt velocity of a guidance-distilled model (Z-Image-Turbo, the miniature) is not a "
            "true unconditional score: what follows from that is to be measured, not assumed.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Rank, batch, shuffling and layers of the paper preset are the release's: the paper is silent.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 1000, "batch_size": 1, "preserve_batch": 1, "trajectories": 64,
                  "preserve_trajectories": 64, "trace_gradients": 20},
        "miniature": {"steps": 60, "batch_size": 4, "preserve_batch": 2, "trajectories": 16,
                      "preserve_trajectories": 16, "learning_rate": 1e-3, "eta": 2.0, "shuffle": 0.5,
                      "trace_gradients": 5},
    }  # fmt: skip

    eta: float = Field(default=2.0, ge=0)
    reference: Literal["empty", "anchor"] = "empty"
    erase_weight: float = Field(default=1.0, ge=0)
    attention_weight: float = Field(default=1.0, ge=0)
    modulation: Literal["implicit", "exact", "fixed"] = "implicit"
    multiplier: float = Field(default=0.0, ge=0)
    multiplier_max: float | None = Field(default=None, gt=0)
    beta: float = Field(default=0.1, ge=0)
    epsilon: float | None = Field(default=None, ge=0)
    shuffle: float = Field(default=0.9, ge=0, le=1)
    trajectories: int = Field(default=32, ge=1)
    preserve_trajectories: int = Field(default=32, ge=1)
    preserve_batch: int = Field(default=4, ge=1)
    preserve_anchors: bool = True
    trace_gradients: int = Field(default=0, ge=0)

    def supports(self, concept: Concept) -> str | None:
        """Something must be left to minimise; L_attn needs a phrase in at least one training prompt."""
        if self.erase_weight == self.attention_weight == 0:
            return "erase_weight and attention_weight are both 0: nothing would be erased"
        named = self.attention_weight == 0 or concept.is_named
        return None if named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equations."""
        self.require_support(concept)
        return self.trained(model, concept, training.Meter(model), progress)

    def trained(self, model: Model, concept: Concept, meter: Meter, progress: Progress | None) -> Erasure:
        """The training alone; what `meter` has counted before belongs to its cost."""
        edit = self.lora()
        objective = ZEraseObjective(self, model, concept, edit)
        return self.fit(model, concept, edit, objective, meter, progress)


class ZEraseObjective:
    """L_er and L_pr on fresh draws, from trajectories and frozen predictions that are computed here, once."""

    def __init__(self, method: ZErase, model: Model, concept: Concept, edit: Edit) -> None:
        self.method, self.model = method, model
        self.generator = training.generator(method.training_seed)
        epsilon = EPSILON[concept.family] if method.epsilon is None else method.epsilon
        self.modulation = training.LagrangianModulation(
            method.modulation, method.beta, epsilon, method.learning_rate, method.multiplier,
            method.multiplier_max,
        )  # fmt: skip
        self.step = training.ConstrainedStep(model, edit, self.modulation, method.trace_gradients)
        self.points = training.ConceptPoints(
            model, concept, trajectories=method.trajectories, reference=method.reference,
            training_seed=method.training_seed, batch_size=method.batch_size,
            shuffle=method.shuffle, generator=self.generator,
        )  # fmt: skip
        self.preservation = training.Preservation(
            model, training.kept_prompts(concept, anchors=method.preserve_anchors),
            trajectories=method.preserve_trajectories, training_seed=method.training_seed,
            batch_size=method.batch_size,
        )  # fmt: skip

    def gradients(self) -> dict[str, float]:
        """Adds the gradient of L_er + lambda L_pr on a fresh draw."""
        kept = self.preservation.bank.draw(self.generator, self.method.preserve_batch)
        return self.step.gradients(self.erase_gradients, lambda: self.preservation.loss(kept))

    def erase_gradients(self) -> dict[str, float]:
        """Adds the gradient of L_er, its two terms weighted."""
        method, draw = self.method, self.points.bank.draw(self.generator, self.method.batch_size)
        columns = [self.points.columns[entry] for entry in draw.entries.tolist()]
        watched: list[int] | None = None if method.attention_weight else []
        with training.AttentionColumns(self.model, columns, watched) as attention:
            live = self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)
            erase = training.erase_loss(live, draw.velocities, self.points.reference.at(draw), method.eta)
            attended = training.attention_loss(attention.masses) if attention.masses else erase.new_zeros(())
            training.backward(method.erase_weight * erase + method.attention_weight * attended)
        return {"erase": erase.item(), "attention": attended.item()}

    def after_step(self) -> dict[str, float]:
        """Probes L_pr again on the same points and moves lambda (implicit mode only)."""
        return self.step.after_step()
