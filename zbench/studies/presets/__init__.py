"""The fair search of presets: as many configurations for every method, one rule, on tuning prompts only."""

from __future__ import annotations

from zbench.studies.presets.search import presets_study

__all__ = ["presets_study"]
