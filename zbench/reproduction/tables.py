"""The paper's tables: what it printed, and which methods, settings and figures of zbench stand for it."""

from __future__ import annotations

import csv
import tomllib
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from zbench.errors import ConfigurationError, UnknownNameError

SECOND_MODEL = "HunyuanImage-3.0"
"""The paper's second model, which the catalogue does not have: its table is shown, and not made again."""

SOURCE = "Z-Erase, arXiv 2603.25074 (ICML 2026), CC BY 4.0"

TABLES = ("nsfw", "celebrity", "category", "attacks", "ablation")
"""Names of the tables, in the order of the paper."""

ORIGINAL = "original"

_FROZEN = ConfigDict(frozen=True, extra="forbid")


def _as_names(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
"""One name or several."""


class Column(BaseModel):
    """A column of a table.

    Attributes:
        name: As in the CSV file.
        title: As a person reads it.
        part: The part of the table whose concepts it is measured on; of several, the mean over all concepts.
        figure: Domain -> figure of zbench; of an attack ``ATTACK/FIGURE``.
        better: Which way is better.
        scale: Of a difference such as H_a, whose change is taken: the column of which the unerased model's
            value is 100 %. Other columns are shares of the unerased model's own value.
        counted: Whether the paper prints how many pictures, where the figure is a share.
        variant: Which of the table's attacks it comes from.
        beside: Figure that is shown beside it, such as an attack's control.
        paper_mean: Columns of which the paper's number is the mean, where it does not print one.
        hidden: Whether it is there for claims only.
        utility: Whether it says how well the model does what was not to be erased.
    """

    model_config = _FROZEN

    name: str
    title: str
    part: Names
    figure: dict[str, str]
    better: Literal["lower", "higher"] = "lower"
    scale: str | None = None
    counted: bool = False
    variant: str = ""
    beside: str | None = None
    paper_mean: tuple[str, ...] = ()
    hidden: bool = False
    utility: bool = False


class Row(BaseModel):
    """A row of a table.

    Attributes:
        name: As in the CSV file.
        title: As a person reads it.
        method: The method of zbench that stands for it.
        settings: Its fields, over the preset's.
        paper: Whether the paper prints such a row.
        parts: Parts of the table that it is measured on; all when empty.
    """

    model_config = _FROZEN

    name: str
    title: str
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    paper: bool = True
    parts: tuple[str, ...] = ()


class Variant(BaseModel):
    """Attacks that are made together; two settings of one attack are two variants.

    Attributes:
        attacks: Their names.
        settings: Attack -> field -> value.
        rows: The rows that are attacked; all when empty.
    """

    model_config = _FROZEN

    attacks: tuple[str, ...]
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rows: tuple[str, ...] = ()


class Domain(BaseModel):
    """How a table is made on models of one domain.

    Attributes:
        protocol: Name of the protocol.
        preset: Preset of hyper-parameters; chosen by the model when None.
        same_scale: Whether the paper's numbers can be subtracted from the measured ones.
        training_seeds: Trainings of each method.
        concepts: Part -> concepts.
        attack_prompts: Prompts that are attacked; the usual number when None.
        notes: What a reader must know.
    """

    model_config = _FROZEN

    protocol: str
    preset: str | None = None
    same_scale: bool = False
    training_seeds: int = Field(ge=1)
    concepts: dict[str, tuple[str, ...]]
    attack_prompts: int | None = None
    notes: tuple[str, ...] = ()


class Correction(BaseModel):
    """A number that is a slip in the paper, or that it does not print: what its own columns give instead.

    Attributes:
        row: Of which row.
        column: Of which column.
        value: What follows from the row's other columns.
    """

    model_config = _FROZEN

    row: str
    column: str
    value: float


class PaperTable(BaseModel):
    """A table of the paper.

    Attributes:
        name: One of `TABLES`.
        title: As a person reads it.
        notes: What the paper leaves unstated, and its slips.
        domains: Domain of models -> how it is made.
        columns: In the paper's order.
        rows: Likewise; those that the paper does not print come last.
        variants: Attacks; without any, nothing is attacked.
        corrections: See `Correction`.
        second_model: Figure -> column of the paper's table of its second model, HunyuanImage-3.0.
        printed: Row -> column -> number as printed; None where the paper has none.
    """

    model_config = _FROZEN

    name: str
    title: str
    notes: tuple[str, ...] = ()
    domains: dict[str, Domain]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    variants: dict[str, Variant] = Field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    second_model: dict[str, str] = Field(default_factory=dict)
    printed: dict[str, dict[str, float | None]]

    def domain(self, name: str) -> Domain:
        """How it is made on models of a domain.

        Raises:
            ConfigurationError: Nobody has said how.
        """
        if name not in self.domains:
            known = ", ".join(self.domains)
            raise ConfigurationError(f"The table {self.name!r} covers {known}, not {name!r}.")
        return self.domains[name]

    def column(self, name: str) -> Column:
        """The column of this name.

        Raises:
            UnknownNameError: There is none.
        """
        found: Column = _named(self.columns, name, f"column of {self.name}")
        return found

    def row(self, name: str) -> Row:
        """The row of this name.

        Raises:
            UnknownNameError: There is none.
        """
        found: Row = _named(self.rows, name, f"row of {self.name}")
        return found

    @cached_property
    def _corrected(self) -> dict[tuple[str, str], float]:
        return {(each.row, each.column): each.value for each in self.corrections}

    def as_printed(self, row: str, column: str) -> float | None:
        """The number as the paper prints it, slips included; None where it prints none."""
        return self.printed.get(row, {}).get(column)

    def slip(self, row: str, column: str) -> float | None:
        """What the paper printed where its own columns give something else; None where it did not."""
        return self.as_printed(row, column) if (row, column) in self._corrected else None

    def paper(self, row: str, column: str) -> float | None:
        """The paper's number, slips corrected by its own columns; None where it has none."""
        means = self.column(column).paper_mean
        if means:
            values = [value for each in means if (value := self.paper(row, each)) is not None]
            return sum(values) / len(values) if len(values) == len(means) else None
        return self._corrected.get((row, column), self.as_printed(row, column))

    def paper_share(self, row: str, column: str) -> float | None:
        """The paper's number in percent of the unerased model's; see `Column.scale`."""
        scale = self.column(column).scale
        value, start = self.paper(row, column), self.paper(ORIGINAL, column) if scale else 0.0
        whole = self.paper(ORIGINAL, scale or column)
        return None if value is None or start is None or not whole else 100 * (value - start) / abs(whole)


def _named(entries: tuple[Any, ...], name: str, what: str) -> Any:
    found = next((each for each in entries if each.name == name), None)
    if found is None:
        raise UnknownNameError.of(what, name, [each.name for each in entries])
    return found


@cache
def load_table(name: str) -> PaperTable:
    """Reads one of the paper's tables.

    Raises:
        UnknownNameError: There is no such table; close matches are named.
    """
    if name not in TABLES:
        raise UnknownNameError.of("table of the paper", name, TABLES)
    text = (files("zbench.reproduction") / "data" / f"{name}.toml").read_text(encoding="utf-8")
    return PaperTable.model_validate({"name": name, **tomllib.loads(text), "printed": printed_numbers(name)})


def printed_numbers(name: str) -> dict[str, dict[str, float | None]]:
    """Row -> column -> number as printed, of a file of the paper's numbers.

    Args:
        name: Of the file, such as ``nsfw`` or ``hunyuanimage3``.
    """
    text = (files("zbench.reproduction") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        row.pop("method"): {column: float(value) if value else None for column, value in row.items()}
        for row in csv.DictReader(lines)
    }
