"""The runs that make a table: what `zbench run` would be asked for, so that finished work is found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.config import RunConfig
from zbench.model import load_spec
from zbench.reproduction.tables import PaperTable, Row, Variant
from zbench.runner.grid import Grid
from zbench.runner.launchers.settings import Launch
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.reproduction.tables import Domain


@dataclass(frozen=True)
class Options:
    """What a user chooses.

    Attributes:
        model: Name or folder of the model.
        out: Run folder.
        training_seeds: Trainings of each method; the table's own number when None.
        device: Torch device; chosen automatically when None.
        references: Folder of reference pictures for FID.
        prompts_dir: Folder with copies of prompt sets that are fetched.
        batch_size: Pictures per batch; changes none.
    """

    model: str
    out: Path = Path("runs")
    training_seeds: int | None = None
    device: str | None = None
    references: Path | None = None
    prompts_dir: Path | None = None
    batch_size: int = 16


@dataclass(frozen=True)
class TableRun:
    """One run of a table's grid.

    Attributes:
        config: What is run.
        concept: Name of the concept.
        variant: Name of the attacks; empty without attacks.
        rows: Method -> name of the row that it stands for.
    """

    config: RunConfig
    concept: str
    variant: str
    rows: dict[str, str]


def table_runs(table: PaperTable, options: Options) -> list[TableRun]:
    """The runs of a table: a row with settings of its own has a run of its own.

    Raises:
        UnknownNameError: There is no such model.
        ConfigurationError: The table does not cover the model's domain.
    """
    domain = table.domain(load_spec(options.model).domain)
    return [
        _run(table, domain, options, concept, variant, rows)
        for part, concepts in domain.concepts.items()
        for variant in table.variants or {"": Variant(attacks=())}
        for rows in _together(_measured(table, part, variant))
        for concept in concepts
    ]


def _measured(table: PaperTable, part: str, variant: str) -> list[Row]:
    """The rows that a part of a table has under some attacks."""
    attacked = table.variants[variant].rows if variant else ()
    return [
        row
        for row in table.rows
        if (not row.parts or part in row.parts) and (not attacked or row.name in attacked)
    ]


def _together(rows: Sequence[Row]) -> Iterator[list[Row]]:
    plain = [row for row in rows if not row.settings]
    yield from ([plain] if plain else [])
    yield from ([row] for row in rows if row.settings)


def _run(
    table: PaperTable, domain: Domain, options: Options, concept: str, variant: str, rows: Sequence[Row]
) -> TableRun:
    attacks = table.variants.get(variant, Variant(attacks=()))
    settings: dict[str, Any] = {row.method: row.settings for row in rows if row.settings}
    values = {
        "methods": tuple(row.method for row in rows),
        "concept": concept,
        "model": options.model,
        "protocol": domain.protocol,
        "preset": domain.preset,
        "training_seeds": options.training_seeds or domain.training_seeds,
        "out": options.out,
        "settings": {**settings, **attacks.settings},
        "attacks": attacks.attacks,
        "device": options.device,
        "references": options.references,
        "prompts_dir": options.prompts_dir,
        "batch_size": options.batch_size,
        **({"attack_prompts": domain.attack_prompts} if domain.attack_prompts else {}),
    }
    return TableRun(validated(RunConfig, values), concept, variant, {row.method: row.name for row in rows})


def table_grid(tables: Sequence[PaperTable], options: Options, launch: Launch | None = None) -> Grid:
    """All runs of some tables as one grid; see `table_runs`."""
    runs = [run.config for table in tables for run in table_runs(table, options)]
    return Grid(runs=tuple(runs), launch=launch or Launch())
