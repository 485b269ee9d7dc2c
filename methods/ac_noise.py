"""AC noise-based, ablating concepts (Kumari et al., ICCV 2023): the variant that matches the noise.

    x_t = (1 - sigma) x0 + sigma e,  x0 drawn by the frozen model under the anchor prompt c_a
    E || v(x_t, c_er) - (e - x0) ||^2  +  w E || v(x_t, c_a) - (e - x0) ||^2

The training is that of `ac`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from zbench.method import MethodCard

from .ac import AC, DEVIATIONS, NOTES


class ACNoise(AC):
    """Ablating concepts by teaching the model that anchor pictures belong to the concept's prompts.

    Attributes:
        variant: ``noise``; the other one is the method `ac`.
    """

    name: ClassVar[str] = "ac_noise"
    card: ClassVar[MethodCard] = MethodCard(
        title="AC noise (ablating concepts, noise-based)",
        paper="Kumari et al.: Ablating Concepts in Text-to-Image Diffusion Models (ICCV 2023)",
        arxiv="2303.13516",
        reference_code_licence="unpinned",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(*DEVIATIONS, "the Z-Erase release ships no noise-based variant"),
        notes=NOTES,
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 200, "batch_size": 1, "learning_rate": 1e-3, "rank": 8, "trajectories": 64},
        "miniature": {
            "steps": 30,
            "batch_size": 4,
            "learning_rate": 5e-3,
            "trajectories": 16,
            "regularisation_weight": 0.1,
        },
    }

    variant: Literal["noise"] = "noise"
