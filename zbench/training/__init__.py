"""What erasure methods share: trajectories, frozen predictions, attention columns, losses, the training loop.

Names are imported when they are first asked for, so that a method file can say `from zbench import training`
and still be listed without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.model.rows import padded
    from zbench.training.attention import AttentionColumns, concept_columns
    from zbench.training.closed_form import Moments, solve_symmetric
    from zbench.training.frozen import FrozenPredictions
    from zbench.training.inputs import TextInputs, text_inputs
    from zbench.training.loop import Objective, backward, frozen_call, take_gradients, train
    from zbench.training.losses import (
        add_noise,
        attention_loss,
        erase_loss,
        erase_target,
        mean_square,
        preserve_loss,
    )
    from zbench.training.meter import Meter
    from zbench.training.modulation import LagrangianModulation, exact_multiplier
    from zbench.training.trajectories import (
        Draw,
        TrajectoryBank,
        encode_each,
        generator,
        noise_like,
        seeds_for,
        spread,
    )
    from zbench.training.words import shuffle_some, shuffle_words, split_words

_MEMBERS = {
    "attention": ("AttentionColumns", "concept_columns"),
    "closed_form": ("Moments", "solve_symmetric"),
    "frozen": ("FrozenPredictions",),
    "inputs": ("TextInputs", "text_inputs"),
    "loop": ("Objective", "backward", "frozen_call", "take_gradients", "train"),
    "losses": ("add_noise", "attention_loss", "erase_loss", "erase_target", "mean_square", "preserve_loss"),
    "meter": ("Meter",),
    "modulation": ("LagrangianModulation", "exact_multiplier"),
    "trajectories": (
        "Draw",
        "TrajectoryBank",
        "encode_each",
        "generator",
        "noise_like",
        "seeds_for",
        "spread",
    ),
    "words": ("shuffle_some", "shuffle_words", "split_words"),
}
_HOMES = {name: f"zbench.training.{module}" for module, names in _MEMBERS.items() for name in names}
_HOMES["padded"] = "zbench.model.rows"

__all__ = [
    "AttentionColumns",
    "Draw",
    "FrozenPredictions",
    "LagrangianModulation",
    "Meter",
    "Moments",
    "Objective",
    "TextInputs",
    "TrajectoryBank",
    "add_noise",
    "attention_loss",
    "backward",
    "concept_columns",
    "encode_each",
    "erase_loss",
    "erase_target",
    "exact_multiplier",
    "frozen_call",
    "generator",
    "mean_square",
    "noise_like",
    "padded",
    "preserve_loss",
    "seeds_for",
    "shuffle_some",
    "shuffle_words",
    "solve_symmetric",
    "split_words",
    "spread",
    "take_gradients",
    "text_inputs",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports a name of the toolkit when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
