"""SLD, safe latent diffusion (Schramowski et al., CVPR 2023), in velocity form, no training.

    mu      = min(1, s_S |v_c - v_S|)  where v_c - v_S < lambda,  0 elsewhere      (element by element)
    gamma_t = mu (v_S - v_u) + s_m nu_t,     nu_t+1 = beta_m nu_t + (1 - beta_m) gamma_t,     nu_0 = 0
    v'      = v_c - gamma_t                  once the warm-up is over

v_c is the velocity under the prompt, v_S under a caption of the concept, v_u under the empty prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class SLD(Method):
    """Safety guidance that acts where prompt and concept pull the same way.

    Attributes:
        scale: s_S.
        threshold: lambda, in units of the velocity (latents have unit variance).
        momentum_scale: s_m.
        momentum_decay: beta_m.
        start: Timestep at which the guidance sets in; 1000 is no warm-up.
        strength: Factor on gamma; 1 is the paper's.
        wording: Caption of the concept: the list of its ``phrases`` (the paper), or a training ``prompt``.
    """

    name: ClassVar[str] = "sld"
    card: ClassVar[MethodCard] = MethodCard(
        title="SLD (safe latent diffusion)",
        paper="Schramowski et al.: Safe Latent Diffusion (CVPR 2023)",
        arxiv="2211.05105",
        reference_code_licence="unpinned",
        rows="none",
        weights="none: the velocity is changed after the transformer",
        needs_training=False,
        needs_pictures=False,
        deviations=(
            "velocities instead of noise predictions: differences of the two differ by the factor 1 - sigma, "
            "which would hide the concept where a few-step sampler decides most, at sigma near 1",
            "the weight is min(1, s_S |.|), as in the published pipeline; the paper prints a maximum",
            "the warm-up is a timestep, not a number of steps, so that it means the same for every sampler",
            "a guidance-distilled model's velocities are guided ones, so gamma is not multiplied by a "
            "guidance scale; a pipeline with guidance does that itself",
            "neither the paper of Z-Erase nor its release has this row",
        ),
        notes=(
            "Costs two more evaluations of the transformer per sampler step: pictures take thrice as long.",
            "Paper preset: the configuration Hyp-Strong; its warm-up of 7 of 50 steps ends at the "
            "signal-to-noise ratio that t = 871 has here.",
            "Whoever has the weights can leave it out: it guards a service, not a released model.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"scale": 2000.0, "threshold": 0.025, "momentum_scale": 0.5, "momentum_decay": 0.7},
        "miniature": {"start": 1000.0, "threshold": 0.3, "strength": 1.0, "wording": "phrases"},
    }

    scale: float = Field(default=2000.0, ge=0)
    threshold: float = 0.025
    momentum_scale: float = Field(default=0.5, ge=0)
    momentum_decay: float = Field(default=0.7, ge=0, lt=1)
    start: float = Field(default=871.0, gt=0, le=1000)
    strength: float = Field(default=1.0, ge=0)
    wording: Literal["phrases", "prompt"] = "phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Encodes the concept; everything else happens while sampling."""
        from zbench.edits import SafetyGuidanceEdit
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        unsafe = model.encode([training.describe(model, concept, self.wording)])[0]
        guidance = self.model_dump(exclude={"training_seed", "wording"})
        edit = SafetyGuidanceEdit(unsafe, **guidance)
        if progress:
            progress(1, 1)
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())
