"""Which layers carry a concept: the score of DiT-Localization (Zarei et al., arXiv 2505.18832).

    score(layer) = mean over steps, prompts and image queries of || W_O ( A[I, span] V[span] ) ||_2

A[I, span] V[span] is the layer's attention with all value rows outside the span at zero: one more fused
attention per layer. The release of Z-Erase multiplied heads where it meant tokens, scored every layer zero,
and `topk` of thirty zeros is the list [19, 22, 21, 20, 17, 16] that it published (defect D13 of the dossier).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zbench.edits.tokens import row_mask, values_zeroed
from zbench.errors import ConfigurationError
from zbench.training.attention import concept_columns
from zbench.training.members import over_members
from zbench.training.trajectories import encode_each, seeds_for

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model


class SpanContributions:
    """Context that sums what given text tokens add to image rows, layer by layer, over all calls inside it.

    No gradient is recorded; the model's predictions stay as they are.

    Attributes:
        totals: Per layer and sample the sum over calls of the mean over image queries of the contribution's
            norm, [B] float32; image padding is left out.
        calls: Calls of the transformer so far.
    """

    def __init__(self, model: Model, columns: Sequence[Sequence[int]]) -> None:
        """Prepares the recording.

        Args:
            model: Whose transformer is watched.
            columns: Per sample of the coming calls, indices into its caption tokens.
        """
        self.totals: dict[int, Tensor] = {}
        self.calls = 0
        self._model, self._columns = model, columns
        self._image_rows = 0
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        transformer = self._model.transformer
        self._handles.append(transformer.register_forward_pre_hook(self._enter_call, with_kwargs=True))
        for index, layer in enumerate(transformer.layers):
            hook = self._record(index)
            self._handles.append(layer.attention.register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _, frames, height, width = (args[0] if args else kwargs["x"])[0].shape
        patch, frame_patch = kwargs.get("patch_size", 2), kwargs.get("f_patch_size", 1)
        self._image_rows = (frames // frame_patch) * (height // patch) * (width // patch)
        self.calls += 1

    def _record(self, index: int) -> Any:
        @torch.no_grad()
        def hook(attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            outside = ~row_mask(self._columns, self._model.rows.current.image, output)
            with values_zeroed(attention, outside):
                contribution = attention.forward(*args, **kwargs)[:, : self._image_rows]
            norms = contribution.float().norm(dim=-1).mean(dim=1)
            self.totals[index] = self.totals.get(index, torch.zeros_like(norms)) + norms

        return hook


def localisation_scores(
    model: Model, concept: Concept, *, trajectories: int = 8, batch_size: int = 8, seed: int = 0
) -> list[float]:
    """One score per unified layer: the norm of what the concept's tokens add to image rows there.

    Args:
        model: No edit attached.
        concept: Its training prompts that name a phrase are what the model draws meanwhile.
        trajectories: Pictures drawn, at the model's own number of steps; more where a member of a composite
            concept would have none.
        batch_size: Samples per call; the scores do not depend on it.
        seed: Training seed of the method.

    Raises:
        ConfigurationError: No training prompt names a phrase of the concept.
    """
    columns = {prompt: concept_columns(model, concept, prompt) for prompt in concept.training_prompts}
    named = [prompt for prompt, found in columns.items() if found]
    if not named:
        raise ConfigurationError(f"No training prompt of {concept.name!r} names one of its phrases.")
    prompts = [named[index] for index in over_members(concept, named, trajectories)]
    embeddings, seeds = encode_each(model, prompts), seeds_for("localisation", seed, len(prompts))
    sums = torch.zeros(len(model.transformer.layers), dtype=torch.float64)
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        with SpanContributions(model, [columns[prompt] for prompt in prompts[part]]) as seen:
            model.trajectory(embeddings[part], seeds[part])
        sums += torch.stack([total.sum() for total in seen.totals.values()]).double().cpu() / seen.calls
    return [float(total) / len(prompts) for total in sums]


def dominant_layers(scores: Sequence[float], count: int) -> list[int]:
    """Indices of the `count` highest scores, highest first; of equal ones the lower layer first.

    Raises:
        ConfigurationError: There are fewer layers than that.
    """
    if not 1 <= count <= len(scores):
        raise ConfigurationError(f"The top {count} layers of {len(scores)} were asked for.")
    return sorted(range(len(scores)), key=lambda layer: -scores[layer])[:count]
