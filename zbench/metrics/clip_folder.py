"""Loading an `open_clip` model of any configuration from a folder.

The folder holds `config.json` (`model_cfg` as open_clip reads it), `open_clip_model.safetensors` and
`tokenizer.json`. Token 0 pads; the last entry of the text tower's vocabulary ends the text, where open_clip
pools its features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zbench.errors import WeightsError

Tokenize = Callable[[Sequence[str]], Tensor]
MEAN = STD = (0.5, 0.5, 0.5)


def new_clip(config: dict[str, Any]) -> nn.Module:
    """An untrained open_clip model of a configuration (`embed_dim`, `vision_cfg`, `text_cfg`)."""
    from open_clip.model import CLIP

    model: nn.Module = CLIP(**config)
    return model


def folder_tokenizer(path: Path, context_length: int, vocabulary: int) -> Tokenize:
    """A tokenizer for a CLIP folder.

    Args:
        path: A `tokenizers` file.
        context_length: Tokens per text, end of text included; longer texts are cut.
        vocabulary: Size of the text tower's vocabulary; its last entry marks the end of text.

    Returns:
        Texts -> int64 token ids [N, context_length].
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))

    def tokenize(texts: Sequence[str]) -> Tensor:
        table = torch.zeros(len(texts), context_length, dtype=torch.int64)
        for row, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            ids = [*encoding.ids[: context_length - 1], vocabulary - 1]
            table[row, : len(ids)] = torch.tensor(ids)
        return table

    return tokenize


def load_clip_folder(path: Path) -> tuple[nn.Module, Tokenize]:
    """Load a CLIP folder as float32 on the CPU, ready for evaluation.

    Pictures are expected at the configuration's `image_size`, normalised with mean and deviation 0.5.

    Raises:
        WeightsError: If a file is missing, truncated or does not fit the configuration.
    """
    from safetensors.torch import load_file

    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))["model_cfg"]
        weights = load_file(path / "open_clip_model.safetensors")
        model = new_clip(config)
        model.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
        )
    except Exception as error:
        raise WeightsError(
            f"{path} is not a readable CLIP folder ({error}); restore it or reinstall zbench"
        ) from error
    text = config["text_cfg"]
    tokenize = folder_tokenizer(path / "tokenizer.json", text["context_length"], text["vocab_size"])
    return model.eval().requires_grad_(False), tokenize
