"""From a run's configuration to its cells; everything that can be found wrong is found wrong here."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.concepts import load_concept
from zbench.config import ORIGINAL, REPLAY, RunConfig
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.exchange.imported import import_fields
from zbench.exchange.names import is_import, settings_of
from zbench.model import load_spec
from zbench.protocols import load_protocol
from zbench.registry import load_attack, load_method, plugin_files
from zbench.runner.attacks import attack_of, is_flagged
from zbench.runner.roles import prompt_sets_of
from zbench.runner.specs import AttackSpec, CellSpec
from zbench.stages.draw_candidates import ROLE
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.attacks.base import Attack
    from zbench.method import Method
    from zbench.model import ModelSpec
    from zbench.plugins import PluginFile

PRESET_OF_DOMAIN = {"world": "miniature", "photograph": "paper"}

ATTACK_PRESET_OF_DOMAIN = {"world": "miniature"}
"""A paper's values of an attack may take days on a large model: they are for those who ask with --preset."""


def plan(config: RunConfig) -> list[CellSpec]:
    """The cells of a run: `original` first, then every method with every training seed.

    A method that is there but cannot be used (it cannot be imported, its name clashes, its preset makes no
    method) gets cells with a `problem`: they fail, and the other methods go on. So does an attack.

    Args:
        config: The run.

    Raises:
        UnknownNameError: A method, attack, concept, model, protocol, preset or field is unknown; names close
            matches.
        ConfigurationError: A setting has the wrong type or is out of range, or there is no such plugin file
            or erased model.
        WeightsError: An erased model made elsewhere is truncated or altered.
    """
    plugins = plugin_files(config.plugins)
    model = load_spec(config.model)
    concept = load_concept(config.concept, model.domain)
    table = load_protocol(config.protocol).table(model.domain, concept.name, concept.family)
    # Says now, not after the training, that a set does not exist.
    sets = prompt_sets_of(table, concept, model.domain, config.prompts, config.prompts_dir)
    shared = {
        **config.model_dump(include={"concept", "model", "protocol", "prompts", "prompts_dir"}),
        **config.model_dump(include={"references", "batch_size", "device"}),
        "repetitions": config.repetitions or table.repetitions,
        "steps": config.steps or table.steps or model.steps,
        "height": config.height or table.height,
        "width": config.width or table.width,
        "guidance_scale": table.guidance_scale,
        "attacks": planned_attacks(config, model, flagged=is_flagged(concept, model)),
        "attack_prompts": min(config.attack_prompts, len(sets[ROLE].prompts)) if config.attacks else None,
    }
    cells = [CellSpec(method=ORIGINAL, **shared)]
    for name in config.methods:
        if is_import(name):  # nothing is trained, so there is one cell whatever the training seeds
            cells.append(CellSpec(**import_fields(name, settings_of(name, config.settings)), **shared))
            continue
        own = _fields_of(name, config, plugins, model)
        seeds = range(config.training_seeds)
        cells.extend(CellSpec(method=name, **_with_seed(own, seed), **shared) for seed in seeds)
    return cells


def _with_seed(own: dict[str, Any], seed: int) -> dict[str, Any]:
    return {**own, "hyperparameters": {**own["hyperparameters"], "training_seed": seed}}


def _fields_of(
    name: str, config: RunConfig, plugins: Sequence[PluginFile], model: ModelSpec
) -> dict[str, Any]:
    """What the cells of a method have in common, or why it has no cell that can run."""
    settings = config.settings.get(name, {})
    if "training_seed" in settings:
        raise ConfigurationError(
            f"--set {name}.training_seed: training seeds are set with --training-seeds N."
        )
    try:
        method = load_method(name, plugins)
    except ConfigurationError:
        return {"hyperparameters": settings, "problem": traceback.format_exc()}
    preset = choose_preset(method, config.preset, model)
    own = {"plugin": method.plugin, "preset": preset}
    start = method.presets.get(preset or "", {})
    try:
        return {**own, "hyperparameters": _resolved(method, {**start, **settings})}
    except (Exception, SystemExit) as error:
        if settings and not isinstance(error, SystemExit) and _makes(partial(_resolved, method, start)):
            raise  # the settings are at fault, and they are the user's
        return {**own, "hyperparameters": settings, "problem": traceback.format_exc()}


