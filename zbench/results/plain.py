"""What a published result's plain parts must be for everybody who reads them: figures, provenance, cost.

They are plain data in the models, since a run folder's results are; here is what a file from anybody must
satisfy beyond that. It is looked at for every file of a tree, and so compiled once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import SchemaValidator, core_schema

from zbench.metrics.figure import Direction, Figure

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult

FIGURE_DEFAULTS: Final[dict[str, Any]] = {
    name: info.default for name, info in Figure.model_fields.items() if not info.is_required()
}
"""What a figure has where its file says nothing: half of a figure's fields are empty most of the time."""


def _or_none(schema: core_schema.CoreSchema) -> core_schema.CoreSchema:
    return core_schema.nullable_schema(schema)


_TEXT = core_schema.str_schema(strict=True)
_NUMBER = core_schema.float_schema(strict=True, allow_inf_nan=False)
_COUNT = core_schema.int_schema(strict=True, ge=0)
_ANYTHING = core_schema.dict_schema(_TEXT, core_schema.any_schema())

_OF_FIGURE: dict[str, core_schema.CoreSchema] = {
    "name": core_schema.str_schema(strict=True, min_length=1),
    "value": _or_none(_NUMBER),
    "n": _or_none(_COUNT),
    "N": _COUNT,
    "effective_N": _or_none(_NUMBER),
    "low": _or_none(_NUMBER),
    "high": _or_none(_NUMBER),
    "unit": _TEXT,
    "direction": core_schema.literal_schema(list(get_args(Direction))),
    "interval": _or_none(_TEXT),
    "p_value": _or_none(_NUMBER),
    "test": _or_none(_TEXT),
    "settings": _ANYTHING,
    "note": _TEXT,
}


def _with_default(name: str, schema: core_schema.CoreSchema) -> core_schema.CoreSchema:
    if name not in FIGURE_DEFAULTS:
        return schema
    default = FIGURE_DEFAULTS[name]
    if default == {}:  # one of its own for each figure
        return core_schema.with_default_schema(schema, default_factory=dict)
    return core_schema.with_default_schema(schema, default=default)


def _record(fields: Mapping[str, core_schema.CoreSchema], *required: str) -> core_schema.CoreSchema:
    entries = {
        name: core_schema.typed_dict_field(schema, required=name in required)
        for name, schema in fields.items()
    }
    return core_schema.typed_dict_schema(entries, extra_behavior="ignore")


_FIGURE = core_schema.typed_dict_schema(
    {
        name: core_schema.typed_dict_field(_with_default(name, schema), required=name not in FIGURE_DEFAULTS)
        for name, schema in _OF_FIGURE.items()
    },
    extra_behavior="forbid",
)
_FIGURES = SchemaValidator(core_schema.tuple_schema([_FIGURE], variadic_item_index=0))

_DETECTOR = _record({"name": _TEXT, "file_sha256": _or_none(_TEXT)})
_PROVENANCE = _record(
    {
        "protocol": _TEXT,
        "zbench": _TEXT,
        "checkout": _or_none(_ANYTHING),
        "release": _or_none(_ANYTHING),
        "model": _ANYTHING,
        "detectors": core_schema.list_schema(_DETECTOR),
        "instruments": _ANYTHING,
        "packages": core_schema.dict_schema(_TEXT, _TEXT),
        "device": _ANYTHING,
        "prompts": core_schema.dict_schema(_TEXT, _ANYTHING),
    },
    "protocol",
)
_VERDICT = _record(
    {
        "collapsed": core_schema.bool_schema(strict=True),
        "destroyed": core_schema.bool_schema(strict=True),
        "reasons": core_schema.list_schema(_TEXT),
        "notes": core_schema.list_schema(_TEXT),
    }
)
_PARTS = SchemaValidator(
    _record(
        {
            "provenance": _PROVENANCE,
            "verdict": _or_none(_VERDICT),
            "cost": _or_none(core_schema.dict_schema(_TEXT, _or_none(_NUMBER))),
            "seconds": core_schema.dict_schema(_TEXT, _NUMBER),
            "training_seed": _or_none(core_schema.int_schema(strict=True)),
        }
    )
)

_COMPARED = ("model", "detectors", "instruments", "prompts")
"""Parts of the provenance that results are grouped by; the whole record is looked at by the checks."""

_encoded = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def complete(result: CellResult) -> None:
    """Fills in what a file leaves out of its figures because it is nothing (see `FIGURE_DEFAULTS`).

    Raises:
        ValueError: A part is not what everybody takes it for; says which in one line.
    """
    _complete_figures("figures", result.figures)
    for number, record in enumerate(result.attacks):
        _complete_figures(f"attacks.{number}.figures", record.figures)
    spec = result.spec
    parts = {name: getattr(result, name) for name in ("provenance", "verdict", "cost", "seconds")}
    _validated(_PARTS, {**parts, "training_seed": spec.hyperparameters.get("training_seed")})
    _require_numbers("provenance", [result.provenance.get(name) for name in _COMPARED])
    _require_numbers("spec", spec.hyperparameters)


def _complete_figures(place: str, figures: tuple[dict[str, Any], ...]) -> None:
    for figure, whole in zip(figures, _validated(_FIGURES, figures, f"{place}."), strict=True):
        if len(figure) < len(whole):
            figure.update(whole)


def _validated(validator: SchemaValidator, value: Any, place: str = "") -> Any:
    try:
        return validator.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}{where}: {first['msg']}") from error


def _require_numbers(place: str, value: Any) -> None:
    """Nothing computes with NaN or an infinity, and no JSON may hold them."""
    try:
        _encoded(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from error
