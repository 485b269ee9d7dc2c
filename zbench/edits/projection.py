"""Projection of prompt tokens away from a concept's subspace, on the conditioning seam (after SAFREE).

For the rows e_j of a prompt's own tokens, the mean m of harmless ones, and a basis C of the concept:

    s_j     = || (I - C C^T)(e_j - m) || / || e_j - m ||      distance of token j from the concept, in [0, 1]
    d_-i    = mean_{j != i} s_j                               distance of the prompt without token i
    trigger = d_-i > (1 + alpha) mean_{j != i} d_-j  and  s_i < tau
    e_i'    = m + P (I - C C^T)(e_i - m),   P onto the span of the prompt's own centred tokens

A prompt without a trigger is passed on as the very tensor that came in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from zbench.edits.files import read_tensors
from zbench.edits.seams import ConditioningEdit
from zbench.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from zbench.model.model import Model

Affected = Literal["triggers", "onward"]


class ProjectionEdit(ConditioningEdit):
    """Moves trigger tokens out of a concept's subspace, and nothing else.

    Args:
        basis: Orthonormal columns that span the concept, [D, r], r >= 1.
        mean: m, [D].
        alpha: How much farther from the concept, relatively, a prompt must be without a token for the token
            to be a trigger; not negative.
        tau: Largest distance of a trigger, in [0, 1].
        tokens: Rows that are projected: the ``triggers`` only, or every row of the caption from the first
            trigger ``onward``, template included, since in a causal text encoder all of them know of it.

    Raises:
        ConfigurationError: Shapes that do not fit together, a basis that is not orthonormal, or a value out
            of range.
    """

    kind = "projection"

    def __init__(
        self, basis: Tensor, mean: Tensor, alpha: float, tau: float, tokens: Affected = "triggers"
    ) -> None:
        super().__init__()
        # Rounded to what is saved, so that the edit decides alike before and after loading.
        self.basis, self.mean = (part.detach().to("cpu", torch.float32) for part in (basis, mean))
        if self.basis.ndim != 2 or self.mean.shape != self.basis.shape[:1] or not self.basis.numel():
            raise ConfigurationError(f"No subspace: basis {tuple(basis.shape)}, mean {tuple(mean.shape)}.")
        identity = torch.eye(self.basis.shape[1])
        if not torch.allclose(self.basis.T @ self.basis, identity, atol=1e-4):
            raise ConfigurationError("The columns of a concept's basis must be orthonormal.")
        if not (alpha >= 0 and 0 <= tau <= 1 and tokens in ("triggers", "onward")):
            raise ConfigurationError(f"A projection with a value out of range: {alpha}, {tau}, {tokens!r}.")
        self.alpha, self.tau, self.tokens = alpha, tau, tokens

    def settings(self) -> dict[str, Any]:
        """The thresholds and the choice of rows."""
        return {"alpha": self.alpha, "tau": self.tau, "tokens": self.tokens}

    def tensors(self) -> dict[str, Tensor]:
        """Basis and mean."""
        return {"basis": self.basis, "mean": self.mean}

    def edit_embeddings(self, embeddings: list[Tensor], prompts: Sequence[str]) -> list[Tensor]:
        """Projects the triggers of every prompt that has any."""
        assert self._model is not None
        return [
            self._projected(embedding, prompt_rows(self._model, prompt))
            for embedding, prompt in zip(embeddings, prompts, strict=True)
        ]

    def triggers(self, tokens: Tensor) -> list[int]:
        """Which of a prompt's own tokens are triggers.

        Args:
            tokens: [n, D].

        Returns:
            Indices in order; empty for a harmless prompt.
        """
        away = distances(tokens.double().cpu() - self.mean, self.basis)
        trigger = away < self.tau
        if len(away) > 1:
            # The only token of a prompt has nothing to be compared with: there tau alone decides.
            without = _leave_one_out(away)
            trigger &= without > (1 + self.alpha) * _leave_one_out(without)
        return torch.nonzero(trigger).flatten().tolist()

    def _projected(self, embedding: Tensor, rows: range) -> Tensor:
        rows = range(rows.start, min(rows.stop, len(embedding)))
        found = self.triggers(embedding[rows.start : rows.stop]) if rows else []
        if not found:
            return embedding
        chosen = [rows[index] for index in found]
        if self.tokens == "onward":
            chosen = list(range(chosen[0], len(embedding)))
        centred = embedding.detach().double().cpu() - self.mean
        safe = centred[chosen] - centred[chosen] @ self.basis.double() @ self.basis.double().T
        own = _span(centred[rows.start : rows.stop] if self.tokens == "triggers" else centred)
        edited = embedding.clone()
        edited[chosen] = (self.mean + safe @ own @ own.T).to(embedding)
        return edited

    def _install(self, model: Model) -> None:
        width = model.transformer.config.cap_feat_dim
        if len(self.mean) != width:
            found = len(self.mean)
            raise WeightsError(f"This edit is for another model: captions of {found} channels, not {width}.")
        super()._install(model)

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors, _ = read_tensors(folder / cls.weights_file)
        if sorted(tensors) != ["basis", "mean"]:
            raise WeightsError(f"{folder / cls.weights_file} holds {sorted(tensors)}, not basis and mean.")
        return cls(tensors["basis"], tensors["mean"], **settings)


def prompt_rows(model: Model, prompt: str) -> range:
    """Rows of a caption that belong to the prompt itself, not to the chat template; none if it is blank."""
    spans = model.token_span(prompt, prompt) if prompt.strip() else []
    return range(*spans[0]) if spans else range(0)


def distances(centred: Tensor, basis: Tensor) -> Tensor:
    """Sine of the angle between each row and a subspace, [n] in [0, 1]; 1 for a row of zeros.

    Args:
        centred: [n, D].
        basis: Orthonormal columns, [D, r].
    """
    directions = torch.nn.functional.normalize(centred.double(), dim=1)
    inside = directions @ basis.double()
    return (1 - inside.square().sum(1)).clamp(min=0).sqrt()


def _leave_one_out(values: Tensor) -> Tensor:
    """Mean of all others, [n] for n >= 2 values."""
    return (values.sum() - values) / (len(values) - 1)


def _span(rows: Tensor) -> Tensor:
    """Orthonormal columns [D, k] that span rows [n, D], of which some may depend on others."""
    left, values, _ = torch.linalg.svd(rows.T, full_matrices=False)
    columns: Tensor = left[:, values > 1e-9 * values[0]]
    return columns
