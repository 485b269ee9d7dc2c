"""A grid: one run for each of some concepts, and how its cells are launched.

Sources of a setting, the first that speaks wins: flags, `run.toml`, the environment variable `ZBENCH_MODEL`,
`zbench.toml` in the working directory, the defaults of `RunConfig` and `Launch`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from zbench.config import DEFAULTS_FILE, LAUNCH, MODEL_VARIABLE, REPLAY, RunConfig, read_defaults
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.exchange.names import placed as placed_import
from zbench.exchange.names import portable_name
from zbench.runner.launchers.settings import Launch, SlurmSettings
from zbench.validation import validated

SLURM, SETTINGS = "slurm", "settings"

_PATHS = ("out", "references", "prompts_dir")
_LISTS = ("methods", "attacks", "concepts", "plugins")
_KNOWN = (set(RunConfig.model_fields) - {"concept"}) | {"concept", "concepts", LAUNCH}

Values = dict[str, Any]


class Grid(BaseModel):
    """What `zbench run` does: a validated run for each concept, in one run folder.

    Attributes:
        runs: One run for each concept, alike but for it.
        launch: Who runs the cells, and where.
        file: The file that it was read from; None for flags alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: tuple[RunConfig, ...] = Field(min_length=1)
    launch: Launch = Launch()
    file: Path | None = None

    @property
    def out(self) -> Path:
        """The run folder that all of its runs share."""
        return self.runs[0].out

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts, in order."""
        return tuple(run.concept for run in self.runs)

    @classmethod
    def create(
        cls, flags: Mapping[str, Any], file: Path | str | None = None, *, folder: Path | None = None
    ) -> Self:
        """Combines all sources.

        `launch` and `settings` are combined key by key; other settings are taken whole from one source.

        Args:
            flags: Fields of `RunConfig`, `concepts` in place of `concept`, and `launch` with fields of
                `Launch`; a value of None counts as not given.
            file: A TOML file with the same; relative paths in it are relative to its folder.
            folder: Where `zbench.toml` is looked for; the working directory when None.

        Raises:
            UnknownNameError: A key is not a setting; close matches are named.
            ConfigurationError: The file cannot be read, a value has the wrong type or is out of range, or no
                method or concept is named; one line says which.
        """
        defaults = _source(read_defaults(folder or Path.cwd()), DEFAULTS_FILE)
        asked = _combined(
            _environment(),
            {} if file is None else read_grid_file(Path(file)),
            _source(flags, "the command line"),
        )
        values = _combined({**defaults, SETTINGS: {}}, asked)
        launch, concepts = _launch(values.pop(LAUNCH)), _concepts(values.pop("concepts", ()))
        if not values.get("methods"):
            raise ConfigurationError("No method is named: give one or more, such as --methods zerase,uce,ac.")
        probe = validated(RunConfig, {**values, "concept": concepts[0]})
        values |= {"methods": probe.methods, "attacks": probe.attacks}  # `all` is looked up once
        values[SETTINGS] = _combined(_own_settings(defaults, probe), asked)[SETTINGS]
        runs = tuple(validated(RunConfig, {**values, "concept": concept}) for concept in concepts)
        return cls(runs=runs, launch=launch, file=None if file is None else Path(file).absolute())


def read_grid_file(path: Path) -> Values:
    """The settings in a run's file, its relative paths made absolute.

    Raises:
        UnknownNameError: A key is not a setting; close matches are named.
        ConfigurationError: It cannot be read or is not TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{path} cannot be used: {reason}.") from error
    return _placed(_source(values, path.name), path.absolute().parent)


# One source -----------------------------------------------------------------------------------------------


def _source(values: Mapping[str, Any], where: str) -> Values:
    """What one source says, in one form: lists as tuples, `concept` as `concepts`."""
    given = {name: value for name, value in values.items() if value is not None}
    for name in given:
        if name not in _KNOWN:
            raise UnknownNameError.of(f"setting in {where}", name, _KNOWN)
    if "concept" in given:
        if "concepts" in given:
            raise ConfigurationError(f"{where} has concept and concepts: leave one of them out.")
        given["concepts"] = given.pop("concept")
    for name in (LAUNCH, SETTINGS):
        given[name] = _table(given.get(name, {}), f"{name} in {where}")
    return {**given, **{name: _names(given[name]) for name in _LISTS if name in given}}


