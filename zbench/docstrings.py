"""What docstrings say of the fields of a class, for cards and published results."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from pydantic import BaseModel

_SECTION = re.compile(r"^(Attributes|Args|Raises|Returns):$")
_ENTRY = re.compile(r"^ {4}(\w+): (.*)$")


def field_notes(kind: type[BaseModel]) -> dict[str, str]:
    """Field -> what the docstring of its class says of it under ``Attributes:``; the nearest class wins."""
    notes: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        notes.update(_attributes(vars(each).get("__doc__") or ""))
    return notes


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    section, name, text = "", "", ""
    for line in [*inspect.cleandoc(docstring).splitlines(), "end"]:
        entry = _ENTRY.match(line)
        if name and (entry or not line.startswith("        ")):
            yield name, text
            name = ""
        if _SECTION.match(line):
            section = line
        elif entry and section == "Attributes:":
            name, text = entry.groups()
        elif name:
            text = f"{text} {line.strip()}"
