"""Masks being learned: one logit per neuron, relaxed so that a loss can reach it.

Two relaxations. Hard concrete (Louizos et al., arXiv 1712.01312), as Minimalist Concept Erasure uses it:

    s = clamp( sigmoid((logit + log u - log(1 - u)) / beta) (zeta - gamma) + gamma, 0, 1 ),   u uniform

and straight-through: the gate is 1 where the logit is positive and 0 elsewhere, but has the gradient of its
sigmoid, which needs no noise and reaches every neuron at every step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zbench.edits.base import Edit
from zbench.edits.neuron_mask import NeuronMaskEdit, linear_at, masked_channels
from zbench.errors import ConfigurationError

if TYPE_CHECKING:
    from zbench.model import Model

Relaxation = Literal["hard_concrete", "straight_through"]
Neurons = Literal["feed_forward", "head_outputs", "head_values"]

MODULES: dict[Neurons, str] = {
    "feed_forward": "feed_forward.w2",
    "head_outputs": "attention.to_out.0",
    "head_values": "attention.to_v",
}
"""Where in a unified layer each kind of neuron is masked."""

GAMMA, ZETA = -0.1, 1.1
"""The interval that the concrete distribution is stretched to before it is clamped."""


class LearnedMask(NeuronMaskEdit):
    """Masks on text rows of unified layers while they are trained; `hardened` gives the edit to keep.

    Args:
        neurons: Kinds of neurons that can be switched off.
        layers: Indices of unified layers; all if None.
        initial: Logit of every neuron at the start; positive, so that all are on.
        relaxation: ``hard_concrete`` or ``straight_through``.
        temperature: beta of the hard concrete distribution.
    """

    def __init__(
        self,
        neurons: Sequence[Neurons],
        layers: Sequence[int] | None = None,
        *,
        initial: float = 3.0,
        relaxation: Relaxation = "hard_concrete",
        temperature: float = 0.83,
    ) -> None:
        Edit.__init__(self)
        self.neurons, self.layers, self.initial = tuple(neurons), layers, initial
        self.relaxation, self.temperature = relaxation, temperature
        self.logits: dict[str, nn.Parameter] = {}
        self.noise: dict[str, Tensor] = {}
        self._handles = []
        self._gates = {}

    def parameters(self) -> list[nn.Parameter]:
        """The logits, float32; empty until the edit was attached once (only then the sizes are known)."""
        return list(self.logits.values())

    def redraw(self, generator: torch.Generator) -> None:
        """Draws the noise of the hard concrete gates, which then stay as they are until the next call.

        All steps of a sampler, and every recomputation of a step, must see the same gates.

        Args:
            generator: A CPU generator; the only source of randomness.
        """
        for path, logit in self.logits.items():
            uniform = torch.rand(logit.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
            self.noise[path] = torch.logit(uniform).to(logit.device)

    def gate(self, path: str) -> Tensor:
        """The relaxed gates of a module, [units] in [0, 1], with a graph to its logits.

        Hard concrete gates are the median ones until `redraw` is called.
        """
        logit = self.logits[path]
        if self.relaxation == "straight_through":
            soft = torch.sigmoid(logit)
            return (logit > 0).to(soft) + (soft - soft.detach())
        concrete = torch.sigmoid((logit + self.noise.get(path, 0.0)) / self.temperature)
        return (concrete * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def expected_off(self) -> Tensor:
        """The fraction of neurons that the gates leave off in expectation, in (0, 1), differentiable."""
        hard = self.relaxation == "hard_concrete"
        shift = self.temperature * math.log(-GAMMA / ZETA) if hard else 0.0
        return torch.cat([torch.sigmoid(shift - logit) for logit in self.logits.values()]).mean()

    def fraction_off(self) -> float:
        """The fraction of neurons that `hardened` would switch off."""
        logits = torch.cat([logit.detach() for logit in self.logits.values()])
        return float((logits <= 0).float().mean())

    def hardened(self) -> NeuronMaskEdit:
        """The binary masks: a neuron stays on where its logit is positive."""
        return NeuronMaskEdit({path: logit.detach() > 0 for path, logit in self.logits.items()})

    def settings(self) -> dict[str, Any]:
        """Those of the hardened masks."""
        return self.hardened().settings()

    def tensors(self) -> dict[str, Tensor]:
        """Those of the hardened masks."""
        return self.hardened().tensors()

    def _install(self, model: Model) -> None:
        modules = {path: linear_at(model, path) for path in self._paths(model)}
        for path, module in modules.items():
            if path not in self.logits:
                start = torch.full((self._units(model, path, module),), self.initial, device=model.device)
                self.logits[path] = nn.Parameter(start)
        self._hook(model, modules)

    def _units(self, model: Model, path: str, module: Any) -> int:
        if path.endswith(MODULES["feed_forward"]):
            return masked_channels(path, module)
        return int(model.transformer.get_submodule(path.split(".attention.")[0]).attention.heads)

    def _paths(self, model: Model) -> list[str]:
        count = len(model.transformer.layers)
        layers = range(count) if self.layers is None else self.layers
        if not layers or min(layers) < 0 or max(layers) >= count:
            raise ConfigurationError(f"layers {list(layers)}: this transformer has layers 0 to {count - 1}.")
        return [f"layers.{layer}.{MODULES[kind]}" for layer in layers for kind in self.neurons]
