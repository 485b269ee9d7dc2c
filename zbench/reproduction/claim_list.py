"""The paper's claims as data (`data/claims.toml`), and the rule by which they are decided."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["higher", "lower", "keeps", "broken", "intact"]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Part(BaseModel):
    """What must be so for a claim to hold.

    Attributes:
        table: Name of the table.
        row: Which row.
        kind: What is said of it (``is`` in the file).
        column: In which column.
        than: Compared with which rows.
        than_column: In which column of these; the same when None.
        smallest: Difference in percent of the unerased model's value, in the place of half of the paper's own
            where the paper prints none.
        margin: How far a kept value may be off, likewise; half of what other rows lose when None.
        even_broken: Whether a better value counts where it comes from a broken generator, since the claim
            grants the damage.
    """

    model_config = _FROZEN

    table: str
    row: str
    kind: Kind = Field(alias="is")
    column: str = "total"
    than: tuple[str, ...] = ()
    than_column: str | None = None
    smallest: float | None = Field(default=None, gt=0)
    margin: float | None = Field(default=None, gt=0)
    even_broken: bool = False


class Claim(BaseModel):
    """Something that the paper says.

    Attributes:
        id: Short name.
        sentence: The claim in our words.
        where: Where in the paper.
        stated: Whether the paper says it in words; else its table shows it.
        parts: What must be so, all of it.
        unmeasured: Why no table here tests it, and what does or could; None where one does.
    """

    model_config = _FROZEN

    id: str
    sentence: str
    where: str
    stated: bool
    parts: tuple[Part, ...] = ()
    unmeasured: str | None = None


@cache
def load_claims() -> tuple[Claim, ...]:
    """The paper's claims, in its order."""
    return tuple(Claim.model_validate(each) for each in _data()["claims"])


def load_rule() -> tuple[str, ...]:
    """How claims are decided, a paragraph each."""
    return tuple(_data()["rule"])


@cache
def _data() -> dict[str, Any]:
    text = (files("zbench.reproduction") / "data" / "claims.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
