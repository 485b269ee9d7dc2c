"""One place for everything that is asked of the same stored results: tables are read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.reproduction.claim_list import load_claims
from zbench.reproduction.claims import Answer, answer
from zbench.reproduction.pages import claims_page, table_page
from zbench.reproduction.reading import Measured, read_measured
from zbench.reproduction.sources import Find, finder
from zbench.reproduction.tables import load_table

if TYPE_CHECKING:
    from zbench.model import ModelSpec
    from zbench.reproduction.grids import Options
    from zbench.reproduction.pages import Section


@dataclass
class Reader:
    """Reads what was measured, and answers from it.

    Attributes:
        options: Which model, and how many trainings.
        place: Run folder, or folder of published results.
    """

    options: Options
    place: Path
    _known: dict[str, Measured] = field(default_factory=dict)

    @cached_property
    def model(self) -> ModelSpec:
        """The model."""
        from zbench.model import load_spec

        return load_spec(self.options.model)

    @cached_property
    def _find(self) -> Find:
        return finder(self.place, self.model.name)

    def measured(self, table: str) -> Measured:
        """What was measured for a table.

        Raises:
            StoreError: The folder is not there, or is damaged.
        """
        if table not in self._known:
            self._known[table] = read_measured(load_table(table), self.options, self._find)
        return self._known[table]

    @property
    def failed(self) -> tuple[str, ...]:
        """What failed or cannot be read, of all tables that were read so far, each once."""
        return tuple(dict.fromkeys(line for each in self._known.values() for line in each.failed))

    def answers(self) -> list[Answer]:
        """Every claim with its verdict."""
        return [answer(claim, self.measured) for claim in load_claims()]

    def pages(self, measured: Sequence[Measured], answers: Sequence[Answer]) -> Iterator[Sequence[Section]]:
        """A page for each table, and one for the claims."""
        yield from (table_page(each) for each in measured)
        if answers:
            yield claims_page(answers, self.model.label, self.model.domain, self.failed)
