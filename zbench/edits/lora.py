"""Low-rank adapters on stock peft, on text rows only or on all rows.

On text rows this is Z-Erase's stream-disentangled projection, H' = H W + S_T H dW (arXiv 2603.25074): image
rows see the frozen weights bit for bit, because their input to the adapter is an exact zero.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from zbench.edits.base import Edit, RowChoice
from zbench.edits.combining import Part, checked_weights, concatenated
from zbench.edits.files import read_tensors
from zbench.edits.masking import keep_text_rows
from zbench.errors import ConfigurationError, WeightsError
from zbench.model.rows import stream_of

if TYPE_CHECKING:
    from zbench.model.model import Model

_PREFIX = "transformer."
"""What diffusers' LoRA files put before the transformer's module paths."""


class LoraEdit(Edit):
    """LoRA on projections of the unified layers; float32 factors, A from the seed, B zero.

    Args:
        rank: Rank of the update.
        alpha: The update is scaled by alpha / rank; alpha is the rank by default.
        targets: Modules inside a layer's attention ("to_q", "to_out.0"), or "feed_forward.w1" and the like.
        layers: Indices of unified layers; all by default.
        rows: "text" changes text rows only, "all" every row.
        seed: Of A; the global random state is neither used nor moved.

    Raises:
        ConfigurationError: A value out of range.
    """

    kind = "lora"
    seam = "weights"
    weights_file = "pytorch_lora_weights.safetensors"

    def __init__(
        self,
        rank: int,
        alpha: float | None = None,
        targets: Sequence[str] = ("to_q", "to_k", "to_v"),
        layers: Sequence[int] | None = None,
        rows: RowChoice = "text",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rank < 1 or not targets or rows not in ("text", "all"):
            raise ConfigurationError(
                f"A LoRA needs a rank of at least 1, targets, and rows 'text' or 'all'; "
                f"got {rank}, {targets}, {rows!r}."
            )
        self.rank, self.alpha, self.seed = rank, float(rank if alpha is None else alpha), seed
        self.targets = tuple(targets)
        self.layers = None if layers is None else tuple(sorted(set(layers)))
        self.rows = rows
        self._factors: dict[str, nn.Parameter] = {}
        self._adapter = ""

    @classmethod
    def combined(cls, edits: Sequence[LoraEdit], weights: Sequence[float] | None = None) -> LoraEdit:
        """One LoRA whose update is exactly sum_i w_i (alpha_i / r_i) B_i A_i, ranks concatenated.

        For several concepts erased one by one (Z-Erase, multi-concept erasure), or with one edit and one
        weight for the same LoRA at another strength.

        Args:
            edits: Trained or loaded LoRAs on the same rows; layers and targets may differ, what one of them
                leaves alone gets nothing from it. They are neither changed nor kept.
            weights: w_i of any sign and sum; 1 / N each by default.

        Raises:
            ConfigurationError: Nothing to combine, weights that do not fit, different rows, or a LoRA that
                has no factors yet.
            WeightsError: They were made for models of different widths.
        """
        chosen = checked_weights(len(edits), weights)
        if len({edit.rows for edit in edits}) > 1:
            raise ConfigurationError("LoRAs on text rows and on all rows cannot be one LoRA: compose them.")
        if not all(edit._factors for edit in edits):
            raise ConfigurationError("A LoRA that was never attached has nothing to combine: train it first.")
        parts = [
            Part(edit._factors, edit.rank, weight * edit.alpha / edit.rank)
            for edit, weight in zip(edits, chosen, strict=True)
        ]
        layers = {layer for edit in edits for layer in edit.layers or ()}
        targets = dict.fromkeys(target for edit in edits for target in edit.targets)
        joined = cls(sum(part.rank for part in parts), None, tuple(targets), sorted(layers), edits[0].rows)
        # As of a loaded edit: it is for use; whoever trains it on sets requires_grad.
        joined._factors = {
            name: nn.Parameter(factor, requires_grad=False)
            for name, factor in concatenated(parts, joined._paths()).items()
        }
        return joined

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every target; empty until the edit was attached once (only then the sizes are known)."""
        return list(self._factors.values())

    def settings(self) -> dict[str, Any]:
        """Arguments of the constructor, layers resolved once known."""
        layers = None if self.layers is None else list(self.layers)
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": list(self.targets),
            "layers": layers,
            "rows": self.rows,
            "seed": self.seed,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Factors under the names that diffusers' `load_lora_weights` reads."""
        return {_PREFIX + name: factor for name, factor in self._factors.items()}

    def scaled(self, factor: float) -> LoraEdit:
        """A copy of this LoRA with alpha times a factor; its factors are for use, not for training."""
        alpha = factor * self.alpha
        copy = type(self)(self.rank, alpha, self.targets, self.layers, self.rows, self.seed)
        copy._factors = {
            name: nn.Parameter(value.detach().clone(), requires_grad=False)
            for name, value in self._factors.items()
        }
        return copy

    def paths(self) -> list[str]:
        """Modules that it adds to; empty until the edit was attached once."""
        return self._paths() if self._factors else []

    def update_at(self, path: str) -> Tensor | None:
        """What is added to a module's weight, alpha / r B A, float32 [out, in]; None where nothing is."""
        if f"{path}.lora_A.weight" not in self._factors:
            return None
        down, up = (self._factors[f"{path}.lora_{half}.weight"].detach() for half in "AB")
        return self.alpha / self.rank * (up @ down)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The model without this edit inside a `with` block; cheap, for frozen references in training."""
        wrappers = self._wrappers() if self._model is not None else []
        active = [list(wrapper.active_adapters) for wrapper in wrappers]
        for wrapper, names in zip(wrappers, active, strict=True):
            _activate(wrapper, [name for name in names if name != self._adapter])
        try:
            yield
        finally:
            for wrapper, names in zip(wrappers, active, strict=True):
                _activate(wrapper, names)

    # Attaching --------------------------------------------------------------------------------------------

    def _install(self, model: Model) -> None:
        transformer = model.transformer
        self.layers = self._layers_of(transformer)
        if not self._factors:
            self._factors = self._fresh_factors(transformer)
        self._check_fit(transformer)
        self._adapter = _free_name(transformer)
        self._inject(transformer)
        for path in self._paths():
            wrapper = transformer.get_submodule(path)
            for half in ("lora_A", "lora_B"):
                factor = self._factors[f"{path}.{half}.weight"]
                factor.data = factor.data.to(model.device)
                getattr(wrapper, half)[self._adapter].weight = factor
            if self.rows == "text":
                keep_text_rows(wrapper.lora_A[self._adapter], stream_of(path), model.rows)

    def _inject(self, transformer: Any) -> None:
        """Wraps the targets, leaving other adapters active and the random state where it was."""
        active = {layer: list(layer.active_adapters) for layer in _lora_layers(transformer)}
        gradients = [(parameter, parameter.requires_grad) for parameter in transformer.parameters()]
        with torch.random.fork_rng(), warnings.catch_warnings():
            # peft warns of several adapters in one model: composed edits mean that.
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            transformer.add_adapter(self._config(), adapter_name=self._adapter)
        for layer in _lora_layers(transformer):
            own = [self._adapter] if self._adapter in layer.lora_A else []
            _activate(layer, active.get(layer, []) + own)
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)

    def _config(self) -> LoraConfig:
        pattern = "|".join(re.escape(path) for path in self._paths())
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=pattern)

    def _remove(self, model: Model) -> None:
        transformer = model.transformer
        for path, wrapper in zip(self._paths(), self._wrappers(model), strict=True):
            wrapper.delete_adapter(self._adapter)
            if not wrapper.lora_A:
                parent, _, name = path.rpartition(".")
                _set_child(transformer.get_submodule(parent), name, wrapper.get_base_layer())
        transformer.peft_config.pop(self._adapter, None)
        if not transformer.peft_config:
            # As the class leaves them: neither attribute exists on an instance that never had an adapter.
            del transformer.peft_config
            transformer.__dict__.pop("_hf_peft_config_loaded", None)

    def _wrappers(self, model: Model | None = None) -> list[Any]:
        model = model or self._model
        assert model is not None
        return [model.transformer.get_submodule(path) for path in self._paths()]

    def _paths(self) -> list[str]:
        layers = self.layers or ()
        return [f"layers.{layer}.{_inside_layer(target)}" for layer in layers for target in self.targets]

    def _layers_of(self, transformer: Any) -> tuple[int, ...]:
        count = len(transformer.layers)
        layers = tuple(range(count)) if self.layers is None else self.layers
        if not layers or layers[0] < 0 or layers[-1] >= count:
            raise ConfigurationError(
                f"layers {list(layers)}: this transformer has unified layers 0 to {count - 1}."
            )
        return layers

    def _fresh_factors(self, transformer: Any) -> dict[str, nn.Parameter]:
        generator = torch.Generator().manual_seed(self.seed)
        factors = {}
        for path in self._paths():
            linear = _linear_at(transformer, path)
            down = nn.init.kaiming_uniform_(
                torch.empty(self.rank, linear.in_features), a=math.sqrt(5), generator=generator
            )
            factors[f"{path}.lora_A.weight"] = nn.Parameter(down)
            factors[f"{path}.lora_B.weight"] = nn.Parameter(torch.zeros(linear.out_features, self.rank))
        return factors

    def _check_fit(self, transformer: Any) -> None:
        for path in self._paths():
            linear = _linear_at(transformer, path)
            shapes = [tuple(self._factors[f"{path}.lora_{half}.weight"].shape) for half in "AB"]
            if shapes != [(self.rank, linear.in_features), (linear.out_features, self.rank)]:
                raise WeightsError(
                    f"This LoRA was made for another model: {path} has factors {shapes[0]}, {shapes[1]}."
                )

    # Files ------------------------------------------------------------------------------------------------

    def _metadata(self) -> dict[str, str]:
        """What diffusers needs to scale the adapter rightly, and what only zbench knows (the rows)."""
        adapter = {f"{_PREFIX}{key}": value for key, value in self._description().items()}
        return {
            "lora_adapter_metadata": json.dumps(adapter),
            "zbench": json.dumps(self.settings(), sort_keys=True),
        }

    def _description(self) -> dict[str, Any]:
        """The adapter as peft's configuration describes it."""
        return {"r": self.rank, "lora_alpha": self.alpha, "target_modules": self._paths()}

    @classmethod
    def _read(cls, folder: Path, settings: Mapping[str, Any]) -> dict[str, Tensor]:
        """The stored tensors, which were saved with these settings."""
        tensors, metadata = read_tensors(folder / cls.weights_file)
        if json.loads(metadata.get("zbench", "null")) != dict(settings):
            raise WeightsError(f"{folder}: the settings in edit.json are not those in {cls.weights_file}.")
        return tensors

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        tensors, edit = cls._read(folder, settings), cls(**settings)
        expected = {f"{_PREFIX}{path}.lora_{half}.weight" for path in edit._paths() for half in "AB"}
        if set(tensors) != expected:
            strange = sorted(set(tensors) ^ expected)
            raise WeightsError(
                f"{folder / cls.weights_file}: {len(strange)} keys missing or unknown, {strange[0]} first."
            )
        if not any(bool(value.any()) for name, value in tensors.items() if ".lora_B." in name):
            raise WeightsError(f"{folder / cls.weights_file} changes nothing: every B is zero.")
        # A loaded edit is for use; whoever trains it on sets requires_grad.
        edit._factors = {
            name.removeprefix(_PREFIX): nn.Parameter(value, requires_grad=False)
            for name, value in tensors.items()
        }
        return edit


