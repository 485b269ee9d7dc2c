"""EAP, erasing concepts with adversarial preservation (Bui et al., NeurIPS 2024), on text rows.

    min over theta, max over pi:  L_erase(theta) + s L_pr(theta, c(pi))
    L_erase = E || v(x_t, c_er) - [ v0(x_t, r) - eta ( v0(x_t, c_er) - v0(x_t, r) ) ] ||^2
    L_pr(c) = E || v(y_t, c) - v0(y_t, c) ||^2,   y_t on the trajectory of c
    c(pi)   = P_k E_k + sum_i (w_i - sg[w_i]) P_k E_i,   w = softmax((pi + g) / tau),   k = argmax w

v is the model being trained, v0 the frozen one, r the empty prompt or the anchor, E_i the caption of the i-th
candidate, g Gumbel noise, sg stops the gradient. Captions are what is mixed: the forward pass sees exactly
caption k, the gradient goes through the mixture (straight through), P_k giving every caption k's length.
A step descends in theta, then ascends in pi: the caption that suffers most is preserved most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.edits import LoraEdit
    from zbench.erasure import Erasure
    from zbench.model import Model


class EAP(LoraMethod):
    """Erasure that preserves the currently most sensitive captions.

    Attributes:
        eta: Negative guidance of the erase target.
        reference: r, what the target starts from: the ``empty`` prompt or the ``anchor`` prompts.
        preserve_weight: s.
        trajectories: Cached trajectories under the concept's prompts.
        preserve_batch: Candidates drawn per step, each for itself; as many again for the step of pi.
        vocabulary: Words of the tokenizer that are looked at, most frequent first.
        closest: How many of them, by similarity to the concept, candidates are spread over.
        words: Candidates among those.
        prompts: Further candidates among the concept's prompts to preserve.
        temperature: tau.
        mixture_learning_rate: Of pi, by Adam.
    """

    name: ClassVar[str] = "eap"
    card: ClassVar[MethodCard] = MethodCard(
        title="EAP (adversarial preservation)",
        paper="Bui et al.: Erasing Undesirable Concepts in Diffusion Models with Adversarial Preservation "
        "(NeurIPS 2024)",
        arxiv="2410.15618",
        reference_code_licence="unpinned",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "text-row adapters on to_q, to_k, to_v: the model has no cross-attention to fine-tune",
            "candidates are words of the model's own tokenizer (no word list) and the concept's prompts to "
            "preserve; other concepts of the catalogue are not named: what suffers is for the model to say",
            "beginnings and continuations of the concept's phrases and words about minors are no candidates",
            "words stand after an article, since a byte-level tokenizer writes them otherwise at the start",
            "words are ranked by the rows from their last token on; the Z-Erase port compares row 0, where a "
            "causal encoder has not seen them; candidates are spread over the ranking, instead of k-means",
            "captions have no common length: the gradient aligns them with the drawn one",
            "the ascent follows the whole gradient of L_pr; both released codes hold v0's prediction fixed, "
            "which rewards captions that merely differ from the drawn one",
            "y_t is a point of the drawn caption's trajectory at its own t; the Z-Erase port pairs finished "
            "samples, made with the wrong sign of the velocity, with any t",
            "losses are in velocities; the authors' are in predicted x0",
        ),
        notes=(
            "paper preset: eta, tau, steps, numbers of words as released; rank, learning rate and decay of "
            "the Z-Erase port; step size of pi of the authors' scripts.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            **{"steps": 1000, "batch_size": 1, "preserve_batch": 1, "trajectories": 64},
            **{"learning_rate": 1e-4, "weight_decay": 1e-4},
        },
        "miniature": {
            "steps": 60, "batch_size": 4, "preserve_batch": 2, "trajectories": 16, "learning_rate": 5e-3,
            "preserve_weight": 3.0, "closest": 60, "words": 12, "prompts": 12, "mixture_learning_rate": 0.1,
        },
    }  # fmt: skip

    eta: float = Field(default=1.0, ge=0)
    reference: Literal["empty", "anchor"] = "empty"
    preserve_weight: float = Field(default=1.0, ge=0)
    trajectories: int = Field(default=32, ge=1)
    preserve_batch: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=3000, ge=1)
    closest: int = Field(default=1000, ge=1)
    words: int = Field(default=100, ge=0)
    prompts: int = Field(default=24, ge=1)
    temperature: float = Field(default=2.0, gt=0)
    mixture_learning_rate: float = Field(default=1e-2, gt=0)

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equations."""
        self.require_support(concept)
        meter, edit = training.Meter(model), cast("LoraEdit", self.lora())
        return self.fit(model, concept, edit, EAPObjective(self, model, concept, edit), meter, progress)

    def candidates(self, model: Model, concept: Concept) -> list[str]:
        """What could suffer: words of the model's vocabulary, and prompts to preserve."""
        words = training.related_words(
            model, concept, vocabulary=self.vocabulary, closest=self.closest, count=self.words
        )
        return list(dict.fromkeys([*words, *concept.preserve_prompts[: self.prompts]]))


class EAPObjective:
    """The descent in theta and the ascent in pi, on trajectories and predictions that are made here, once."""

    def __init__(self, method: EAP, model: Model, concept: Concept, edit: LoraEdit) -> None:
        self.method, self.model, self.edit = method, model, edit
        self.generator = training.generator(method.training_seed)
        common: dict[str, int] = {"training_seed": method.training_seed, "batch_size": method.batch_size}
        target: dict[str, Any] = {"reference": method.reference, "eta": method.eta, **common}
        self.erasure = training.GuidedErasure(model, concept, trajectories=method.trajectories, **target)
        self.mixture = training.CaptionMixture(
            training.sampled_bank(model, method.candidates(model, concept), "candidates", **common),
            training.template_rows(model),
            temperature=method.temperature,
            learning_rate=method.mixture_learning_rate,
            generator=self.generator,
        )

    def gradients(self) -> dict[str, float]:
        """Gradient of L_erase + s L_pr in theta, at captions drawn from the mixture."""
        erase = self.erasure.loss(self.generator)
        training.backward(erase)
        kept, _ = self.mixture.draw(self.method.preserve_batch)
        preserve = training.drift(self.model, kept)
        training.backward(self.method.preserve_weight * preserve)
        return {"erase": erase.item(), "preserve": preserve.item()}

    def after_step(self) -> dict[str, float]:
        """Ascends L_pr in pi, by its gradient with respect to the drawn captions."""
        kept, weights = self.mixture.draw(self.method.preserve_batch)
        captions = [caption.float().clone().requires_grad_() for caption in kept.embeddings]
        live = self.model.velocity(kept.latents, kept.timesteps, captions)
        residual = live.detach() - kept.velocities
        towards = 2 * residual / residual.numel()
        through_live = training.pull_back(live, captions, towards)
        # v0 depends on the caption too. Activations may be recomputed in a backward pass, so its own must run
        # while the edit is off.
        with self.edit.disabled():
            frozen = self.model.velocity(kept.latents, kept.timesteps, captions)
            through_frozen = training.pull_back(frozen, captions, towards)
        self.mixture.ascend(weights, [a - b for a, b in zip(through_live, through_frozen, strict=True)])
        return {"sensitivity": residual.square().mean().item(), "entropy": self.mixture.entropy()}
