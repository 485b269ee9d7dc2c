"""A LoRA as others make them: any linear modules, a rank and a strength of its own for each.

`LoraEdit` is what zbench's methods train, one rank on the same projections of the unified layers; loaders of
diffusers and peft know more than that, the refiners' modules above all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from peft import LoraConfig
from torch import Tensor, nn

from zbench.edits.base import RowChoice
from zbench.edits.lora import _PREFIX, LoraEdit, _linear_at
from zbench.errors import ConfigurationError, WeightsError
from zbench.model.rows import stream_of


class AdapterEdit(LoraEdit):
    """A finished LoRA on any linear modules of the transformer; nothing to train.

    Args:
        factors: "PATH.lora_A.weight" [r, in] and "PATH.lora_B.weight" [out, r] of every module.
        alphas: Module path to alpha; the update of a module is alpha / r B A.
        rows: "text" changes text rows only, "all" every row.

    Raises:
        WeightsError: Half a pair of factors, or two that do not fit together.
        ConfigurationError: No module, an alpha that is not finite, or text rows of a module that has none.
    """

    kind = "adapter"

    def __init__(
        self, factors: Mapping[str, Tensor], alphas: Mapping[str, float], rows: RowChoice = "all"
    ) -> None:
        self.alphas = {path: float(alphas[path]) for path in sorted(alphas)}
        self.ranks = {path: _rank(factors, path) for path in self.alphas}
        strange = set(factors) - {f"{path}.lora_{half}.weight" for path in self.alphas for half in "AB"}
        if strange:
            raise WeightsError(f"A LoRA with a factor that belongs to no pair: {min(strange)}.")
        _require_sense(self.alphas, rows)
        super().__init__(max(self.ranks.values()), targets=tuple(self.alphas), rows=rows)
        self._factors = {
            # As of any loaded edit: it is for use; whoever trains it on sets requires_grad.
            name: nn.Parameter(factors[name].detach().float(), requires_grad=False)
            for path in self.alphas
            for name in (f"{path}.lora_A.weight", f"{path}.lora_B.weight")
        }

    def settings(self) -> dict[str, Any]:
        """Rows, and the rank and alpha of every module."""
        return {"rows": self.rows, "ranks": self.ranks, "alphas": self.alphas}

    def scaled(self, factor: float) -> AdapterEdit:
        """The same LoRA with every alpha times a factor."""
        alphas = {path: factor * alpha for path, alpha in self.alphas.items()}
        return type(self)({name: value.clone() for name, value in self._factors.items()}, alphas, self.rows)

    def update_at(self, path: str) -> Tensor | None:
        """What is added to a module's weight, alpha / r B A, float32 [out, in]; None where nothing is."""
        if path not in self.alphas:
            return None
        down, up = (self._factors[f"{path}.lora_{half}.weight"].detach() for half in "AB")
        return self.alphas[path] / self.ranks[path] * (up @ down)

    # Where it differs from a LoRA of one rank ---------------------------------------------------------------

    def _paths(self) -> list[str]:
        return list(self.alphas)

    def _layers_of(self, transformer: Any) -> tuple[int, ...]:
        """None: it names modules, not layers."""
        return ()

    def _config(self) -> LoraConfig:
        escaped = {path: re.escape(path) for path in self.alphas}
        return LoraConfig(
            r=self.rank,
            target_modules="|".join(escaped.values()),
            rank_pattern={escaped[path]: rank for path, rank in self.ranks.items()},
            alpha_pattern={escaped[path]: alpha for path, alpha in self.alphas.items()},
        )

    def _check_fit(self, transformer: Any) -> None:
        for path in self.alphas:
            linear = _linear_at(transformer, path)
            shapes = [tuple(self._factors[f"{path}.lora_{half}.weight"].shape) for half in "AB"]
            if (shapes[0][1], shapes[1][0]) != (linear.in_features, linear.out_features):
                raise WeightsError(
                    f"This LoRA was made for another model: {path} has factors {shapes[0]}, {shapes[1]}."
                )

    def _description(self) -> dict[str, Any]:
        patterns = {"rank_pattern": self.ranks, "alpha_pattern": self.alphas}
        return {"r": self.rank, "lora_alpha": self.rank, "target_modules": list(self.alphas), **patterns}

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors = cls._read(folder, settings)
        factors = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
        edit = cls(factors, settings["alphas"], settings["rows"])
        if edit.ranks != settings["ranks"]:
            raise WeightsError(f"{folder / cls.weights_file}: the factors are not of the ranks in edit.json.")
        require_change(edit.tensors(), folder / cls.weights_file)
        return edit


def require_change(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Refuses a LoRA whose update is zero everywhere.

    Raises:
        WeightsError: Every B is zero.
    """
    if not any(bool(value.any()) for name, value in tensors.items() if ".lora_B." in name):
        raise WeightsError(f"{where} changes nothing: every B is zero.")


def _rank(factors: Mapping[str, Tensor], path: str) -> int:
    down, up = (factors.get(f"{path}.lora_{half}.weight") for half in "AB")
    if down is None or up is None:
        raise WeightsError(f"Half a pair of factors: {path} has no {'A' if down is None else 'B'}.")
    if down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1] or not len(down):
        raise WeightsError(f"{path}: factors {tuple(down.shape)} and {tuple(up.shape)} make no update.")
    return len(down)


def _require_sense(alphas: Mapping[str, float], rows: RowChoice) -> None:
    if not alphas or rows not in ("text", "all") or not all(map(math.isfinite, alphas.values())):
        raise ConfigurationError("A LoRA needs a module, finite alphas, and rows 'text' or 'all'.")
    for path in alphas if rows == "text" else ():
        if stream_of(path) == "image":
            raise ConfigurationError(f"{path} sees image rows only; on text rows a LoRA there does nothing.")
