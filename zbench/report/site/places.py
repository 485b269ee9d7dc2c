"""Where the files of a site stand, and how one of them refers to another."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from zbench.report.names import file_name
from zbench.store import safe_name

if TYPE_CHECKING:
    from zbench.results.groups import Group

INDEX = PurePosixPath("index.html")
GUIDE = PurePosixPath("guide.html")
PLANE = PurePosixPath("plane.svg")
STYLE = PurePosixPath("assets/page.css")
SCRIPT = PurePosixPath("assets/page.js")
RESULTS = PurePosixPath("results")
TABLES = PurePosixPath("tables")
MODELS = PurePosixPath("models")
METHODS = PurePosixPath("methods")


def group_page(group: Group) -> PurePosixPath:
    """The page of one group of results."""
    names = (group.model.name, group.concept.family, group.concept.name)
    return MODELS.joinpath(*(file_name(name) for name in names), f"{group.slug}.html")


def family_page(model: str, family: str) -> PurePosixPath:
    """The page of all concepts of a family on a model."""
    return MODELS / file_name(model) / f"{file_name(family)}.html"


def method_page(method: str) -> PurePosixPath:
    """The page of a method's card."""
    return METHODS / f"{file_name(method)}.html"


def reference(target: PurePosixPath | str, page: PurePosixPath) -> str:
    """What a page writes to link to another file of the site."""
    return _reference(str(target), str(page.parent))


@lru_cache(maxsize=1 << 16)
def _reference(target: str, folder: str) -> str:
    return quote(posixpath.relpath(target, folder))


def keys_of(labels: Iterable[str]) -> list[str]:
    """A fragment for each label: readable, safe, no two alike, and none that parts of a page have."""
    found: dict[str, None] = {}
    for label in labels:
        name = key = f"row-{safe_name(label).lower()}"
        number = 1
        while key in found:
            number += 1
            key = f"{name}--{number}"
        found[key] = None
    return list(found)
