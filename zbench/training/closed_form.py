"""Sums of outer products over text rows, and the one linear system that closed-form edits solve, in float64.

A closed form maps what a layer's projections see at token rows of a concept prompt (f) to what they see at
rows of its anchor prompt (g), and keeps what they see under prompts to preserve (p). All of it enters through
sum (g - f) f^T, sum f f^T and sum p p^T, gathered along trajectories of the frozen model.

Half precision loses a regularisation of 0.1 against rows of thousands of channels, and the system becomes
singular (defect D15 of the reference dossier).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zbench.edits.delta import DeltaEdit
from zbench.errors import ConfigurationError
from zbench.model.rows import padded
from zbench.training.inputs import LayerRows, TextInputs, text_inputs
from zbench.training.members import over_members
from zbench.training.preservation import kept_prompts
from zbench.training.trajectories import TrajectoryBank, encode_each, seeds_for, spread

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model
    from zbench.training.row_pairs import Pair


LayerSums = dict[int, Tensor]
"""Per unified layer a sum of outer products, float64 [D, D]."""


class Moments:
    """Running sums of outer products, one matrix per layer."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}

    def add(self, layer: int, left: Tensor, right: Tensor) -> None:
        """Adds sum_n left_n right_n^T.

        Args:
            layer: Whose matrix.
            left: [N, D].
            right: [N, D].
        """
        product = left.double().T @ right.double()
        self._sums[layer] = self._sums[layer] + product if layer in self._sums else product

    def add_captions(self, seen: LayerRows, embeddings: Sequence[Tensor]) -> None:
        """Adds sum p p^T over all caption rows of a call.

        Args:
            seen: Its text rows per layer.
            embeddings: Its captions, one [L_i, D] per sample.
        """
        # Padding rows of a caption are text rows too: an update acts on them as well.
        rows = [list(range(padded(len(embedding)))) for embedding in embeddings]
        for layer, inputs in seen.items():
            chosen = stack_rows(inputs, rows)
            self.add(layer, chosen, chosen)

    def mean(self, count: int) -> LayerSums:
        """The sums divided by `count`, float64 [D, D] per layer."""
        return {layer: total / count for layer, total in self._sums.items()}


@dataclass(frozen=True)
class PairMoments:
    """What a closed form needs to know of a concept; sums over rows, means over trajectories and steps.

    Attributes:
        cross: sum (g - f) f^T per layer, float64 [D, D].
        square: sum f f^T per layer, likewise.
        bank: The trajectories under the concept's prompts.
    """

    cross: LayerSums
    square: LayerSums
    bank: TrajectoryBank

    def __add__(self, other: PairMoments) -> PairMoments:
        """Sums over both concepts, with the trajectories of both."""
        bank = TrajectoryBank.joined([self.bank, other.bank])
        return PairMoments(plus(self.cross, other.cross), plus(self.square, other.square), bank)


def pair_moments(
    model: Model,
    concept: Concept,
    pairs: Sequence[Pair],
    layers: list[int],
    *,
    trajectories: int,
    batch_size: int,
    training_seed: int,
) -> PairMoments:
    """Gathers paired rows along trajectories of the frozen model under the concept's prompts.

    Args:
        model: No edit attached.
        concept: Whose training prompts are drawn, those with paired rows in turn.
        pairs: One per training prompt.
        layers: Unified layers that are edited.
        trajectories: How many; more where a member of a composite concept would have none.
        batch_size: Samples per call; the result does not depend on it.
        training_seed: Of the noise.

    Raises:
        ConfigurationError: No prompt has paired rows.
    """
    known = [index for index, (rows, _) in enumerate(pairs) if rows]
    if not known:
        raise ConfigurationError(
            f"No training prompt of {concept.name!r} names a phrase in words of its own."
        )
    naming = [concept.training_prompts[index] for index in known]
    chosen = [known[index] for index in over_members(concept, naming, trajectories)]
    prompts = [concept.training_prompts[index] for index in chosen]
    anchors = encode_each(model, [concept.anchor_prompts[index] for index in chosen])
    cross, square, banks = Moments(), Moments(), []
    for part, bank, calls in _sampled(model, prompts, "erase", training_seed, layers, batch_size):
        rows, guides = zip(*(pairs[index] for index in chosen[part]), strict=True)
        for draw, seen in zip(bank.batches(len(bank)), calls, strict=True):
            anchored = text_inputs(model, draw, anchors[part], layers)
            for layer in layers:
                source, guide = stack_rows(seen[layer], rows), stack_rows(anchored[layer], guides)
                cross.add(layer, guide - source, source)
                square.add(layer, source, source)
        banks.append(bank)
    points = len(chosen) * len(banks[0].timesteps)
    return PairMoments(cross.mean(points), square.mean(points), TrajectoryBank.joined(banks))


