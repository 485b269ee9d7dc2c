"""Prompt sets of others, which the user fetches: what is known of them, and reading their files.

None is shipped and no hash of them either: `zbench prompts pin NAME` locks what was fetched.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import ConfigurationError, UnknownNameError
from zbench.prompts.files import build_set
from zbench.prompts.pins import Fetched, pin_state
from zbench.prompts.rows import Row, Table, read_table
from zbench.prompts.sets import Prompt, PromptSet, first_problem


class RowRule(BaseModel):
    """Which rows of a larger set belong to this one.

    Attributes:
        column: Column with numbers.
        above: A row belongs when its number is greater.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    above: float


class ExternalSet(BaseModel):
    """What is known of a prompt set that users fetch themselves.

    Attributes:
        name: File name in ``prompts/external`` without its ending.
        summary: One sentence: what the prompts are.
        source: Where it comes from, with its paper.
        hub: Id of a data set on the Hugging Face Hub.
        url: Address of one file, at a commit.
        of: Name of the external set whose rows these are.
        where: With `of`, which of them.
        revision: Commit on the Hub; the newest when None.
        text: Column of the prompts.
        truth: Classes that every prompt asks for.
        rows: Rows of the file, or those that the rule leaves; None where nobody verified it.
        licence: SPDX name, or ``unverified``.
        terms: What the licence or the owners allow, and what could not be verified.
        gated: Whether its owners must grant access first.
        sha256: Always ``unpinned``: a hash would have to be computed from the file itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str
    source: str
    hub: str | None = None
    url: str | None = None
    of: str | None = None
    where: RowRule | None = None
    revision: str | None = None
    text: str
    truth: tuple[str, ...] = ()
    rows: int | None = Field(default=None, gt=0)
    licence: str
    terms: str
    gated: bool
    sha256: Literal["unpinned"]


@cache
def external_set_names() -> tuple[str, ...]:
    """Names of all sets that can be fetched, sorted."""
    found = (entry.name for entry in (files("zbench_prompts") / "external").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


@cache
def external_set(name: str) -> ExternalSet:
    """What is known of one set; nothing is fetched.

    Raises:
        UnknownNameError: There is no such set; close matches are named.
        ConfigurationError: Its file is malformed.
    """
    if name not in external_set_names():
        raise UnknownNameError.of("prompt set", name, external_set_names())
    text = (files("zbench_prompts") / "external" / f"{name}.toml").read_text(encoding="utf-8")
    try:
        return ExternalSet.model_validate({"name": name, **tomllib.loads(text)})
    except ValidationError as error:
        raise ConfigurationError(f"prompts/external/{name}.toml: {first_problem(error)}") from error


def load_external_set(name: str, prompts_dir: Path | None = None, local: bool = False) -> PromptSet:
    """Reads a set from the user's folder, from the cache, or from its source.

    Args:
        name: See `external_set_names`.
        prompts_dir: Folder with files of the user, ``NAME.csv``, ``.jsonl`` or ``.parquet``; they go first.
        local: Never ask the set's source: what is not here yet cannot be had.

    Returns:
        The set without rows about minors, marked ``pinned`` or ``unpinned``.

    Raises:
        UnknownNameError: There is no such set.
        ConfigurationError: It cannot be had here (one line says how), is another file than expected, or
            differs from its pin.
    """
    known, fetched = external_set(name), fetch_rows(name, prompts_dir, local)
    return build_set(
        {
            "name": name,
            "summary": known.summary,
            "split": "evaluation",
            "source": known.source,
            "licence": known.licence,
            "domain": "photograph",
            "pin": pin_state(fetched),
            "prompts": fetched.prompts,
        },
        fetched.where,
    )


def fetch_rows(name: str, prompts_dir: Path | None = None, local: bool = False) -> Fetched:
    """All prompts of a set as its file has them, before any is refused; see `load_external_set`."""
    known = external_set(name)
    folder = None if prompts_dir is None else Path(prompts_dir)
    own = _own_file(name, folder)
    # A file of the subset's own holds its rows already; from a file of the whole set they are picked.
    base = known if own or known.of is None else external_set(known.of)
    path = own or _own_file(base.name, folder) or _fetch(base, local)
    table = read_table(path)
    table.problems.raise_any(len(table.rows))
    rows = list(enumerate(table.rows))
    if known.where and base is not known:
        rows = [(number, row) for number, row in rows if _follows(known.where, row, table)]
    if known.rows is not None and len(rows) != known.rows:
        raise ConfigurationError(
            f"{path} gives {len(rows):,} prompts for {name}, which has {known.rows:,}: it is another file."
        )
    return Fetched(name, str(path), tuple(_prompts(known, base, rows, table)))


def _own_file(name: str, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    if not folder.is_dir():
        raise ConfigurationError(f"--prompts-dir: {folder} is no folder.")
    found = [folder / f"{name}{ending}" for ending in (".csv", ".jsonl", ".parquet")]
    return next((path for path in found if path.is_file()), None)


def _fetch(known: ExternalSet, local: bool) -> Path:
    from zbench.prompts.fetching import fetch

    return fetch(known, local)


def _follows(rule: RowRule, row: Row, table: Table) -> bool:
    if rule.column not in table.columns:
        raise ConfigurationError(f"{table.where} has no column {rule.column!r}, by which rows are chosen.")
    try:
        return float(row.values[rule.column]) > rule.above
    except (TypeError, ValueError):
        return False


def _prompts(
    known: ExternalSet, base: ExternalSet, rows: list[tuple[int, Row]], table: Table
) -> list[Prompt]:
    """Prompts with ids by row: those of a subset are those of the whole, and share its pictures."""
    if known.text not in table.columns:
        raise ConfigurationError(
            f"{table.where} has no column {known.text!r}; it has {', '.join(table.columns) or 'none'}."
        )
    truth: dict[str, Any] | None = dict.fromkeys(known.truth, True) or None
    made = []
    for number, row in rows:
        text = row.values.get(known.text)
        if text is None or (isinstance(text, str) and not text.strip()):
            continue  # an empty row of somebody else's file: no picture can be asked for with it
        try:
            made.append(Prompt(id=f"{base.name}-{number}", text=text, truth=truth))
        except ValidationError as error:
            table.problems.add(row.line, first_problem(error))
    table.problems.raise_any(len(made))
    return made
