"""A random `ZImagePipeline` of any small shape, saved to a folder without network: what tests run on."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

SENTENCES = (
    "a nude person on a beach",
    "a naked person in the style of van gogh",
    "a red car beside a house",
    "the golden gate bridge, user, assistant",
    "an apple and a tree in the rain",
    "一个裸体的人在海滩上",
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE (any text encodes) with a chat template in Qwen's manner."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.padding_side = "right"
    return tokenizer


def tiny_transformer(dim: int, layers: int, channels: int, text_width: int) -> ZImageTransformer2DModel:
    """Random weights large enough that text, time and every layer matter to the output."""
    head = 24
    transformer = ZImageTransformer2DModel(
        in_channels=channels,
        dim=dim,
        n_layers=layers,
        n_refiner_layers=1,
        n_heads=dim // head,
        n_kv_heads=dim // head,
        cap_feat_dim=text_width,
        axes_dims=[8, 8, 8],
        axes_lens=[256, 32, 32],
    )
    for name, parameter in transformer.named_parameters():
        if name.endswith("pad_token") or "adaLN" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return transformer


def tiny_text_encoder(width: int, vocabulary: int) -> Qwen3Model:
    """Three layers, of which `hidden_states[-2]` uses two."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=width // 2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    return Qwen3Model(config)


def save_tiny_pipeline(
    folder: Path,
    *,
    dim: int = 48,
    layers: int = 3,
    channels: int = 6,
    vae_levels: int = 3,
    text_width: int = 40,
    height: int = 48,
    width: int = 80,
    steps: int = 4,
    guidance_scale: float = 0.0,
    max_sequence_length: int = 96,
    dynamic_shift: bool = False,
    seed: int = 0,
) -> Path:
    """Saves a random pipeline; equal arguments give equal weights.

    Args:
        folder: Made if need be.
        dim: Width of the transformer, a multiple of 24.
        layers: Unified layers.
        channels: Latent channels.
        vae_levels: The VAE's factor is two to the power of one less.
        text_width: Width of the text encoder.
        height: Default picture height.
        width: Default picture width.
        steps: Default denoising steps.
        guidance_scale: Default guidance.
        max_sequence_length: Default token limit.
        dynamic_shift: Whether the time shift depends on the resolution.
        seed: Of all weights; the global random state is left as it was.
    """
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * vae_levels,
            up_block_types=["UpDecoderBlock2D"] * vae_levels,
            block_out_channels=[8] * vae_levels,
            latent_channels=channels,
            norm_num_groups=4,
            scaling_factor=0.7,
            shift_factor=0.1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        pipeline = ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic_shift),
            vae=vae.eval(),
            text_encoder=tiny_text_encoder(text_width, len(tokenizer)).eval(),
            tokenizer=tokenizer,
            transformer=tiny_transformer(dim, layers, channels, text_width).eval(),
        )
    pipeline.save_pretrained(folder)
    settings = {
        "height": height,
        "width": width,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "max_sequence_length": max_sequence_length,
    }
    (folder / "zbench-model.json").write_text(json.dumps(settings))
    return folder


def save_smallest_pipeline(folder: Path) -> Path:
    """Saves a random pipeline for tests that make many erasures and look at none of the pictures."""
    return save_tiny_pipeline(folder, dim=24, layers=2, text_width=24, height=32, width=48, steps=2)
