"""The JSON Schema of published results, from the pydantic models.

``python -m zbench.results.json_schema [FILE]`` writes it; ``results/schema.json`` is the committed one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from zbench.metrics.figure import Figure
from zbench.results.schema import SCHEMA_VERSION, PublishedResult
from zbench.store import atomic_write_text

SCHEMA_FILE = Path("results/schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema; what it says of figures is that of `zbench.metrics.figure.Figure`."""
    schema = PublishedResult.model_json_schema()
    definitions = schema["$defs"]
    definitions["Figure"] = Figure.model_json_schema()
    for holder in ("CellResult", "AttackRecord"):
        definitions[holder]["properties"]["figures"]["items"] = {"$ref": "#/$defs/Figure"}
    title = f"A published result of zbench, schema version {SCHEMA_VERSION}"
    return {"$schema": _DIALECT, **schema, "title": title}


def schema_text() -> str:
    """The content of the schema's file."""
    return json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Writes the schema."""
    path = Path(arguments[0]) if arguments else SCHEMA_FILE
    atomic_write_text(path, schema_text())
    print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
