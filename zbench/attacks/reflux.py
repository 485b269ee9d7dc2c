"""ReFlux: an adapter trained against the erased model brings the concept back (arXiv 2510.00635).

    x_t = (1 - sigma) x_0 + sigma e,   x_0 a picture of the concept, c its prompt
    L_velocity  = E || v(x_t, c) - [ v_e(x_t, r) + eta ( (e - x_0) - v_e(x_t, r) ) ] ||^2
    L_attention = attention that image tokens pay to the concept's tokens
    L_flow      = E || v(x_t, c) - (e - x_0) ||^2
    L = w_v L_velocity - w_a L_attention + w_f L_flow

v is the erased model with the adapter, v_e without it, r the empty prompt or the anchor. This is an erasing
loss turned round: where that leads from the concept's velocity to the reference and past it, this leads from
the reference to the concept's and past it. With eta = 1 it is flow matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.changed_models import ONE_FOR_ALL, AdapterAttack

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.target_pictures import Pictures
    from zbench.edits import Edit, LoraEdit
    from zbench.training import Draw, Objective


class ReFlux(AdapterAttack):
    """The erasing losses turned round, on pictures of the concept.

    Attributes:
        eta: How far past the reference the velocity is led: 1 to where the pictures are.
        reference: r: the ``empty`` prompt or the ``anchor`` prompts.
        velocity_weight: w_v.
        attention_weight: w_a.
        flow_weight: w_f.
        defence_scale: Strength of the erasure under the adapter where pictures are drawn; the training is
            against the whole of it.
    """

    name: ClassVar[str] = "reflux"
    card: ClassVar[AttackCard] = AttackCard(
        title="ReFlux (adversarial adapter)",
        paper="Erased, But Not Forgotten: Erased Rectified Flow Transformers Still Remain Unsafe Under "
        "Concept Attack (2025)",
        arxiv="2510.00635",
        knowledge="weights",
        control="random adapters with the norms of the trained ones, as many",
        deviations=(
            "the adapter stands beside the whole erasure; the release averages it with the defence's own "
            "LoRA, half and half, which by itself halves the defence (defence_scale 0.5 halves it, and "
            "leaves the adapter whole)",
            "so it attacks erasures of every kind; the release those by LoRA alone",
            "L_velocity: the release's is minus the mean of a prediction, without a lower bound, plus a "
            "squared difference of two others; here it has the form of the erasing loss that it answers, and "
            "its direction comes from pictures of the concept, since an erased model's own may be reversed",
            "L_attention: mean probability on the concept's tokens, in [0, 1]; the release takes the norm of "
            "scores and needs two more terms to hold it back",
            "pictures of the concept are the original's own; its velocities are not used: who has them needs "
            "no attack",
            "text-row adapters on to_q, to_k, to_v; the release: add_q_proj, add_k_proj of Flux",
            "no clipping of gradients: the step of AdamW does not grow with them",
        ),
        notes=(
            "paper preset: rank, targets, rate, steps, weights of L_velocity and L_flow as released; "
            "batch, number of pictures, eta and the weight of L_attention are ours.",
            "Who may train on pictures of the concept can teach it to any model, erased or not: read it "
            "against how many steps that takes, not against zero.",
            "On a guidance-distilled model pictures lead towards the undistilled field.",
            ONE_FOR_ALL,
            "Checkpoints of one training are the candidates; a bigger budget trains on.",
            "The miniature preset was tried on tuning prompts of violence and picasso, and not searched.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"training_batch": 1, "pictures": 64, "targets": ("to_q", "to_k")},
        "miniature": {"steps_per_candidate": 25, "pictures": 16},
    }

    eta: float = Field(default=2.0, ge=0)
    reference: Literal["empty", "anchor"] = "empty"
    velocity_weight: float = Field(default=1.0, ge=0)
    attention_weight: float = Field(default=0.1, ge=0)
    flow_weight: float = Field(default=0.1, ge=0)
    defence_scale: float = Field(default=1.0, ge=0)

    def supports(self, context: Context) -> str | None:
        """Something to minimise, gradients, and a strength to turn down where that is asked for."""
        from zbench.errors import ConfigurationError

        if self.velocity_weight == self.attention_weight == self.flow_weight == 0:
            return "velocity_weight, attention_weight and flow_weight are all 0: nothing would be trained"
        try:
            self.defence(context)
        except ConfigurationError as error:
            return f"defence_scale {self.defence_scale:g}: {error}"
        return super().supports(context)

    def defence(self, context: Context) -> Edit:
        """The erasure at `defence_scale`."""
        return context.erasure if self.defence_scale == 1 else context.erasure.scaled(self.defence_scale)

    def prompts_of(self, context: Context) -> Sequence[str]:
        """The concept's training prompts in turn, every member of a composite one among them."""
        return [context.concept.training_prompts[index] for index in self._chosen(context)]

    def references_of(self, context: Context) -> list[str]:
        """The reference prompt of each of these."""
        anchors = context.concept.anchor_prompts
        return [anchors[index] if self.reference == "anchor" else "" for index in self._chosen(context)]

    def _chosen(self, context: Context) -> list[int]:
        from zbench.training import over_members

        return over_members(context.concept, context.concept.training_prompts, self.pictures)

    def objective(self, context: Context, adapter: LoraEdit, bank: Pictures) -> Objective:
        """L."""
        return _ReFluxObjective(self, context, adapter, bank)


class _ReFluxObjective:
    """Gradients of L on fresh draws."""

    def __init__(self, attack: ReFlux, context: Context, adapter: LoraEdit, bank: Pictures) -> None:
        from zbench.training import concept_columns, encode_each

        self.attack, self.model, self.adapter, self.bank = attack, context.model, adapter, bank
        self.generator = context.generator("training")
        # Encoded anew: guards of the erased model act on what they have seen as a prompt.
        self.captions = encode_each(self.model, bank.prompts)
        self.references = encode_each(self.model, attack.references_of(context))
        self.columns = [concept_columns(self.model, context.concept, prompt) for prompt in bank.prompts]

    def gradients(self) -> dict[str, float]:
        """Adds the gradient of L."""
        from zbench import training

        attack, draw = (
            self.attack,
            training.flow_points(self.bank, self.generator, self.attack.training_batch),
        )
        entries, target = draw.entries.tolist(), self.target(draw)
        columns: list[list[int]] = [self.columns[entry] for entry in entries]
        with training.AttentionColumns(self.model, columns, None if attack.attention_weight else []) as seen:
            captions = [self.captions[entry] for entry in entries]
            live = self.model.velocity(draw.latents, draw.timesteps, captions)
            velocity = training.mean_square(live, target)
            flow = training.mean_square(live, draw.velocities)
            attention = training.attention_loss(seen.masses) if seen.masses else flow.new_zeros(())
            loss = attack.velocity_weight * velocity - attack.attention_weight * attention
            loss = loss + attack.flow_weight * flow
            training.backward(loss)
        figures = {"loss": loss, "velocity": velocity, "attention": attention, "flow": flow}
        return {name: figure.item() for name, figure in figures.items()}

    def target(self, draw: Draw) -> Tensor:
        """Where L_velocity leads, from what the erased model says of the reference."""
        from zbench import training

        captions = [self.references[entry] for entry in draw.entries.tolist()]
        with self.adapter.disabled():
            erased = training.frozen_call(lambda: self.model.velocity(draw.latents, draw.timesteps, captions))
        return training.erase_target(draw.velocities, erased, -self.attack.eta)

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
