"""The conventions of the release, side by side with the right ones; wrong on purpose, for this study only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.model import Model

Time = Literal["right", "released"]
Latents = Literal["trajectory", "noise"]
Embeddings = Literal["right", "released"]


@dataclass(frozen=True)
class Convention:
    """How a training call of the transformer is made.

    The release also leaves out the sign of the velocity. That changes nothing here: prediction and target
    change their signs together, and the losses are squares of differences.

    Attributes:
        time: ``right``: tau = (1000 - t) / 1000; ``released``: t itself, in 0..1000 (D1).
        latents: ``trajectory``: points of the frozen model's trajectories; ``noise``: pure noise beside an
            unrelated t, which is what the release's sampler amounts to (D2).
        embeddings: ``right``: the pipeline's; ``released``: raw text without chat template, padded to half
            the longest prompt (256 of 512), last layer, padding included (D3).
    """

    time: Time = "right"
    latents: Latents = "trajectory"
    embeddings: Embeddings = "right"

    @contextmanager
    def applied(self, model: Model) -> Iterator[None]:
        """Inside the `with` block every call of the transformer gets the time of this convention."""
        if self.time == "right":
            yield
            return
        handle = model.transformer.register_forward_pre_hook(_raw_time, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def encode(self, model: Model, prompts: Sequence[str]) -> list[Tensor]:
        """Embeddings of prompts, one [L_i, D] each."""
        from zbench.training import encode_each

        if self.embeddings == "right":
            return encode_each(model, prompts)
        distinct = list(dict.fromkeys(prompts))
        encoded = dict(zip(distinct, _last_layer(model, distinct), strict=True))
        return [encoded[prompt] for prompt in prompts]


def _raw_time(
    module: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Replaces tau by the t that it was made from."""
    latents, tau, *rest = args
    return (latents, 1000 * (1 - tau), *rest), kwargs


def _last_layer(model: Model, prompts: list[str]) -> list[Tensor]:
    """What the release's `compute_text_embeddings` gives, [L, D] each with the padding in it."""
    import torch

    pipeline: Any = model.pipeline
    tokens = pipeline.tokenizer(
        prompts,
        padding="max_length",
        max_length=max(1, model.spec.max_sequence_length // 2),
        truncation=True,
        return_tensors="pt",
    ).to(model.device)
    with torch.no_grad():
        states = pipeline.text_encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state
    return [state.clone() for state in states]
