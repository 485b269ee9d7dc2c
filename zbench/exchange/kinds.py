"""What an exported erasure is, and what can be done with it where there is no zbench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STANDALONE = frozenset({"lora", "adapter", "delta", "checkpoint"})
"""Kinds that `load_erasure.py` puts on a stock pipeline."""

ADAPTERS = frozenset({"lora", "adapter"})
"""Kinds that are also written in the formats of diffusers and peft."""

_WHAT = {
    "lora": "a LoRA on projections of the unified layers",
    "adapter": "a LoRA on linear modules of the transformer",
    "delta": "full-rank updates of linear modules, in closed form",
    "checkpoint": "other weights in the place of the transformer's own",
    "token-zeroing": "attention to the tokens that name the concept is taken away; no weight is changed",
    "state-swap": "hidden states of the concept's tokens are exchanged; no weight is changed",
    "projection": "prompt embeddings are moved away from the concept; no weight is changed",
    "neuron_mask": "neurons are switched off on text rows; no weight is changed",
    "negative-prompt": "the velocity is guided away from the concept; no weight is changed",
    "safety-guidance": "the velocity is guided away where it heads for the concept; no weight is changed",
    "quantised": "another edit, on quantised weights",
    "composed": "several edits together",
}

_BY_TOKENS = "nothing: it must know which tokens of a prompt name the concept, and a stock pipeline does not."

_NEAREST = {
    "token-zeroing": _BY_TOKENS,
    "state-swap": _BY_TOKENS,
    "projection": "give the stock pipeline the embeddings that zbench makes: "
    "`pipeline(prompt_embeds=model.encode([prompt]), ...)` inside the `with` block above, which is exact.",
    "negative-prompt": "diffusers' own negative prompt, `pipeline(prompt, negative_prompt=..., "
    "guidance_scale=...)`; it steers from the empty prompt, so that its pictures are others.",
    "safety-guidance": "diffusers' own negative prompt, `pipeline(prompt, negative_prompt=..., "
    "guidance_scale=...)`; it acts on every picture, near the concept or not.",
}

_NO_WAY = "nothing: no stock loader does this."


@dataclass(frozen=True)
class Kind:
    """An edit as its description tells.

    Attributes:
        name: The edit's kind.
        rows: `text` or `all`.
        standalone: Whether `load_erasure.py` can put it on a stock pipeline.
        adapter: Whether stock loaders of diffusers and peft can read it.
        exact: Whether what they then draw is what was measured.
        what: What it is, in a few words.
        nearest: What comes nearest without zbench, where it is not standalone; empty elsewhere.
    """

    name: str
    rows: str
    standalone: bool
    adapter: bool
    exact: bool
    what: str
    nearest: str

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Kind:
        """From `edit.json`, or from what `Edit.describe` gives."""
        name, rows = str(description["kind"]), str(description["rows"])
        standalone, adapter = _is_standalone(description), name in ADAPTERS
        what = _WHAT.get(name, f"an edit of the kind {name!r}")
        nearest = "" if standalone else _NEAREST.get(name, _NO_WAY)
        return cls(name, rows, standalone, adapter, adapter and rows == "all", what, nearest)


def _is_standalone(description: Mapping[str, Any]) -> bool:
    if description["kind"] != "composed":
        return description["kind"] in STANDALONE
    settings = description.get("settings", description)  # parts are described without a level of their own
    return all(_is_standalone(part) for part in settings["parts"])
