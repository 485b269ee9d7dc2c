"""Values that users give, checked against a pydantic model; what is wrong with them is one line."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zbench.errors import ConfigurationError, UnknownNameError

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, Any], prefix: str = "") -> _Model:
    """Builds a pydantic model and turns its complaint into one line.

    Args:
        model: The class.
        values: Its fields.
        prefix: Goes before the names of fields in messages, such as "zerase.".

    Raises:
        UnknownNameError: A name is not a field; close matches are named.
        ConfigurationError: A value has the wrong type, is out of range, or is not a finite number.
    """
    for name in values:
        if name not in model.model_fields:
            kind = f"setting of {prefix.removesuffix('.')}" if prefix else "setting"
            raise UnknownNameError.of(kind, name, model.model_fields)
    for name, value in values.items():
        _require_finite(prefix + name, value)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, prefix)) from error


def _require_finite(name: str, value: Any) -> None:
    """Refuses NaN and infinities, and the words for them, which pydantic would take as floats."""
    number = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = float(value)
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigurationError(f"{name}: must be a finite number (got {value!r}).")


def _one_line(error: ValidationError, prefix: str) -> str:
    complaint = error.errors()[0]
    field = prefix + ".".join(str(part) for part in complaint["loc"])
    message = complaint["msg"].removeprefix("Value error, ")
    return f"{field}: {message} (got {complaint['input']!r})." if complaint["loc"] else f"{message}."
