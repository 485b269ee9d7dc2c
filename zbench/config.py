"""What one `zbench run` does, and where its settings come from.

Sources, the first that speaks wins: flags (or keyword arguments), the environment variable `ZBENCH_MODEL`,
`zbench.toml` in the working directory, the defaults below.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from zbench.errors import ConfigurationError
from zbench.exchange.names import is_import, portable_name, require_different_names
from zbench.registry import own_attack_names, own_method_names
from zbench.validation import validated

DEFAULT_MODEL = "miniature"
DEFAULTS_FILE = "zbench.toml"
MODEL_VARIABLE = "ZBENCH_MODEL"
LAUNCH = "launch"
"""Table of a file that says how a grid's cells are launched; see `zbench.runner.grid`."""

ORIGINAL = "original"
"""Name of the empty erasure: the unerased model, built in and always the first row."""

ALL = "all"
"""Stands for every method, or attack, of zbench's own; a stranger's is run only when it is named."""

DEFAULT = "default"
"""Stands for a suite of attacks: one of each kind, which together take little time."""

DEFAULT_ATTACKS = ("affix", "concept_vector", "unlearndiffatk", "scale")

REPLAY = "replay:"
"""Begins what names a folder of stored candidates where attacks are named."""


class RunConfig(BaseModel):
    """A validated run.

    Attributes:
        methods: Names of methods, or ``all`` for zbench's own; ``import:PATH`` or ``import:NAME=PATH`` for an
            erased model made elsewhere; `original` is added by itself.
        plugins: Python files that define methods which are not packaged.
        concept: Name of the concept to erase.
        model: Catalogue name of a model, or a folder with a saved `ZImagePipeline`.
        training_seeds: How many training seeds (0, 1, ...) each method is trained with.
        out: Run folder.
        settings: Method name -> field -> value, over the preset's values.
        prompts: Use only the first so many prompts of each set; all when None.
        preset: Preset of the methods' hyper-parameters; None chooses by the model.
        protocol: Name of the evaluation protocol.
        repetitions: Pictures per prompt; the protocol's own number when None.
        steps: Sampler steps; the protocol's or the model's own number when None.
        height: Picture height in pixels; the protocol's or the model's own when None.
        width: Picture width in pixels; the protocol's or the model's own when None.
        references: Folder with reference pictures for FID and KID, where the protocol has none of its own.
        prompts_dir: Folder with the user's copies of prompt sets that are fetched, not shipped.
        batch_size: Pictures per batch. Changes no picture.
        device: Torch device; chosen automatically when None. Not part of any identity.
        attacks: Names of attacks on every erasure and on `original`; ``default`` for a suite, ``all`` for
            zbench's own, ``replay:PATH`` for stored candidates.
        attack_prompts: Attack only the first so many explicit prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    concept: str
    model: str = DEFAULT_MODEL
    training_seeds: int = Field(default=1, ge=1)
    out: Path = Path("runs")
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    prompts: int | None = Field(default=None, ge=1)
    preset: str | None = None
    protocol: str = "zbench"
    repetitions: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=16)
    width: int | None = Field(default=None, ge=16)
    references: Path | None = None
    prompts_dir: Path | None = None
    batch_size: int = Field(default=16, ge=1)
    device: str | None = None
    attacks: tuple[str, ...] = ()
    attack_prompts: int = Field(default=50, ge=1)

    @field_validator("methods")
    @classmethod
    def _each_method_once(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        named = (each for name in methods for each in (own_method_names() if name == ALL else (name,)))
        chosen = tuple(name for name in dict.fromkeys(named) if name != ORIGINAL)
        try:
            require_different_names(chosen)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return chosen

    @field_validator("attacks")
    @classmethod
    def _each_attack_once(cls, attacks: tuple[str, ...]) -> tuple[str, ...]:
        if REPLAY.removesuffix(":") in attacks:
            raise ValueError(f"write {REPLAY}PATH with a folder of stored candidates, a run folder or a file")
        suites = {ALL: own_attack_names, DEFAULT: lambda: DEFAULT_ATTACKS}
        return tuple(
            dict.fromkeys(each for name in attacks for each in suites.get(name, lambda n=name: (n,))())
        )

    @model_validator(mode="after")
    def _settings_have_one_owner(self) -> Self:
        for name in self.settings:
            if name.startswith(REPLAY):
                raise ValueError(f"--set {name}.…: a replay has no settings, it tries what is stored")
            imports = (portable_name(method) for method in self.methods if is_import(method))
            if name not in (*self.methods, *self.attacks, *imports):
                raise ValueError(f"--set {name}.…: the method or attack {name!r} is not part of this run")
            if name in self.methods and name in self.attacks:
                raise ValueError(
                    f"--set {name}.…: {name!r} is a method and an attack of this run: run them one by one, "
                    "or give one of them another name"
                )
        return self

    @classmethod
    def create(cls, flags: Mapping[str, Any], *, folder: Path | None = None) -> RunConfig:
        """Combines all sources.

        Args:
            flags: Field -> value; a value of None counts as not given.
            folder: Where `zbench.toml` is looked for; the working directory when None.

        Raises:
            ConfigurationError: A value has the wrong type or is out of range; one line names it.
            UnknownNameError: A key of `zbench.toml` is not a setting.
        """
        return validated(cls, _combined(flags, folder))

    @classmethod
    def shared(cls, flags: Mapping[str, Any], *, folder: Path | None = None) -> RunConfig:
        """Combines all sources for a command that is no run: model, device and plugins, and nothing else.

        What `zbench.toml` says of runs, such as settings of their methods, does not concern it.

        Args:
            flags: Like those of `create`.
            folder: Likewise.

        Raises:
            ConfigurationError: A value has the wrong type; one line names it.
        """
        values = {key: value for key, value in _combined(flags, folder).items() if key in _SHARED}
        return validated(cls, {**values, "concept": ""})


_SHARED = frozenset({"model", "device", "plugins"})
"""Settings that mean the same to every command that works with a model."""


def _combined(flags: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    values: dict[str, Any] = {**read_defaults(folder or Path.cwd())}
    values.pop(LAUNCH, None)
    if os.environ.get(MODEL_VARIABLE):
        values["model"] = os.environ[MODEL_VARIABLE]
    values.update({key: value for key, value in flags.items() if value is not None})
    return values


def read_defaults(folder: Path) -> dict[str, Any]:
    """The settings in a folder's `zbench.toml`; none when there is no such file.

    Raises:
        ConfigurationError: It cannot be read or is not TOML.
    """
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be used: {error}.") from error


def parse_settings(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads `--set METHOD.FIELD=VALUE`, or that of an attack; values are JSON where they can be, else text.

    Raises:
        ConfigurationError: An assignment has not this form.
    """
    settings: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        # A package's name may have dots, a field has none.
        method, dot, field = target.strip().rpartition(".")
        if not (equals and dot and method and field):
            raise ConfigurationError(f"--set {assignment}: write METHOD.FIELD=VALUE, such as zerase.rank=16.")
        settings.setdefault(method, {})[field] = _literal(text.strip())
    return settings


def parse_fields(method: str, assignments: Iterable[str]) -> dict[str, Any]:
    """Reads `--set FIELD=VALUE` of commands about one method; `METHOD.FIELD=VALUE`, as in runs, is as good.

    Raises:
        ConfigurationError: An assignment has neither form, or names another method.
    """
    fields: dict[str, Any] = {}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        field = target.strip().removeprefix(f"{method}.")
        if not (equals and field.isidentifier()):
            raise ConfigurationError(f"--set {assignment}: write FIELD=VALUE with a field of {method}.")
        fields[field] = _literal(text.strip())
    return fields


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
