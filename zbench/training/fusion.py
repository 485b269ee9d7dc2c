"""Closed forms over the members of a composite concept, MACE's first and last stage (arXiv 2403.06135).

Of the members only sums are kept, and of their adapters the low rank: fifty take hardly more memory than one.
On a layer of width D the sums are D x D in float64, 0.12 GB each at D = 3840.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zbench.edits.lora import LoraEdit
from zbench.training.closed_form import (
    LayerSums,
    PairMoments,
    caption_moments,
    plus,
    projection_edit,
    refinement,
    solve_symmetric,
)

if TYPE_CHECKING:
    from zbench.edits import DeltaEdit, Edit
    from zbench.model import Model
    from zbench.training.trajectories import TrajectoryBank


class MemberForms:
    """What the closed forms need to know of the members so far.

    Attributes:
        cross: sum_i sum_f (g - f) f^T per layer.
        square: sum_i sum_f f f^T per layer.
        rows: sum_i E_i per layer.
        updates: R per layer, once refined.
    """

    def __init__(
        self,
        model: Model,
        layers: list[int],
        targets: Sequence[str],
        prior: LayerSums,
        regularisation: float,
    ) -> None:
        """Starts without members.

        Args:
            model: Whose projections are edited.
            layers: Unified layers.
            targets: Projections of their attention.
            prior: P = sum p p^T per layer.
            regularisation: l of both closed forms, above 0.
        """
        self._model, self._layers, self._targets = model, layers, targets
        self._prior, self._regularisation = prior, regularisation
        self._adapted: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.cross: LayerSums = {}
        self.square: LayerSums = {}
        self.rows: LayerSums = {}
        self.updates: LayerSums = {}

    def gather(self, found: PairMoments) -> None:
        """Adds the paired rows of a member."""
        self.cross, self.square = plus(self.cross, found.cross), plus(self.square, found.square)

    def refined(self, preserve: float) -> DeltaEdit:
        """W' - W = W R, where W' minimises sum_i sum_f ||W' f - W g||^2 + preserve sum_p ||W' p - W p||^2.

        Args:
            preserve: Weight of the prior.
        """
        self.updates = {
            layer: refinement(
                self.cross[layer],
                self.square[layer],
                self._prior[layer],
                preserve=preserve,
                regularisation=self._regularisation,
            )
            for layer in self._layers
        }
        return projection_edit(
            self._model, self._layers, self._targets, lambda path, layer, weight: weight @ self.updates[layer]
        )

    def add(self, lora: Edit, bank: TrajectoryBank, batch_size: int) -> None:
        """Adds a member's adapter; call it while the refined weights it was trained on are attached.

        Args:
            lora: Text-row LoRA on the same projections; detached.
            bank: Trajectories under the member's prompts, on which E_i is what layers see with the adapter.
            batch_size: Samples per call; the result does not depend on it.
        """
        with self._model.edited(lora):
            rows = caption_moments(self._model, bank, self._layers, batch_size=batch_size)
        self.rows = plus(self.rows, rows)
        for path, (down, up) in low_rank_factors(lora).items():
            layer = int(path.split(".")[1])
            self._adapted.setdefault(path, []).append((up, down @ rows[layer]))

    def fused(self, preserve: float) -> DeltaEdit:
        """The update W* - W = (W R sum_i E_i + sum_i B_i A_i E_i) (sum_i E_i + preserve P + l I)^-1.

        W* minimises sum_i sum_e ||W* e - (W' + B_i A_i) e||^2 + preserve sum_p ||W* p - W p||^2, and l keeps
        it near W.

        Args:
            preserve: Weight of the prior.
        """

        def solved(path: str, layer: int, weight: Tensor) -> Tensor:
            wanted = weight @ self.updates[layer] @ self.rows[layer]
            for up, down in self._adapted[path]:
                wanted += up @ down
            system = self.rows[layer] + preserve * self._prior[layer]
            system.diagonal().add_(self._regularisation)
            return solve_symmetric(system, wanted.T).T

        return projection_edit(self._model, self._layers, self._targets, solved)


def low_rank_factors(lora: Edit) -> dict[str, tuple[Tensor, Tensor]]:
    """A [rank, in] and B [out, rank] of a LoRA by module path, float64; A carries the scale alpha / rank.

    Raises:
        TypeError: The edit is no LoRA.
    """
    if not isinstance(lora, LoraEdit):
        raise TypeError(f"{type(lora).__name__} is no LoRA")
    named, scale = lora.tensors(), lora.alpha / lora.rank
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, down in named.items():
        if ".lora_A." in name:
            up = named[name.replace(".lora_A.", ".lora_B.")]
            path = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            found[path] = scale * down.detach().double(), up.detach().double()
    return found
