"""The classification of a run's fields: which stages each of them names anew, and values to try it with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from tests.identity_tools import write_plugin
from tests.tiny import save_smallest_pipeline

ERASE, DRAW, SCORE, ATTACK, CELL = "erasures", "samples", "scores", "attacks", "cells"
NONE: frozenset[str] = frozenset()
PROJECTION = "transformer.layers.0.attention.to_v"


@dataclass(frozen=True)
class Trial:
    """A field and what it may do.

    Attributes:
        field: Of `RunConfig`.
        same: Values by what they mean: those of one list are one configuration, those of two are two.
        changes: Stages that are named anew.
        may: Stages that another value may name anew: there it depends on the other fields.
        only: The methods whose cells this is about; all cells when None.
        more: Values of other fields that it needs.
    """

    field: str
    same: Sequence[Sequence[Any]]
    changes: frozenset[str] = NONE
    may: frozenset[str] = NONE
    only: tuple[str, ...] | None = None
    more: dict[str, Any] | None = None


NAMES = (
    *("methods", "training_seeds", "plugins", "concept", "model", "out", "settings", "settings of an attack"),
    *("prompts", "preset", "protocol", "repetitions", "steps", "height", "width", "references"),
    *("prompts_dir", "batch_size", "device", "attacks", "no attacks", "replays", "attack_prompts", "imports"),
)


def trials_in(folder: Path) -> tuple[Trial, ...]:
    """The classification, in the order of `NAMES`."""
    model, other = (save_smallest_pipeline(folder / name) for name in ("model", "other"))
    (other / "zbench-model.json").write_text((other / "zbench-model.json").read_text())
    _change_weights(other)
    moved = Path(shutil.copytree(model, folder / "elsewhere" / "renamed"))
    plugin, copied = write_plugin(folder / "fade.py"), write_plugin(folder / "elsewhere" / "fade.py")
    edited = write_plugin(folder / "edited.py", "# another line\n")
    red, red_copy, blue = (reference_pictures(folder / name, name[0]) for name in ("red", "red-copy", "blue"))
    tried, tried_copy = (_replay(folder / name, "a house") for name in ("a.jsonl", "elsewhere/b.jsonl"))
    others = _replay(folder / "c.jsonl", "a tree")
    everything = frozenset({ERASE, DRAW, SCORE, ATTACK, CELL})
    sampling = frozenset({ERASE, DRAW, ATTACK, CELL})
    own, attacked = frozenset({ERASE, CELL}), frozenset({ATTACK, CELL})
    affix: dict[str, Any] = {"attacks": ("affix",)}
    fade = ("fade",)
    return (
        Trial("methods", [[("fade",)], [("fade", "uce")], [("uce", "fade")]]),
        Trial("training_seeds", [[1], [2]]),
        Trial("plugins", [[(plugin,), (copied,)], [(edited,)]], own, only=fade),
        Trial("concept", [["nudity"], ["cat"]], everything),
        Trial("model", [[str(model), str(moved)], [str(other)]], sampling),
        Trial("out", [[folder / "runs", folder / "others"]]),
        Trial("settings", [[{"fade": {"size": s}} for s in (2, 2.0, "2")], [{"fade": {"size": 3}}]],
              own, only=fade),
        Trial("settings", [[{"affix": {"budget": 2}}], [{"affix": {"budget": 3}}]], attacked, more=affix),
        Trial("prompts", [[2], [3]], frozenset({DRAW, CELL}), frozenset({SCORE, ATTACK})),
        Trial("preset", [[None, "miniature"], ["paper"]], own, only=("fade", "uce")),
        Trial("protocol", [["zbench"], ["tuning"]], everything - {ERASE}),
        Trial("repetitions", [[None, 1], [2]], frozenset({DRAW, CELL})),
        Trial("steps", [[None, 2], [3]], frozenset({DRAW, ATTACK, CELL})),
        Trial("height", [[None, 32], [64]], sampling),
        Trial("width", [[None, 48], [64]], sampling),
        Trial("references", [[None], [red, red_copy], [blue]], frozenset({SCORE, CELL})),
        Trial("prompts_dir", [[None, folder / "elsewhere"]]),
        Trial("batch_size", [[16, 1, 3]]),
        Trial("device", [[None, "cpu", "cuda:0"]]),
        Trial("attacks", [[("affix",)], [("affix", "typo")]], attacked),
        Trial("attacks", [[()], [("affix",)]], attacked),
        Trial("attacks", [[(tried,), (tried_copy,)], [(others,)]], attacked),
        Trial("attack_prompts", [[50, 3], [1]], attacked),
        Trial("methods", _imports(folder), own, only=("import:mine",)),
    )  # fmt: skip


def _change_weights(folder: Path) -> None:
    """Another model: one byte of its weights is another one."""
    [weights] = (folder / "transformer").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def reference_pictures(folder: Path, colour: str) -> Path:
    """Reference pictures of one colour."""
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8), {"r": "red", "b": "blue"}[colour]).save(folder / "0.png")
    return folder


def _replay(path: Path, text: str) -> str:
    """The name of an attack with stored candidates: what counts is what is stored."""
    path.write_text(json.dumps({"prompt_id": "nudity-explicit-001", "text": text}) + "\n")
    return f"replay:{path}"


def _imports(folder: Path) -> list[list[tuple[str, ...]]]:
    """An erased model made elsewhere, at two places, and another one."""
    groups = [
        [folder / "lora.safetensors", folder / "elsewhere" / "other.safetensors"],
        [folder / "b.safetensors"],
    ]
    for number, paths in enumerate(groups):
        for path in paths:
            factors = {"A": torch.ones(2, 24), "B": torch.full((24, 2), float(number))}
            save_file({f"{PROJECTION}.lora_{name}.weight": factor for name, factor in factors.items()}, path)
    return [[("fade", f"import:mine={path}") for path in paths] for paths in groups]
