"""How a model is changed, apart from why: by embeddings, weights, attention or velocity, composable."""

from __future__ import annotations

from zbench.edits.base import ComposedEdit, Edit, NoEdit, load_edit
from zbench.edits.delta import DeltaEdit
from zbench.edits.lora import LoraEdit
from zbench.edits.seams import AttentionEdit, ConditioningEdit, VelocityEdit

__all__ = [
    "AttentionEdit",
    "ComposedEdit",
    "ConditioningEdit",
    "DeltaEdit",
    "Edit",
    "LoraEdit",
    "NoEdit",
    "VelocityEdit",
    "load_edit",
]
