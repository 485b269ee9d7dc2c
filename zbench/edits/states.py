"""Swapped text states: chosen layers see the text rows of another prompt than the one given.

The states were recorded along the sampler, one set per timestep, because a text row changes from step to step
(its modulation and the picture it attends to do); a call uses the set nearest in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from zbench.edits.captions import CaptionedCall, CaptionedEdit
from zbench.edits.files import read_tensors
from zbench.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from zbench.model.model import Model


class StateSwapEdit(CaptionedEdit):
    """Overwrites all text rows that enter the attention of chosen layers.

    A caption with more rows than were recorded repeats the last recorded one, a padding row for all but the
    longest clean prompts, so that no row of the prompt is left; one with fewer takes the first.

    Args:
        states: Per unified layer the rows to put there, [steps, R, D].
        timesteps: t in (0, 1000] of every step, [steps].
        phrases: Act on prompts that name one of them; on every prompt if there are none.
        scores: Of every unified layer, for the record: why these layers were chosen.

    Raises:
        ConfigurationError: No layer, or shapes that disagree.
    """

    kind = "state-swap"

    def __init__(
        self,
        states: Mapping[int, Tensor],
        timesteps: Tensor,
        phrases: Sequence[str] = (),
        scores: Sequence[float] = (),
    ) -> None:
        super().__init__(phrases, list(states))
        shapes = {tuple(rows.shape) for rows in states.values()}
        if len(shapes) != 1 or timesteps.ndim != 1 or len(next(iter(shapes))) != 3:
            raise ConfigurationError(f"States must share one shape [steps, rows, width], not {shapes}.")
        if next(iter(shapes))[0] != len(timesteps):
            raise ConfigurationError(f"{len(timesteps)} timesteps for states of shape {shapes}.")
        self.states = {layer: states[layer].detach().cpu() for layer in sorted(states)}
        self.scores = list(scores)
        self.timesteps = timesteps.detach().to("cpu", torch.float32)
        self._placed: dict[int, Tensor] = {}
        self._clock = self.timesteps

    def settings(self) -> dict[str, Any]:
        """Layers, phrases and scores."""
        return {"layers": list(self.states), "phrases": list(self.phrases), "scores": self.scores}

    def tensors(self) -> dict[str, Tensor]:
        """States by layer, and the timesteps."""
        return {_name(layer): rows for layer, rows in self.states.items()} | {"timesteps": self.timesteps}

    def attend(self, layer: int, call: CaptionedCall, attention: Any, hidden: Tensor, **rest: Any) -> Tensor:
        """Attention over the overwritten rows."""
        # A choice between rows: those of the image keep their bits.
        swapped: Tensor = attention(
            torch.where(self._chosen(call, hidden), self._rows(layer, call, hidden), hidden), **rest
        )
        return swapped

    def _chosen(self, call: CaptionedCall, hidden: Tensor) -> Tensor:
        """Which rows are overwritten, [B, S, 1]."""
        assert self._model is not None
        text = self._model.rows.text_row_mask("unified", hidden.shape, hidden.device)
        if not self.phrases:
            return text
        named = torch.tensor([bool(columns) for columns in call.columns], device=hidden.device)
        return text & named[:, None, None]

    def _rows(self, layer: int, call: CaptionedCall, hidden: Tensor) -> Tensor:
        """The stored rows at the places of the call's text rows, [B, S, D]; elsewhere without meaning."""
        assert self._model is not None
        states = self._placed[layer]
        nearest = (self._clock[None] - call.timesteps[:, None]).abs().argmin(dim=1)
        starts = torch.tensor(self._model.rows.current.image, device=hidden.device)
        places = torch.arange(hidden.shape[1], device=hidden.device)[None] - starts[:, None]
        return states[nearest[:, None], places.clamp(0, states.shape[1] - 1)].to(hidden.dtype)

    def _install(self, model: Model) -> None:
        width = int(model.transformer.config.dim)
        stored = next(iter(self.states.values())).shape[-1]
        if stored != width:
            raise WeightsError(f"These states were made for another model: {stored} channels, not {width}.")
        super()._install(model)
        self._placed = {layer: rows.to(model.device) for layer, rows in self.states.items()}
        self._clock = self.timesteps.to(model.device)

    def _remove(self, model: Model) -> None:
        self._placed = {}
        super()._remove(model)

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors, _ = read_tensors(folder / cls.weights_file)
        expected = {_name(layer): layer for layer in settings["layers"]}
        strange = sorted(set(tensors) ^ {*expected, "timesteps"})
        if strange:
            raise WeightsError(
                f"{folder / cls.weights_file}: {len(strange)} keys missing or unknown, {strange[0]} first."
            )
        states = {layer: tensors[name] for name, layer in expected.items()}
        return cls(states, tensors["timesteps"], settings["phrases"], settings["scores"])


def _name(layer: int) -> str:
    return f"layers.{layer}.attention.text_rows"
