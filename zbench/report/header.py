"""The lines over a table: what was run on what, and what that can show."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.concepts import load_concept
from zbench.config import DEFAULT_MODEL, RunConfig
from zbench.exchange.names import portable_name
from zbench.model import load_spec
from zbench.protocols import load_protocol
from zbench.report.values import WORLD_NOTE
from zbench.runner.roles import prompt_sets_of, scored_counts

if TYPE_CHECKING:
    from zbench.model import ModelSpec
    from zbench.protocols import DomainProtocol
    from zbench.runner.specs import CellSpec

CUDA_HINT = "A CUDA device is present: run the real model with --model z-image-turbo (or set ZBENCH_MODEL)."


def header_lines(config: RunConfig, cells: Sequence[CellSpec]) -> list[str]:
    """Header of a run's table.

    Args:
        config: The run.
        cells: Its plan, at least the cell of `original`.
    """
    model, protocol = load_spec(config.model), load_protocol(config.protocol)
    first, concept = cells[0], load_concept(config.concept, model.domain)
    table = protocol.table(model.domain, concept.name, concept.family)
    sets = prompt_sets_of(table, concept, model.domain, config.prompts, config.prompts_dir)
    counts = ", ".join(f"{role} {count}" for role, count in scored_counts(sets, concept).items())
    height, width = first.height or model.height, first.width or model.width
    seeds = ", ".join(str(seed) for seed in range(config.training_seeds))
    presets = "".join(f", {name} preset" for name in dict.fromkeys(c.preset for c in cells) if name)
    lines = [
        f"Concept {config.concept}, model {model.label}, {width}x{height} pixels, {first.steps} steps",
        f"Protocol {protocol.label}, prompts {counts}, repetitions {first.repetitions}",
        f"Training seeds {seeds}{presets}",
    ]
    plugins = dict.fromkeys(cell.plugin.label for cell in cells if cell.plugin)
    lines += [f"Methods from files that are not packaged: {', '.join(plugins)}"] if plugins else []
    other = _changed_from_protocol(config, table, model)
    lines += [f"Not as the protocol says: {', '.join(other)}"] if other else []
    changed = [
        f"{portable_name(name)}.{field}={value}"
        for name, of in config.settings.items()
        for field, value in of.items()
    ]
    if changed:
        lines.append(f"Settings {', '.join(sorted(changed))}")
    return [*lines, WORLD_NOTE] if model.domain == "world" else lines


def _changed_from_protocol(config: RunConfig, table: DomainProtocol, model: ModelSpec) -> list[str]:
    """What the run asked for instead of the protocol's own choice."""
    asked = config.model_dump(include={"repetitions", "steps", "height", "width"})
    chosen = {name: getattr(table, name) or getattr(model, name, None) for name in asked}
    changed = [f"{name} {value}" for name, value in asked.items() if value not in (None, chosen[name])]
    return [f"the first {config.prompts} prompts of each set", *changed] if config.prompts else changed


def machine_hints(config: RunConfig) -> list[str]:
    """Header lines for this machine only: they never enter a file that must be the same everywhere."""
    if config.model != DEFAULT_MODEL:
        return []
    return [CUDA_HINT] if _cuda_is_present() else []


def _cuda_is_present() -> bool:
    """Asks torch where it is loaded anyway; a finished run is not worth the seconds of importing it."""
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
