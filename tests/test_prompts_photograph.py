"""The sets for models of photographs: from the builder, disjoint, complete, and nothing methods see."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from zbench.concepts import concept_names, load_concept
from zbench.phrases import phrase_pattern
from zbench.prompts import PromptSet, load_prompt_set, mentions_minors, prompt_set_names
from zbench.prompts.photograph import make_prompt_sets
from zbench.prompts.wording import class_words, make_concepts, person_class

ROOT = Path(__file__).parent.parent / "prompts"
DOMAIN = "photograph"
ROLES = ("explicit", "synonyms", "neighbours", "together")
PAPER = {"entity": 10, "style": 10, "abstraction": 10, "identity": 1, "nsfw": 2}


@cache
def sets() -> dict[str, PromptSet]:
    return {name: load_prompt_set(name, DOMAIN) for name in prompt_set_names(DOMAIN)}


def texts(split: str) -> set[str]:
    return {p.text.casefold() for s in sets().values() if s.split == split for p in s.prompts}


def test_committed_files_come_from_the_builder() -> None:
    made = {prompt_set.name: prompt_set for prompt_set in make_prompt_sets()}
    assert set(made) == set(sets())
    for name, prompt_set in made.items():
        assert (ROOT / "sets" / DOMAIN / f"{name}.jsonl").read_text("utf-8") == prompt_set.to_jsonl()
        assert sets()[name] == prompt_set
    concepts = {concept.name: concept for concept in make_concepts()}
    assert set(concepts) == set(concept_names(DOMAIN))
    for name, concept in concepts.items():
        assert (ROOT / "concepts" / DOMAIN / f"{name}.toml").read_text("utf-8") == concept.to_toml()
        assert load_concept(name, DOMAIN) == concept


def test_the_papers_lists_are_complete() -> None:
    assert Counter(load_concept(name, DOMAIN).family for name in concept_names(DOMAIN)) == PAPER
    celebrities = load_concept("celebrity", DOMAIN)
    assert [person_class(name) for name in celebrities.phrases] == list(celebrities.members)
    assert len(set(celebrities.members)) == 50
    kept = {next(iter(p.truth or {})) for p in sets()["celebrity-neighbours"].prompts}
    asked = {c for p in sets()["celebrity-explicit"].prompts for c in p.truth or {}} - {"celebrity"}
    assert len(kept) == len(asked) == 50 and not kept & asked


@pytest.mark.parametrize("name", [n for n in concept_names(DOMAIN) if n not in ("nudity", "violence")])
def test_every_concept_has_every_role_in_both_splits(name: str) -> None:
    for role in ROLES:
        found = sets()[f"{name}-{role}"]
        twin = sets()[f"{name}-{role}-tuning"]
        assert (found.split, twin.split) == ("evaluation", "tuning")
        assert len(found.prompts) >= 20 and len(twin.prompts) >= 10
    first = sets()[f"{name}-explicit"].prompts[0].text
    assert first.startswith(("A photo of ", "An art in the style of ", "A close scene of "))


def test_splits_share_no_text_and_ids_are_unique_everywhere() -> None:
    assert not texts("evaluation") & texts("tuning")
    ids = Counter(p.id for s in sets().values() for p in s.prompts)
    assert max(ids.values()) == 1
    for prompt_set in sets().values():
        assert len({p.text for p in prompt_set.prompts}) == len(prompt_set.prompts), prompt_set.name


def test_methods_see_no_prompt_that_measures_them() -> None:
    measured = texts("evaluation") | texts("tuning")
    for name in concept_names(DOMAIN):
        concept = load_concept(name, DOMAIN)
        seen = {*concept.training_prompts, *concept.anchor_prompts, *concept.preserve_prompts}
        assert not {text.casefold() for text in seen} & measured, name


@pytest.mark.parametrize("name", concept_names(DOMAIN))
def test_training_prompts_name_the_concept_and_their_twins_do_not(name: str) -> None:
    concept = load_concept(name, DOMAIN)
    named = [phrase_pattern(phrase) for phrase in concept.phrases]
    assert all(any(p.search(text) for p in named) for text in concept.training_prompts)
    assert not any(p.search(text) for p in named for text in concept.anchor_prompts)
    assert not any(p.search(text) for p in named for text in concept.preserve_prompts)
    assert not any(mentions_minors(text) for text in (*concept.training_prompts, *concept.preserve_prompts))


@pytest.mark.parametrize("name", [n for n in concept_names(DOMAIN) if n not in ("nudity", "violence")])
def test_explicit_prompts_name_the_concept_and_synonyms_never_do(name: str) -> None:
    named = [phrase_pattern(phrase) for phrase in load_concept(name, DOMAIN).phrases]
    for twin in ("", "-tuning"):
        for prompt in sets()[f"{name}-explicit{twin}"].prompts:
            assert any(p.search(prompt.text) for p in named), prompt.text
        for role in ("synonyms", "neighbours"):
            for prompt in sets()[f"{name}-{role}{twin}"].prompts:
                assert not any(p.search(prompt.text) for p in named), prompt.text
        assert all((p.truth or {}).get(name) for p in sets()[f"{name}-synonyms{twin}"].prompts)
        assert not any((p.truth or {}).get(name) for p in sets()[f"{name}-neighbours{twin}"].prompts)
        for prompt in sets()[f"{name}-together{twin}"].prompts:
            assert (prompt.truth or {})[name] and len(prompt.truth or {}) == 2


def test_descriptions_of_people_hold_no_part_of_their_names() -> None:
    names = load_concept("celebrity", DOMAIN).members
    for twin in ("", "-tuning"):
        prompts = sets()[f"celebrity-synonyms{twin}"].prompts
        for name, prompt in zip(names, prompts, strict=True):
            parts = {part for part in name.casefold().split() if len(part) > 2}
            assert not parts & set(prompt.text.casefold().replace(",", " ").split()), prompt.text


def test_unrelated_prompts_ask_for_no_concept() -> None:
    patterns = [phrase_pattern(p) for n in concept_names(DOMAIN) for p in load_concept(n, DOMAIN).phrases]
    for twin, number in (("", 200), ("-tuning", 100)):
        prompts = sets()[f"unrelated{twin}"].prompts
        assert len(prompts) == number
        for prompt in prompts:
            assert not any(pattern.search(prompt.text) for pattern in patterns), prompt.text
        assert sum(prompt.object is not None for prompt in prompts) > 0.8 * number


def test_every_class_that_is_asked_for_has_words() -> None:
    asked = {c for s in sets().values() for p in s.prompts for c in p.truth or {}}
    assert asked - set(class_words()) == {"celebrity"}


@pytest.mark.parametrize("domain", ["world", "photograph"])
def test_no_shipped_set_loses_a_row_to_the_filter(domain: str) -> None:
    for name in prompt_set_names(domain):
        assert load_prompt_set(name, domain).removed == 0, name


def test_every_datasheet_is_filled() -> None:
    for prompt_set in sets().values():
        assert prompt_set.summary and prompt_set.source and prompt_set.licence == "Apache-2.0"
        assert prompt_set.domain == DOMAIN


def test_a_painter_who_is_erased_as_a_person_is_another_class_than_the_style() -> None:
    asked = {c for p in sets()["celebrity-explicit"].prompts for c in p.truth or {}}
    assert "frida-kahlo-person" in asked and not asked & set(concept_names(DOMAIN)) - {"celebrity"}


def test_the_zero_shot_detector_knows_every_class() -> None:
    from zbench.detectors.vocabulary import vocabularies

    vocabulary = vocabularies("clip_zero_shot")[DOMAIN]
    asked = {c for s in sets().values() for p in s.prompts for c in p.truth or {}}
    assert asked <= {*vocabulary.classes, *vocabulary.composites}
