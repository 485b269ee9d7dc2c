"""How a model is changed, apart from why: by embeddings, weights, attention or velocity, composable."""

from __future__ import annotations

from zbench.edits.adapter import AdapterEdit
from zbench.edits.base import ComposedEdit, Edit, NoEdit, load_edit
from zbench.edits.captions import CaptionedCall, CaptionedEdit
from zbench.edits.checkpoint import CheckpointEdit
from zbench.edits.delta import DeltaEdit
from zbench.edits.guidance import NegativePromptEdit, SafetyGuidanceEdit
from zbench.edits.lora import LoraEdit
from zbench.edits.neuron_mask import NeuronMaskEdit
from zbench.edits.projection import ProjectionEdit
from zbench.edits.quantised import QuantisedEdit
from zbench.edits.seams import AttentionEdit, ConditioningEdit, VelocityEdit
from zbench.edits.states import StateSwapEdit
from zbench.edits.tokens import TokenZeroingEdit

__all__ = [
    "AdapterEdit",
    "AttentionEdit",
    "CaptionedCall",
    "CaptionedEdit",
    "CheckpointEdit",
    "ComposedEdit",
    "ConditioningEdit",
    "DeltaEdit",
    "Edit",
    "LoraEdit",
    "NegativePromptEdit",
    "NeuronMaskEdit",
    "NoEdit",
    "ProjectionEdit",
    "QuantisedEdit",
    "SafetyGuidanceEdit",
    "StateSwapEdit",
    "TokenZeroingEdit",
    "VelocityEdit",
    "load_edit",
]