def _table(value: Any, where: str) -> Values:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where}: must be a table (got {value!r}).")
    return {
        name: _table(each, f"{where}.{name}") if isinstance(each, Mapping) else each
        for name, each in value.items()
        if each is not None
    }


def _names(value: Any) -> Any:
    """Names as a tuple; one text may hold several, separated by commas. Other values are refused later on."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return tuple(value) if isinstance(value, list | tuple) else value


def _environment() -> Values:
    return {"model": os.environ[MODEL_VARIABLE]} if os.environ.get(MODEL_VARIABLE) else {}


def _placed(values: Values, folder: Path) -> Values:
    """With paths relative to a folder; names of the catalogue stay names."""
    placed = dict(values)
    for name in _PATHS:
        if isinstance(placed.get(name), str):
            placed[name] = _within(folder, placed[name])
    if _are_texts(placed.get("plugins")):
        placed["plugins"] = tuple(_within(folder, each) for each in placed["plugins"])
    if _are_texts(placed.get("methods")):
        placed["methods"] = tuple(placed_import(each, folder) for each in placed["methods"])
    if _are_texts(placed.get("attacks")):
        placed["attacks"] = tuple(_placed_replay(each, folder) for each in placed["attacks"])
    if isinstance(placed.get("model"), str):
        placed["model"] = _model(placed["model"], folder)
    return placed


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)


def _within(folder: Path, place: str) -> Path:
    return folder / Path(place).expanduser()


def _placed_replay(attack: str, folder: Path) -> str:
    place = attack.removeprefix(REPLAY)
    return f"{REPLAY}{_within(folder, place)}" if attack.startswith(REPLAY) and place else attack


def _model(name: str, folder: Path) -> str:
    """A model's folder; a name that the catalogue knows is never taken for one."""
    from zbench.model.spec import model_names

    is_place = "/" in name or "\\" in name or (folder / name).is_dir()
    return str(_within(folder, name)) if is_place and name not in model_names() else name


# All sources ----------------------------------------------------------------------------------------------


def _combined(*sources: Values) -> Values:
    """Later sources win over earlier ones."""
    values: Values = {}
    for source in sources:
        values.update({**source, **{name: _deep(values, source, name) for name in (LAUNCH, SETTINGS)}})
    return values


def _deep(below: Values, above: Values, name: str) -> Values:
    merged: Values = dict(below.get(name, {}))
    for key, value in above.get(name, {}).items():
        old = merged.get(key)
        merged[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _launch(values: Values) -> Launch:
    settings = validated(SlurmSettings, values.get(SLURM, {}), prefix=f"{LAUNCH}.{SLURM}.")
    plain: Values = {**values, SLURM: settings}
    if "devices" in plain:  # CUDA devices by number may be written as numbers
        devices = _names(plain["devices"])
        plain["devices"] = [str(each) for each in devices] if isinstance(devices, tuple) else devices
    return validated(Launch, plain, prefix=f"{LAUNCH}.")


def _concepts(given: Any) -> tuple[str, ...]:
    if not _are_texts(given):
        raise ConfigurationError(f"concepts: must be a list of names (got {given!r}).")
    if not given:
        raise ConfigurationError(
            "No concept is named: give one or more, such as --concept nudity (see `zbench concepts`)."
        )
    return tuple(dict.fromkeys(given))


def _own_settings(defaults: Values, run: RunConfig) -> Values:
    """Of the defaults only what concerns this run: they may speak of methods that other runs have."""
    names = {*run.methods, *run.attacks, *(portable_name(method) for method in run.methods)}
    return {SETTINGS: {name: fields for name, fields in defaults[SETTINGS].items() if name in names}}
