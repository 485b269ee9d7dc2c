"""A loaded `ZImagePipeline` with the few verbs that methods and attacks need, at any scale.

Listing the catalogue (`model_names`, `ModelSpec`) is light; what needs torch is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zbench.model.spec import ModelSpec, load_spec, model_names

if TYPE_CHECKING:
    from zbench.model.loading import load_model
    from zbench.model.model import Model, ProgressCallback
    from zbench.model.sampling import Trajectory

__all__ = [
    "Model",
    "ModelSpec",
    "ProgressCallback",
    "Trajectory",
    "load_model",
    "load_spec",
    "model_names",
]

_HOMES = {
    "Model": "zbench.model.model",
    "ProgressCallback": "zbench.model.model",
    "Trajectory": "zbench.model.sampling",
    "load_model": "zbench.model.loading",
}


def __getattr__(name: str) -> Any:
    """Imports the names that need torch when they are first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench.model' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
