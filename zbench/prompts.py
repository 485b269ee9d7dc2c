"""Prompt sets: ordered prompts with ids and a hash, split into tuning and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from zbench.errors import ConfigurationError, UnknownNameError


class Prompt(BaseModel):
    """One prompt.

    Attributes:
        id: Unique within its set and stable between versions; picture seeds derive from it.
        text: What the model is given.
        truth: Concept name -> whether the prompt asks for it, where that is known.
        object: The one object that the prompt asks for, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    text: str
    truth: dict[str, bool] | None = None
    object: str | None = None


class PromptSet(BaseModel):
    """An ordered set of prompts with where it comes from.

    Attributes:
        name: File name without its ending.
        split: Hyper-parameters are chosen on ``tuning`` sets; results are reported on ``evaluation`` sets.
        source: Where the prompts come from.
        licence: SPDX name of the licence of the prompts.
        prompts: The prompts in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: Literal["tuning", "evaluation"]
    source: str
    licence: str
    prompts: tuple[Prompt, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [prompt.id for prompt in self.prompts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"prompt set {self.name} repeats an id")
        return self

    @property
    def sha256(self) -> str:
        """Hash of ids and texts in order: what a generated picture depends on."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(json.dumps([prompt.id, prompt.text], ensure_ascii=False).encode())
        return digest.hexdigest()

    def head(self, number: int | None) -> Self:
        """The first `number` prompts as a set of its own; all of them for None."""
        return self.model_copy(update={"prompts": self.prompts[:number]})

    def to_jsonl(self) -> str:
        """The file form: a header line, then one prompt a line."""
        header = self.model_dump(exclude={"prompts"})
        lines: Iterable[dict[str, object]] = [
            header,
            *(p.model_dump(exclude_none=True) for p in self.prompts),
        ]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    @classmethod
    def from_jsonl(cls, text: str, where: str) -> Self:
        """Read the file form.

        Args:
            text: Content of the file.
            where: Its name, for messages.

        Raises:
            ConfigurationError: If a line is not what it should be; the line is named.
        """
        rows: list[dict[str, object]] = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ConfigurationError(f"{where}, line {number}: not JSON ({error.msg})") from error
        if not rows:
            raise ConfigurationError(f"{where} is empty: the first line must be its header")
        try:
            return cls.model_validate({**rows[0], "prompts": rows[1:]})
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from error


@cache
def prompt_set_names() -> tuple[str, ...]:
    """Names of all shipped prompt sets, sorted."""
    folder = files("zbench_prompts") / "sets"
    return tuple(sorted(f.name.removesuffix(".jsonl") for f in folder.iterdir() if f.name.endswith(".jsonl")))


def load_prompt_set(name: str) -> PromptSet:
    """Read one shipped prompt set.

    Raises:
        UnknownNameError: If there is no such set; close matches are named.
    """
    if name not in prompt_set_names():
        raise UnknownNameError.of("prompt set", name, prompt_set_names())
    path = files("zbench_prompts") / "sets" / f"{name}.jsonl"
    return PromptSet.from_jsonl(path.read_text(encoding="utf-8"), where=f"prompts/sets/{name}.jsonl")
