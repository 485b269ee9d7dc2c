"""A small run whose cells can be published, and one published result that tests may alter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.attack_tools import install_attacks, small_judge
from tests.runner_tools import recorded_run, stranger_world
from tests.synthetic_results import Plan, results
from zbench.config import RunConfig
from zbench.results.schema import PublishedResult

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLEAN = {"commit": COMMIT, "dirty": False}
PROMPTS = 4


@contextmanager
def publishing_world(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """A stranger's methods and attacks, small instruments, and a checkout without changes."""
    with stranger_world(folder, install_attacks, small_judge), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("zbench.code.checkout", lambda: dict(CLEAN))
        yield monkeypatch


def run_cells(model: Path, out: Path, *methods: str, **more: Any) -> Path:
    """Cells of `original` and some methods on a few prompts, two pictures each."""
    fields: dict[str, Any] = {
        "methods": methods, "concept": "nudity", "model": str(model), "out": out, "prompts": PROMPTS,
        "steps": 2, "device": "cpu", "protocol": "tuning", "repetitions": 2,
    }  # fmt: skip
    recorded_run(RunConfig.create({**fields, **more}))
    return out


def one_result(**plan: Any) -> PublishedResult:
    """A made-up result of a method with everything in it."""
    found = {"methods": 1, "concepts": 1, "seeds": 1, "sprites": False, "attacks": 1, **plan}
    return next(result for result, _ in results(Plan(**found)) if result.method.name != "original")


def altered(result: PublishedResult, change: Callable[[dict[str, Any]], Any]) -> PublishedResult:
    """The same result with its plain form changed."""
    record = result.model_dump(mode="json")
    change(record)
    return PublishedResult.model_validate(record)


def figure_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    """A figure in the plain form of a result."""
    return next(figure for figure in record["result"]["figures"] if figure["name"] == name)
