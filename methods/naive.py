"""Naive fine-tuning: Z-Erase's losses on all rows, image rows included. The control for collapse."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from zbench.method import MethodCard

from .zerase import ZErase


class Naive(ZErase):
    """Everything as in Z-Erase except that the adapters see every row of the sequence."""

    rows: ClassVar[Literal["text", "all"]] = "all"
    name: ClassVar[str] = "naive"
    card: ClassVar[MethodCard] = MethodCard(
        title="Naive fine-tuning",
        paper="The collapse control of Z-Erase (ICML 2026), its observation 2",
        arxiv="2603.25074",
        reference_code_licence="contradictory: LICENSE file BSD-3-Clause, README badge CC-BY",
        rows="all",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=("the same losses and modulation as zerase, so that the rows are the only difference",),
        notes=(
            "The paper reports collapse to noise on the 6 B model. Collapse is measured here, not assumed.",
            "Presets are those of zerase.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = ZErase.presets