def _inside_layer(target: str) -> str:
    return target if target.startswith("feed_forward.") else f"attention.{target}"


def _linear_at(transformer: Any, path: str) -> nn.Linear:
    """The linear module at a path, looking through an adapter that wraps it."""
    try:
        module = transformer.get_submodule(path)
    except AttributeError as error:
        raise ConfigurationError(f"The transformer has no module {path}.") from error
    module = module.get_base_layer() if isinstance(module, LoraLayer) else module
    if not isinstance(module, nn.Linear):
        raise ConfigurationError(f"{path} is no linear projection, so it takes no LoRA.")
    return module


def _lora_layers(transformer: nn.Module) -> list[Any]:
    return [module for module in transformer.modules() if isinstance(module, LoraLayer)]


def _free_name(transformer: Any) -> str:
    taken = getattr(transformer, "peft_config", {})
    names = ["zbench", *(f"zbench_{index}" for index in range(1, len(taken) + 1))]
    return next(name for name in names if name not in taken)


def _activate(layer: Any, names: list[str]) -> None:
    """Makes exactly these adapters act; peft would also switch their gradients on and the others' off."""
    gradients = [(parameter, parameter.requires_grad) for parameter in layer.parameters()]
    layer.set_adapter(names)
    for parameter, flag in gradients:
        parameter.requires_grad_(flag)


def _set_child(parent: nn.Module, name: str, child: nn.Module) -> None:
    """Puts a module back in its place; entries of a module list (`to_out.0`) have numbers for names."""
    parent._modules[name] = child
