"""The image/text split follows from the call (D10: a constant 1024 elsewhere)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.model.rows import Rows, padded, rows_of, stream_of


@pytest.mark.parametrize(
    ("latent", "expected"),
    [((128, 128), 4096), ((64, 64), 1024), ((12, 20), 64), ((2, 2), 32), ((16, 16), 64)],
)
def test_image_rows_of_a_size(latent: tuple[int, int], expected: int) -> None:
    rows = rows_of([torch.zeros(4, 1, *latent)], [torch.zeros(33, 8)], 2, 1)
    assert rows == Rows((expected,), (33,), (64,))
    assert padded(32) == 32


def _layer_inputs(model: Model, latents: list[torch.Tensor], captions: list[torch.Tensor]) -> tuple[int, int]:
    """Batch and length of the sequence that the unified layers really see."""
    seen: list[torch.Size] = []
    handle = model.transformer.layers[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0].shape)
    )
    with torch.no_grad():
        model.transformer(latents, torch.full((len(latents),), 0.5), captions, return_dict=False)
    handle.remove()
    return seen[0][0], seen[0][1]


def test_mixed_sizes_and_captions_in_one_call(tiny_model: Model) -> None:
    channels, width = tiny_model.latent_shape()[0], tiny_model.encode([""])[0].shape[1]
    latents = [torch.randn(channels, 1, 12, 20), torch.randn(channels, 1, 24, 16)]
    captions = [torch.randn(70, width), torch.randn(5, width)]
    batch, length = _layer_inputs(tiny_model, latents, captions)
    assert tiny_model.rows.current == Rows((64, 96), (70, 5), (96, 32))
    assert (batch, length) == (2, 64 + 96)
    mask = tiny_model.rows.text_row_mask("unified", torch.Size((batch, length, 8)), torch.device("cpu"))
    assert mask[:, :, 0].sum(dim=1).tolist() == [length - 64, length - 96]
    assert not mask[0, 63, 0] and mask[0, 64, 0] and not mask[1, 95, 0] and mask[1, 96, 0]


def test_text_rows_do_carry_the_text(tiny_model: Model) -> None:
    """Independent of the tracker: before the first unified layer only text rows know the caption."""
    seen: list[torch.Tensor] = []
    handle = tiny_model.transformer.layers[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    noise, time = tiny_model.noise([0]), torch.tensor([500.0])
    for prompt in ("a red car", "a nude person"):
        tiny_model.velocity(noise, time, tiny_model.encode([prompt]))
    handle.remove()
    differs = (seen[0] != seen[1]).any(dim=2)[0]
    first = int(differs.nonzero()[0])
    assert first == tiny_model.rows.current.image[0]


def test_layout_of_each_call_survives_checkpointing(tiny_model: Model) -> None:
    """The backward pass runs layers again after another call, of another layout, was seen."""
    rows: list[tuple[int, ...]] = []
    handle = tiny_model.transformer.layers[1].register_forward_pre_hook(
        lambda module, args: rows.append(tiny_model.rows.current.image)
    )
    channels, width = tiny_model.latent_shape()[0], tiny_model.encode([""])[0].shape[1]
    tiny_model.transformer.enable_gradient_checkpointing()
    try:
        losses = []
        for side in (12, 24):
            latents = torch.randn(1, channels, side, 16, requires_grad=True)
            losses.append(tiny_model.velocity(latents, torch.tensor([300.0]), [torch.randn(9, width)]).sum())
        losses[0].backward()
        losses[1].backward()
    finally:
        tiny_model.transformer.disable_gradient_checkpointing()
        handle.remove()
    assert rows == [(64,), (96,), (64,), (96,)]


def test_streams_of_modules() -> None:
    assert stream_of("layers.3.attention.to_q") == "unified"
    assert stream_of("context_refiner.0.attention.to_k") == "text"
    assert stream_of("noise_refiner.0.feed_forward.w1") == "image"
    for path in ("layers.0.adaLN_modulation.0", "t_embedder.mlp.0", "nonsense"):
        with pytest.raises(ConfigurationError):
            stream_of(path)


def test_omni_mode_is_refused(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match="Omni"):
        nn.Module.__call__(
            tiny_model.transformer, [[torch.zeros(6, 1, 4, 4)]], torch.tensor([0.5]), [[torch.zeros(3, 40)]]
        )
