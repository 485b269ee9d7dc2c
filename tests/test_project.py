"""The project's own files agree with its folders."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text()) if (ROOT / "pyproject.toml").is_file() else {}

pytestmark = pytest.mark.skipif(not PROJECT, reason="needs a checkout")


def test_every_package_is_installed() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "zbench").rglob("__init__.py")
        if "weights" not in path.parts
    }
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == found | {"zbench_methods", "zbench_prompts"}


def test_entry_points_name_files_that_exist() -> None:
    folders = PROJECT["tool"]["setuptools"]["package-dir"]
    for group in PROJECT["project"]["entry-points"].values():
        for target in group.values():
            package, _, module = target.partition(":")[0].partition(".")
            path = ROOT / folders[package] / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), target


def test_package_data_patterns_match_something() -> None:
    folders = PROJECT["tool"]["setuptools"]["package-dir"]
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        top, _, rest = package.partition(".")
        base = ROOT / folders[top] / rest.replace(".", "/")
        for pattern in patterns:
            assert any(path.is_file() for path in base.glob(pattern)) or any(base.glob(f"{pattern}/*")), (
                pattern
            )


def test_changelog_is_open_for_the_current_version() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
