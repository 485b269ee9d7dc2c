"""Composite concepts: no member is left out, and members are found by whole words."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transcription import CONCEPT
from zbench.concepts import DOMAINS, Concept, concept_names, load_concept
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.phrases import names_phrase
from zbench.training import irrelevant_concepts, member_concepts, over_members, spread
from zbench.training.phrases import describe

NAMES = ("ada", "bruno", "carla", "dario", "elsa")


def composite(names: tuple[str, ...], prompts: tuple[str, ...]) -> Concept:
    return Concept(
        name="several",
        family="identity",
        phrases=names,
        training_prompts=prompts,
        anchor="a person",
        anchor_prompts=("a person",) * len(prompts),
        preserve_prompts=("a house",),
        members=names,
    )


@given(st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=12), st.integers(1, 15))
def test_every_member_that_a_prompt_names_is_chosen(named: list[set[str]], count: int) -> None:
    prompts = tuple(" and ".join(("a person", *sorted(names))) for names in named)
    concept = composite(NAMES, prompts)
    chosen = over_members(concept, prompts, count)
    assert chosen[:count] == spread(prompts, count), "only what is missing is added"
    assert len(chosen) <= count + len(NAMES)
    assert set.union(*(named[index] for index in chosen)) == set.union(*named)


@given(st.integers(1, 40))
def test_a_single_concept_is_spread_as_ever(count: int) -> None:
    for domain in DOMAINS:
        concept = load_concept("nudity", domain)
        prompts = concept.training_prompts
        assert over_members(concept, prompts, count) == spread(prompts, count)


def test_fifty_people_in_sixty_four_trajectories() -> None:
    fifty = load_concept("celebrity", "photograph")
    prompts = fifty.training_prompts

    def unseen(chosen: list[int]) -> list[str]:
        drawn = [prompts[index] for index in chosen]
        return [name for name in fifty.phrases if not any(names_phrase(text, name) for text in drawn)]

    assert unseen(spread(prompts, 64)) and not unseen(over_members(fifty, prompts, 64))


def test_a_name_inside_another_is_no_mention() -> None:
    concept = composite(("ann", "hannah"), ("a portrait of ann", "hannah", "Hannah standing"))
    ann, hannah = member_concepts(concept, "world")
    assert ann.training_prompts == ("a portrait of ann",)
    assert hannah.training_prompts == ("hannah", "Hannah standing")


def test_a_word_that_begins_alike_does_not_make_concepts_related() -> None:
    """The car concept stays eligible for one whose phrase is only the beginning of another word."""
    concept = CONCEPT.model_copy(update={"phrases": ("ca",)})
    found = irrelevant_concepts(concept, "world", 99, torch.Generator().manual_seed(0))
    assert {"car", "cat"} <= {other.name for other in found}


def test_guidance_by_prompts_names_every_member(tiny_model: Model) -> None:
    prompts = ("ada", "a portrait of bruno", "bruno and carla", "carla")
    told = describe(tiny_model, composite(NAMES[:3], prompts), "prompt")
    assert told == "bruno and carla, ada"
    alone = composite(NAMES[:3], prompts).model_copy(update={"members": ()})
    assert describe(tiny_model, alone, "prompt") == "bruno and carla"


def test_guidance_by_more_prompts_than_fit_is_refused(tiny_model: Model) -> None:
    names = tuple(f"person number {index}" for index in range(40))
    with pytest.raises(ConfigurationError, match="The 40 phrases of 'several' do not fit into the 96 tokens"):
        describe(tiny_model, composite(names, names), "prompt")


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_is_named_has_tokens_of_its_own(tiny_model: Model, domain: str) -> None:
    """A concept that counts as named must have a span: the two used to be decided by different rules."""
    for name in concept_names(domain):
        concept = load_concept(name, domain)
        first = [prompt for prompt in concept.training_prompts if names_phrase(prompt, concept.phrases[0])][
            :1
        ]
        assert all(tiny_model.token_span(prompt, concept.phrases[0]) for prompt in first)
