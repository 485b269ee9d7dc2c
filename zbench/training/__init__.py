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
    from zbench.training.candidates import related_words, template_rows, vocabulary_words
    from zbench.training.closed_form import (
        Moments,
        PairMoments,
        caption_moments,
        pair_moments,
        prior_moments,
        projection_edit,
        refinement,
        solve_symmetric,
    )
    from zbench.training.constrained import ConstrainedStep, alignment, gradients_of
    from zbench.training.contrast import (
        Captions,
        ContrastBank,
        attention_norm,
        column_features,
        irrelevant_concepts,
        reverse_contrast,
    )
    from zbench.training.erasing import ConceptPoints
    from zbench.training.flow import flow_points, joined
    from zbench.training.frozen import FrozenPredictions
    from zbench.training.fusion import MemberForms, low_rank_factors
    from zbench.training.guided import GuidedErasure, drift
    from zbench.training.inner import clip_gradients, polyak_step, restored
    from zbench.training.inputs import TextInputs, text_inputs
    from zbench.training.localisation import SpanContributions, dominant_layers, localisation_scores
    from zbench.training.loop import (
        Objective,
        backward,
        frozen_call,
        joined_traces,
        norm_of,
        take_gradients,
        train,
    )
    from zbench.training.losses import (
        add_noise,
        attention_loss,
        erase_loss,
        erase_target,
        mean_square,
        preserve_loss,
    )
    from zbench.training.masks import LearnedMask
    from zbench.training.members import member_concepts, over_members, progress_part
    from zbench.training.meter import Meter
    from zbench.training.mixture import CaptionMixture, pull_back
    from zbench.training.modulation import LagrangianModulation, exact_multiplier, inner_product
    from zbench.training.phrases import describe, mentions, prompt_tokens
    from zbench.training.preservation import Preservation, kept_prompts, sampled_bank
    from zbench.training.regions import attention_maps, region_loss, regions_of
    from zbench.training.row_pairs import Pair, concept_row_pairs, context_row_pairs
    from zbench.training.trajectories import (
        Draw,
        TrajectoryBank,
        encode_each,
        focal_importance,
        generator,
        noise_like,
        seeds_for,
        spread,
    )
    from zbench.training.unrolled import SamplerRun
    from zbench.training.words import shuffle_some, shuffle_words, split_words

_MEMBERS = {
    "attention": ("AttentionColumns", "concept_columns"),
    "candidates": ("related_words", "template_rows", "vocabulary_words"),
    "closed_form": (
        "Moments",
        "PairMoments",
        "caption_moments",
        "pair_moments",
        "prior_moments",
        "projection_edit",
        "refinement",
        "solve_symmetric",
    ),
    "contrast": (
        "Captions",
        "ContrastBank",
        "attention_norm",
        "column_features",
        "irrelevant_concepts",
        "reverse_contrast",
    ),
    "constrained": ("ConstrainedStep", "alignment", "gradients_of"),
    "flow": ("flow_points", "joined"),
    "erasing": ("ConceptPoints",),
    "frozen": ("FrozenPredictions",),
    "fusion": ("MemberForms", "low_rank_factors"),
    "guided": ("GuidedErasure", "drift"),
    "inner": ("clip_gradients", "polyak_step", "restored"),
    "inputs": ("TextInputs", "text_inputs"),
    "localisation": ("SpanContributions", "dominant_layers", "localisation_scores"),
    "loop": (
        "Objective",
        "backward",
        "frozen_call",
        "joined_traces",
        "norm_of",
        "take_gradients",
        "train",
    ),
    "losses": ("add_noise", "attention_loss", "erase_loss", "erase_target", "mean_square", "preserve_loss"),
    "masks": ("LearnedMask",),
    "members": ("member_concepts", "over_members", "progress_part"),
    "meter": ("Meter",),
    "mixture": ("CaptionMixture", "pull_back"),
    "modulation": ("LagrangianModulation", "exact_multiplier", "inner_product"),
    "phrases": ("describe", "mentions", "prompt_tokens"),
    "preservation": ("Preservation", "kept_prompts", "sampled_bank"),
    "regions": ("attention_maps", "region_loss", "regions_of"),
    "row_pairs": ("Pair", "concept_row_pairs", "context_row_pairs"),
    "trajectories": (
        "Draw",
        "TrajectoryBank",
        "encode_each",
        "focal_importance",
        "generator",
        "noise_like",
        "seeds_for",
        "spread",
    ),
    "unrolled": ("SamplerRun",),
    "words": ("shuffle_some", "shuffle_words", "split_words"),
}
_HOMES = {name: f"zbench.training.{module}" for module, names in _MEMBERS.items() for name in names}
_HOMES["padded"] = "zbench.model.rows"

__all__ = [
    "AttentionColumns",
    "CaptionMixture",
    "Captions",
    "ConceptPoints",
    "ConstrainedStep",
    "ContrastBank",
    "Draw",
    "FrozenPredictions",
    "GuidedErasure",
    "LagrangianModulation",
    "LearnedMask",
    "MemberForms",
    "Meter",
    "Moments",
    "Objective",
    "Pair",
    "PairMoments",
    "Preservation",
    "SamplerRun",
    "SpanContributions",
    "TextInputs",
    "TrajectoryBank",
    "add_noise",
    "alignment",
    "attention_loss",
    "attention_maps",
    "attention_norm",
    "backward",
    "caption_moments",
    "clip_gradients",
    "column_features",
    "concept_columns",
    "concept_row_pairs",
    "context_row_pairs",
    "describe",
    "dominant_layers",
    "drift",
    "encode_each",
    "erase_loss",
    "erase_target",
    "exact_multiplier",
    "flow_points",
    "focal_importance",
    "frozen_call",
    "generator",
    "gradients_of",
    "inner_product",
    "irrelevant_concepts",
    "joined",
    "joined_traces",
    "kept_prompts",
    "localisation_scores",
    "low_rank_factors",
    "mean_square",
    "member_concepts",
    "mentions",
    "noise_like",
    "norm_of",
    "over_members",
    "padded",
    "pair_moments",
    "polyak_step",
    "preserve_loss",
    "prior_moments",
    "progress_part",
    "projection_edit",
    "prompt_tokens",
    "pull_back",
    "refinement",
    "region_loss",
    "regions_of",
    "related_words",
    "restored",
    "reverse_contrast",
    "sampled_bank",
    "seeds_for",
    "shuffle_some",
    "shuffle_words",
    "solve_symmetric",
    "split_words",
    "spread",
    "take_gradients",
    "template_rows",
    "text_inputs",
    "train",
    "vocabulary_words",
]


def __getattr__(name: str) -> Any:
    """Imports a name of the toolkit when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
