"""What a composite concept is made of, that no member is left out, and how far the members are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zbench.concepts import Concept, concept_names, load_concept
from zbench.phrases import names_phrase
from zbench.training.trajectories import spread

Progress = Callable[[int, int], None]
"""Called with (units done, units in all), as `erase` is given it."""


def member_concepts(concept: Concept, domain: str) -> list[Concept]:
    """The concepts that are erased together: the members of a composite one, otherwise itself.

    Args:
        concept: Composite or not.
        domain: What the model's pictures show (`ModelSpec.domain`).

    Returns:
        The members as the catalogue has them. Where it lacks one, the composite itself is taken apart
        instead: one concept per phrase, with the prompts that name it.
    """
    if not concept.members:
        return [concept]
    if set(concept.members) <= set(concept_names(domain)):
        return [load_concept(name, domain) for name in concept.members]
    parts = [_part(concept, phrase) for phrase in concept.phrases]
    return [part for part in parts if part is not None] or [concept]


def _part(concept: Concept, phrase: str) -> Concept | None:
    prompts = enumerate(concept.training_prompts)
    naming = [index for index, prompt in prompts if names_phrase(prompt, phrase)]
    if not naming:
        return None
    update = {
        "name": phrase,
        "phrases": (phrase,),
        "training_prompts": tuple(concept.training_prompts[index] for index in naming),
        "anchor_prompts": tuple(concept.anchor_prompts[index] for index in naming),
        "members": (),
    }
    return concept.model_copy(update=update)


def over_members(concept: Concept, prompts: Sequence[str], count: int) -> list[int]:
    """`count` indices into prompts of a concept, as `spread` has them; more where a member would be left out.

    Args:
        concept: Composite or not; only of a composite one are there ever more.
        prompts: All or some of its training prompts.
        count: How many are wanted. With 64 trajectories for fifty people of two prompts each, some of them
            would never be drawn.

    Returns:
        Indices, then the first prompt of each phrase that the others do not name.
    """
    chosen = spread(prompts, count)
    for phrase in concept.phrases if concept.members else ():
        naming = [index for index, prompt in enumerate(prompts) if names_phrase(prompt, phrase)]
        if naming and not set(naming) & set(chosen):
            chosen.append(naming[0])
    return chosen


def progress_part(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Progress of one of several equal parts, told as progress of the whole.

    Args:
        progress: Who is told, if anyone.
        part: Its index.
        parts: How many there are.
    """
    if progress is None:
        return None
    tell = progress
    return lambda done, units: tell(part * units + done, parts * units)
