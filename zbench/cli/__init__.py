"""The command line. Importing it loads typer and nothing heavy; commands import what they need."""

from __future__ import annotations

from zbench.cli.app import app, main

__all__ = ["app", "main"]