def prior_moments(
    model: Model,
    concept: Concept,
    layers: list[int],
    *,
    trajectories: int,
    batch_size: int,
    training_seed: int,
) -> LayerSums:
    """The sum of p p^T over all caption rows of a concept's prompts to preserve and of its anchor prompts.

    Takes what `pair_moments` takes.

    Returns:
        Per layer a mean over trajectories and steps, float64 [D, D].
    """
    kept = kept_prompts(concept, anchors=True)
    prompts = [kept[index] for index in spread(kept, trajectories)]
    moments, points = Moments(), 0
    for _, bank, calls in _sampled(model, prompts, "preserve", training_seed, layers, batch_size):
        for seen in calls:
            moments.add_captions(seen, bank.embeddings)
        points += len(bank) * len(calls)
    return moments.mean(points)


def caption_moments(model: Model, bank: TrajectoryBank, layers: list[int], *, batch_size: int) -> LayerSums:
    """The same over the points of a bank, as the model sees them with what is attached at the moment."""
    moments = Moments()
    for draw in bank.batches(batch_size):
        moments.add_captions(text_inputs(model, draw, draw.embeddings, layers), draw.embeddings)
    return moments.mean(len(bank) * len(bank.timesteps))


def _sampled(
    model: Model, prompts: list[str], purpose: str, training_seed: int, layers: list[int], batch_size: int
) -> Iterator[tuple[slice, TrajectoryBank, list[LayerRows]]]:
    """Trajectories in parts of one batch, and the text rows of every call while they were sampled."""
    seeds = seeds_for(purpose, training_seed, len(prompts))
    for start in range(0, len(prompts), batch_size):
        part = slice(start, min(start + batch_size, len(prompts)))
        calls: list[LayerRows] = []
        with TextInputs(model, layers, calls.append):
            bank = TrajectoryBank.sample(model, prompts[part], seeds[part], batch_size=batch_size)
        yield part, bank, calls


def plus(left: LayerSums, right: LayerSums) -> LayerSums:
    """Sums of sums, layer by layer; the left one may be empty."""
    return {layer: left[layer] + term if left else term for layer, term in right.items()}


def stack_rows(inputs: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """The chosen rows of every sample below each other, [N, D] float64.

    Args:
        inputs: [B, text rows, D].
        rows: Per sample, row indices.
    """
    samples = [sample for sample, chosen in enumerate(rows) for _ in chosen]
    return inputs[samples, [row for chosen in rows for row in chosen]].double()


def solve_symmetric(system: Tensor, right: Tensor) -> Tensor:
    """Solves system X = right for a symmetric positive definite float64 system, by Cholesky.

    Args:
        system: [D, D].
        right: [D, K].
    """
    return torch.cholesky_solve(right, torch.linalg.cholesky(system))


def refinement(
    cross: Tensor,
    square: Tensor,
    prior: Tensor,
    *,
    preserve: float,
    regularisation: float,
    scale: float = 1.0,
) -> Tensor:
    """The matrix R for which W' = W + W R is the best choice, whatever W is.

    What is minimised over W' is

        scale sum ||W' f - W g||^2 + preserve sum ||W' p - W p||^2 + l ||W' - W||^2.

    So one R serves all projections of a layer, and no difference of nearly equal matrices is taken.

    Args:
        cross: sum (g - f) f^T, float64 [D, D].
        square: sum f f^T, likewise.
        prior: sum p p^T, likewise.
        preserve: Weight of what is kept.
        regularisation: l, above 0.
        scale: Weight of what is mapped.

    Returns:
        scale cross (scale square + preserve prior + l I)^-1, float64 [D, D].
    """
    system = scale * square + preserve * prior
    system.diagonal().add_(regularisation)
    # R system = scale cross, and the system is symmetric.
    return solve_symmetric(system, scale * cross.T).T


def projection_edit(
    model: Model,
    layers: Sequence[int],
    targets: Sequence[str],
    update: Callable[[str, int, Tensor], Tensor],
) -> DeltaEdit:
    """Text-row updates of attention projections, solved in float64 and kept in float32.

    Args:
        model: Whose weights they are added to; they are not changed.
        layers: Unified layers.
        targets: Projections of their attention.
        update: (module path, layer, W [out, D] float64) -> W' - W.
    """
    deltas: dict[str, Tensor] = {}
    for layer in layers:
        for path in (f"layers.{layer}.attention.{target}" for target in targets):
            weight = model.transformer.get_submodule(path).weight.double()
            deltas[path] = update(path, layer, weight).float().cpu()
    return DeltaEdit(deltas, rows="text")
