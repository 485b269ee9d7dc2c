"""The world's concepts and prompt sets as files in `prompts/`, made from the grammar and always the same.

`concept_words` says what a concept is learnt from, `prompt_sets` what its erasure is measured on.
"""

from __future__ import annotations

import random
from pathlib import Path

from zbench.concepts import Concept
from zbench.miniature.concept_words import FAMILY, anchored_sentences, phrases
from zbench.miniature.prompt_sets import make_prompt_sets, unrelated_prompts, unrelated_scenes

__all__ = ["concept_toml", "make_concept", "make_prompt_sets", "unrelated_scenes", "write_catalogue"]

PRESERVED = 24


def make_concept(name: str) -> Concept:
    """One concept of the world as methods see it."""
    anchor, pairs = anchored_sentences(name)
    prompts = dict(pairs)
    return Concept.model_validate(
        {
            "name": name,
            "family": FAMILY[name],
            "phrases": phrases(name),
            "training_prompts": tuple(prompts),
            "anchor": anchor,
            "anchor_prompts": tuple(prompts.values()),
            "preserve_prompts": _preserved(name, anchor),
        }
    )


def _preserved(name: str, anchor: str) -> tuple[str, ...]:
    """Prompts whose pictures must not change, the bare anchor among them."""
    prompts = unrelated_prompts("training", f"preserve-{name}", random.Random(f"preserve-{name}"))
    texts = [prompt.text for prompt in prompts if name not in (prompt.truth or {})]
    return tuple(texts[:PRESERVED] if anchor in texts else [*texts[: PRESERVED - 1], anchor])


def _toml_list(values: tuple[str, ...]) -> str:
    return "[\n" + "".join(f'    "{value}",\n' for value in values) + "]"


def concept_toml(concept: Concept) -> str:
    """The file form of a concept."""
    lines = [f'family = "{concept.family}"', f'anchor = "{concept.anchor}"']
    lines += [
        f"{key} = {_toml_list(getattr(concept, key))}"
        for key in ("phrases", "training_prompts", "anchor_prompts", "preserve_prompts")
    ]
    return "\n".join(lines) + "\n"


def write_catalogue(folder: Path) -> None:
    """Write `concepts/*.toml` and `sets/*.jsonl`.

    Args:
        folder: The `prompts/` folder of the repository.
    """
    for kind in ("concepts", "sets"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in FAMILY:
        (folder / "concepts" / f"{name}.toml").write_text(concept_toml(make_concept(name)), encoding="utf-8")
    for prompt_set in make_prompt_sets():
        (folder / "sets" / f"{prompt_set.name}.jsonl").write_text(prompt_set.to_jsonl(), encoding="utf-8")
