"""ESD-u, erased stable diffusion on the weights that do not make text and image interact.

    L = E || v(x_t, c_er) - sg[ v0(x_t, "") - eta ( v0(x_t, c_er) - v0(x_t, "") ) ] ||^2

The equation and the training are those of `esd_x`; only the trained weights differ.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from zbench.method import MethodCard, Projection

from .esd_x import DEVIATIONS, NOTES, ESDx


class ESDu(ESDx):
    """Erased stable diffusion on the weights that work on each text row by itself.

    Attributes:
        targets: Projections that get an adapter.
    """

    name: ClassVar[str] = "esd_u"
    card: ClassVar[MethodCard] = MethodCard(
        title="ESD-u (erased stable diffusion, all but attention)",
        paper="Gandikota et al.: Erasing Concepts from Diffusion Models (ICCV 2023)",
        arxiv="2303.07345",
        reference_code_licence="unpinned",
        rows="text",
        weights="low-rank updates of to_out.0, feed_forward.w1, .w2, .w3 in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "the paper's variant u trains everything but the cross-attention, image paths included; here it "
            "is what works on text rows one by one, since weights changed on image rows break pictures",
            *DEVIATIONS,
        ),
        notes=NOTES,
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 1000, "batch_size": 1, "learning_rate": 1e-3, "trajectories": 64},
        "miniature": {
            "steps": 60,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "trajectories": 16,
            "eta": 1.0,
        },
    }

    targets: tuple[Projection, ...] = Field(
        default=("to_out.0", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"), min_length=1
    )
