"""Options of a study, checked against its function's annotations before any work."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from zbench.errors import ConfigurationError, UnknownNameError

COMMON = ("out", "model", "progress")
"""Arguments of a study that are no options."""

# Values come from JSON, where a list stands for a tuple and 1 for 1.0, but true is no number.
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def study_options(study: Callable[..., Any]) -> dict[str, Any]:
    """Options of a study beyond folder, model and progress, with their defaults."""
    parameters = inspect.signature(study).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in COMMON}


def checked_options(name: str, study: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the study's annotations want them.

    Bounds are what an annotation says (`Annotated[int, Field(ge=0)]`). Where it says nothing, counts begin at
    1 (at 0 where that is the default), no number is negative, and no text or list is empty.

    Args:
        name: Name of the study.
        study: Its function.
        options: Option -> plain value.

    Raises:
        UnknownNameError: The study has no option of this name; close matches are named.
        ConfigurationError: A value has the wrong type or is out of range.
    """
    defaults = study_options(study)
    for option in options:
        if option not in defaults:
            raise UnknownNameError.of(f"option of the study {name}", option, defaults)
    return {option: _checked(study, option, value, defaults[option]) for option, value in options.items()}


def annotation_of(study: Callable[..., Any], option: str) -> Any:
    """The resolved annotation of an option, bounds included; `Any` where it has none."""
    written = {option: inspect.get_annotations(study).get(option, Any)}
    # One by one: names that other arguments use may be imported for type checkers only.
    holder = SimpleNamespace(__annotations__=written)
    return get_type_hints(holder, inspect.unwrap(study).__globals__, include_extras=True)[option]


def _checked(study: Callable[..., Any], option: str, value: Any, default: Any) -> Any:
    annotation = annotation_of(study, option)
    try:
        text = json.dumps(value)
        # Through JSON, so that what Python and the command line give is judged alike.
        found = TypeAdapter(annotation, config=_STRICT).validate_json(text)
        if get_origin(annotation) is not Annotated:
            _require_usual(found, least=0 if default == 0 else 1)
    except ValidationError as error:
        raise _refused(option, value, error.errors()[0]["msg"], default) from error
    except (TypeError, ValueError) as error:
        raise _refused(option, value, str(error), default) from error
    return found


def _refused(option: str, value: Any, why: str, default: Any) -> ConfigurationError:
    like = "" if default is None else f" Give a value like {json.dumps(default, default=str)}."
    return ConfigurationError(f"{option} = {value!r}: {why}.{like}")


def _require_usual(value: Any, least: int) -> None:
    """Refuses what no study can mean.

    Raises:
        ValueError: A count below `least`, a negative number, or an empty text or list, here or in a list.
    """
    if isinstance(value, bool):
        return
    if isinstance(value, int) and value < least:
        raise ValueError(f"Input should be greater than or equal to {least}")
    if isinstance(value, float) and value < 0:
        raise ValueError("Input should be greater than or equal to 0")
    if isinstance(value, Sequence):
        if not value:
            raise ValueError("Input should not be empty")
        for each in () if isinstance(value, str) else value:
            _require_usual(each, least)
