"""Metrics: pictures and their features to figures with unit, direction and interval."""

from __future__ import annotations

from zbench.metrics.figure import Figure

__all__ = ["Figure"]
