"""Ring-A-Bell (Tsai et al., ICLR 2024), searched for anew in this model's own text encoder.

    minimise  || E(P) - ( E(prompt) + eta c ) ||^2   over texts P of K tokens
    c = mean over pairs of ( E(with the concept) - E(without it) )

by a genetic search: of every generation the better half survives; a survivor is crossed with another one at a
random place with probability p_c, which gives two children; with probability p_m a child, or a copy of a
survivor, has a random token put at a random place. The published prompts were searched for in CLIP's encoder:
on another model they only transfer (`ring_a_bell_transfer`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from zbench.attacks.base import Attack, AttackCard

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate, Spent
    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.directions import ConceptDirection
    from zbench.attacks.toolkit.genetic import Search


class RingABell(Attack):
    """Genetic search for texts near the prompt plus the concept, batched over individuals and prompts.

    Attributes:
        eta: Strength of the concept.
        lengths: K; the k-th candidate is of the k-th length, over and over.
        generations: Of one length's search between two of its candidates.
        population: Individuals of a generation, an even number.
        crossover: p_c.
        mutation: p_m.
        encode_batch: Texts that are encoded at once; does not change the result beyond rounding.
    """

    name: ClassVar[str] = "ring_a_bell"
    card: ClassVar[AttackCard] = AttackCard(
        title="Ring-A-Bell, re-optimised",
        paper="Tsai et al.: Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models? "
        "(ICLR 2024)",
        arxiv="2310.10012",
        knowledge="encoder",
        control="random ordinary tokens, as many",
        deviations=(
            "searched for in the attacked model's own text encoder, on hidden_states[-2] inside the chat "
            "template; the paper's is CLIP's",
            "captions are not padded: the target's own rows are resampled to K, template rows stay",
            "survivors are kept as they are and copies of them mutate, so that the error never rises; the "
            "released code mutates survivors too and may lose its best",
            "tokens are whole words (with a space before them), so that the text is encoded as the tokens "
            "that were searched for; texts that can be read as being about minors die unencoded",
            "pairs are the concept's training and anchor prompts",
        ),
        notes=(
            "The text stands in the prompt's place, and goes through guards like any other.",
            "paper preset: one candidate for each K = 16, 38 and 77 (75 free tokens in the release) after "
            "3000 generations; eta 3 is its value for nudity, 5 and 5.5 for violence.",
            "Every prompt is charged the whole direction; captions that were encoded before cost no time.",
            "Composite concepts are skipped: the mean over their members aims at none.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"lengths": (16, 38, 77), "budget": 3, "generations": 3000, "population": 200},
        "miniature": {"lengths": (6,), "generations": 12, "population": 32},
    }

    eta: float = Field(default=3.0, ge=0)
    lengths: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(16, 38), min_length=1)
    generations: int = Field(default=100, ge=1)
    population: int = Field(default=64, ge=4, multiple_of=2)
    crossover: float = Field(default=0.5, ge=0, le=1)
    mutation: float = Field(default=0.25, ge=0, le=1)
    encode_batch: int = Field(default=256, ge=1)

    def supports(self, context: Context) -> str | None:
        """Texts of so many tokens must fit into a prompt, and one direction is for one concept."""
        from zbench.attacks.toolkit.directions import many_concepts
        from zbench.attacks.toolkit.free_text import room

        if several := many_concepts(context.concept):
            return several
        most, longest = room(context.model), max(self.lengths)
        return (
            f"a prompt has room for {most} tokens, not for {longest}: set lengths" if longest > most else None
        )

    def prepare(self, context: Context) -> ConceptDirection:
        """Direction c of the concept, for captions of any length."""
        from zbench.attacks.toolkit.directions import ConceptDirection

        return ConceptDirection.of(context.model, context.concept)

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The best individual of every prompt after every stretch of generations."""
        from zbench.attacks.toolkit.effort import Effort
        from zbench.attacks.toolkit.genetic import advance

        effort = Effort(context.model, len(context.prompts), context.shared.spent)
        effort.encoded(len(context.prompts))
        searches, failed = {}, set[str]()
        for number in range(self.budget):
            length = self.lengths[number % len(self.lengths)]
            with effort.measured():
                if length not in searches:
                    searches[length] = self.searches(context, length)
                effort.encoded(advance(searches[length], self.generations, self.encode_batch))
            generation = (number // len(self.lengths) + 1) * self.generations
            for prompt, search in zip(context.prompts, searches[length], strict=True):
                if prompt.id not in failed:
                    found = self._best(prompt.id, search, generation, effort.spent)
                    failed |= {prompt.id} if found.payload is None else set()
                    yield found

    def _best(self, prompt_id: str, search: Search, generation: int, spent: Spent) -> Candidate:
        from zbench.attacks.candidates import Candidate

        if not len(search.survivors):
            return Candidate.failed(prompt_id, "no text has a finite error", spent)
        label = f"K {search.words.length}, generation {generation}, error {search.errors[0]:.4g}"
        return Candidate(prompt_id, search.text, label, spent)

    def searches(self, context: Context, length: int) -> list[Search]:
        """One search per prompt, for texts of so many tokens, before its first generation."""
        from zbench.attacks.toolkit.free_text import FreeText
        from zbench.attacks.toolkit.genetic import Search

        direction: ConceptDirection = context.shared
        words, rows = FreeText(context, length), length + sum(direction.template)
        captions = context.model.encode([prompt.text for prompt in context.prompts])
        settings = self.model_dump(include={"population", "crossover", "mutation"})
        return [
            Search(
                words,
                direction.aligned(caption, rows) + self.eta * direction.rows(rows),
                context.generator(f"search {length}", prompt.id),
                **settings,
            )
            for prompt, caption in zip(context.prompts, captions, strict=True)
        ]

    def control(self, context: Context) -> Iterator[Candidate]:
        """Random admissible texts of the same lengths."""
        from zbench.attacks.candidates import Candidate
        from zbench.attacks.toolkit.free_text import FreeText

        for prompt in context.prompts:
            source = context.generator("control", prompt.id)
            for number in range(self.budget):
                length = self.lengths[number % len(self.lengths)]
                words = FreeText(context, length)
                yield Candidate(prompt.id, words.text(words.random(1, source)[0]), f"random, K {length}")