def _resolved(method: type[Method], values: dict[str, Any]) -> dict[str, Any]:
    """All fields as plain JSON values."""
    fields: dict[str, Any] = build_method(method, values).model_dump(mode="json")
    return fields


# Attacks --------------------------------------------------------------------------------------------------


def planned_attacks(config: RunConfig, model: ModelSpec, *, flagged: bool) -> tuple[AttackSpec, ...]:
    """The attacks of a run with all of their fields.

    Args:
        config: The run.
        model: What it runs on: its domain chooses the presets.
        flagged: Whether texts of attacks are kept apart, unshown.

    Raises:
        UnknownNameError: An attack or one of its fields is unknown; names close matches.
        ConfigurationError: A setting has the wrong type or is out of range, or nothing can be replayed.
    """
    return tuple(
        _replayed(name, flagged) if name.startswith(REPLAY) else _attack_spec(name, config, model)
        for name in config.attacks
    )


def _replayed(name: str, flagged: bool) -> AttackSpec:
    place = name.removeprefix(REPLAY)
    if not place:
        raise ConfigurationError("replay: needs a folder with candidates, such as replay:runs/attacks/ID.")
    spec = AttackSpec(name="replay", replay=Path(place).expanduser().absolute())
    fields = attack_of(spec, flagged).model_dump(mode="json")
    return spec.model_copy(update={"hyperparameters": fields})


def _attack_spec(name: str, config: RunConfig, model: ModelSpec) -> AttackSpec:
    settings = config.settings.get(name, {})
    try:
        attack = load_attack(name)
    except ConfigurationError:
        return AttackSpec(name=name, hyperparameters=settings, problem=traceback.format_exc())
    # A preset is asked for by the methods' names of them; an attack without it starts as it usually does.
    known = getattr(attack, "presets", {})
    wanted = (config.preset, ATTACK_PRESET_OF_DOMAIN.get(model.domain))
    preset = next((each for each in wanted if each in known), None)
    # The run's folder of fetched sets serves attacks that read one.
    asks = config.prompts_dir is not None and "prompts_dir" in getattr(attack, "model_fields", {})
    start = {**known.get(preset, {}), **({"prompts_dir": config.prompts_dir} if asks else {})}
    try:
        fields = _attack_fields(attack, {**start, **settings})
        return AttackSpec(name=name, preset=preset, hyperparameters=fields)
    except (Exception, SystemExit) as error:
        if settings and not isinstance(error, SystemExit) and _makes(partial(_attack_fields, attack, start)):
            raise  # the settings are at fault, and they are the user's
        return AttackSpec(name=name, preset=preset, hyperparameters=settings, problem=traceback.format_exc())


def _attack_fields(attack: type[Attack], values: dict[str, Any]) -> dict[str, Any]:
    """All fields as plain JSON values."""
    fields: dict[str, Any] = validated(attack, values, prefix=f"{attack.name}.").model_dump(mode="json")
    return fields


# What both have -------------------------------------------------------------------------------------------


def _makes(build: Callable[[], Any]) -> bool:
    try:
        build()
    except (Exception, SystemExit):  # a stranger's validators may raise anything
        return False
    return True


def choose_preset(method: type[Method], wanted: str | None, model: ModelSpec) -> str | None:
    """Name of the preset to start from; None where the method has none for this model and none was asked for.

    Raises:
        UnknownNameError: The preset that was asked for does not exist.
    """
    if wanted is not None:
        if wanted not in method.presets:
            raise UnknownNameError.of(f"preset of {method.name}", wanted, method.presets)
        return wanted
    usual = PRESET_OF_DOMAIN[model.domain]
    return usual if usual in method.presets else None


def build_method(method: type[Method], values: dict[str, Any]) -> Method:
    """The method with these hyper-parameters; what is wrong with them is said in one line."""
    return validated(method, values, prefix=f"{method.name}.")
