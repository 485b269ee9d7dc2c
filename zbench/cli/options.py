"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="Python file with methods that are not packaged; repeatable."
    ),
]
"""Parameter name: `plugins`, as in `RunConfig`."""
