"""Concepts: file form, domains, composites, and the rule about minors."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from zbench.concepts import DOMAINS, Concept, concept_names, load_concept
from zbench.errors import UnknownNameError
from zbench.prompts import mentions_minors

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), min_size=1).filter(lambda t: not mentions_minors(t))
SOME = {
    "name": "some",
    "family": "entity",
    "phrases": ("tree",),
    "training_prompts": ("a tree",),
    "anchor": "an object",
    "anchor_prompts": ("an object",),
    "preserve_prompts": ("a house",),
}


@given(texts=st.lists(TEXTS, min_size=1, max_size=4), anchor=TEXTS, members=st.lists(TEXTS, max_size=3))
def test_the_file_form_gives_the_same_concept(texts: list[str], anchor: str, members: list[str]) -> None:
    concept = Concept.model_validate(
        {**SOME, "phrases": texts, "training_prompts": texts, "anchor_prompts": texts}
        | {"anchor": anchor, "members": members}
    )
    assert Concept(name="some", **tomllib.loads(concept.to_toml())) == concept


@pytest.mark.parametrize("field", ["training_prompts", "anchor_prompts", "preserve_prompts"])
def test_nothing_that_is_drawn_may_mention_minors(field: str) -> None:
    with pytest.raises(ValidationError, match="about minors"):
        Concept.model_validate({**SOME, field: ("two kids",)})


def test_every_training_prompt_needs_its_twin() -> None:
    with pytest.raises(ValidationError, match="2 training prompts but 1 anchor prompts"):
        Concept.model_validate({**SOME, "training_prompts": ("a tree", "the tree")})


def test_names_by_domain() -> None:
    by_domain = {domain: set(concept_names(domain)) for domain in DOMAINS}
    assert set(concept_names()) == set.union(*by_domain.values())
    assert {"nudity", "church"} <= by_domain["world"] & by_domain["photograph"]
    assert load_concept("church") == load_concept("church", "world") != load_concept("church", "photograph")
    with pytest.raises(UnknownNameError, match="Did you mean celebrity"):
        load_concept("celebrities", "photograph")
    with pytest.raises(UnknownNameError, match="Unknown domain"):
        concept_names("paintings")


@pytest.mark.parametrize(
    ("prompt", "phrase", "named"),
    [
        ("a Tree, in the rain", "tree", True),
        ("a street with trees", "tree", False),
        ("by van  GOGH", "van gogh", True),
        ("by van goghs", "van gogh", False),
        ("一个裸体的人", "裸体", True),
        ("Jay-Z standing", "jay-z", True),
    ],
)
def test_a_concept_is_named_by_whole_words(prompt: str, phrase: str, named: bool) -> None:
    texts = {"phrases": (phrase,), "training_prompts": (prompt,)}
    assert Concept.model_validate({**SOME, **texts}).is_named is named


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_shipped_concept_can_be_read(domain: str) -> None:
    for name in concept_names(domain):
        concept = load_concept(name, domain)
        assert concept.name == name and concept.phrases
        assert len(set(concept.members)) == len(concept.members) != 1
