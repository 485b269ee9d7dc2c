"""zbench: a benchmark for concept erasure in single-stream diffusion transformers.

The public names are imported on first use, so that `import zbench` and `zbench --help` need neither torch
nor diffusers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbench.concepts import Concept, concept_names, load_concept
    from zbench.config import RunConfig
    from zbench.conformance import check
    from zbench.erasure import Erasure
    from zbench.errors import ZbenchError
    from zbench.method import Method, MethodCard
    from zbench.model import Model, ModelSpec, load_model, model_names
    from zbench.prompts import Prompt, PromptSet, load_prompt_set
    from zbench.registry import load_detector, load_method, method_names
    from zbench.runner import RunResult, plan, run

__version__ = "0.1.0"

_HOMES = {
    "Concept": "zbench.concepts",
    "concept_names": "zbench.concepts",
    "load_concept": "zbench.concepts",
    "RunConfig": "zbench.config",
    "check": "zbench.conformance",
    "Erasure": "zbench.erasure",
    "ZbenchError": "zbench.errors",
    "Method": "zbench.method",
    "MethodCard": "zbench.method",
    "Model": "zbench.model",
    "ModelSpec": "zbench.model",
    "load_model": "zbench.model",
    "model_names": "zbench.model",
    "Prompt": "zbench.prompts",
    "PromptSet": "zbench.prompts",
    "load_prompt_set": "zbench.prompts",
    "load_detector": "zbench.registry",
    "load_method": "zbench.registry",
    "method_names": "zbench.registry",
    "RunResult": "zbench.runner",
    "plan": "zbench.runner",
    "run": "zbench.runner",
}

__all__ = [
    "Concept",
    "Erasure",
    "Method",
    "MethodCard",
    "Model",
    "ModelSpec",
    "Prompt",
    "PromptSet",
    "RunConfig",
    "RunResult",
    "ZbenchError",
    "__version__",
    "check",
    "concept_names",
    "load_concept",
    "load_detector",
    "load_method",
    "load_model",
    "load_prompt_set",
    "method_names",
    "model_names",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zbench' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
