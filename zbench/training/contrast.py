"""What EraseAnything's losses are made of: attention columns as features, and concepts to compare with.

A feature says where on the picture attention to a concept's tokens lies: one number per image row. So
captions and spans of different length give features that can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zbench.concepts import Concept, concept_names, load_concept
from zbench.errors import ConfigurationError
from zbench.phrases import names_phrase
from zbench.training.attention import AttentionColumns, concept_columns
from zbench.training.trajectories import Draw, TrajectoryBank, encode_each, spread

if TYPE_CHECKING:
    from zbench.model import Model


def attention_norm(masses: Mapping[int, Tensor]) -> Tensor:
    """Norm over heads and image queries of the attention to a span, mean over samples and layers.

    The norm is divided by the square root of the number of entries, so that its weight does not depend on
    heads or resolution.

    Args:
        masses: Per layer the probability mass on the span, [B, heads, image rows].
    """
    # Unlike the root of a mean, a norm has a gradient (zero) where a prompt does not name the concept.
    norms = [
        torch.linalg.vector_norm(mass.float(), dim=(1, 2)).mean() / mass[0].numel() ** 0.5
        for mass in masses.values()
    ]
    return torch.stack(norms).mean()


def column_features(masses: Mapping[int, Tensor]) -> Tensor:
    """Attention to a span as one feature vector per sample, mean over layers and heads.

    Args:
        masses: Per layer the probability mass on the span, [B, heads, image rows].

    Returns:
        [B, image rows] float32.
    """
    return torch.stack([mass.float().mean(dim=1) for mass in masses.values()]).mean(dim=0)


def reverse_contrast(live: Tensor, frozen: Tensor, temperature: float) -> Tensor:
    """Reverse self-contrastive loss: away from the synonym's feature, towards the irrelevant ones.

    log( exp(s_0) / sum_{k=0..K} exp(s_k) ) with s_k = cos(live, frozen_k) / temperature; 0 is the synonym.

    Args:
        live: Features of the concept in the model being trained, [B, N].
        frozen: Frozen features of the same concept in other words, then of K others, [1 + K, B, N].
        temperature: Of the softmax.

    Returns:
        Scalar below 0, mean over the batch.
    """
    logits = functional.cosine_similarity(live.unsqueeze(0), frozen.detach(), dim=-1) / temperature
    return torch.log_softmax(logits, dim=0)[0].mean()


def irrelevant_concepts(
    concept: Concept, domain: str, count: int, generator: torch.Generator
) -> list[Concept]:
    """Concepts of the catalogue that have nothing to do with the one to erase, drawn without replacement.

    They are of other families, share no phrase, and are not erased together with it.

    Args:
        concept: What is erased.
        domain: What the model's pictures show.
        count: How many are wanted; fewer come back where the catalogue has no more.
        generator: The only source of randomness.

    Raises:
        ConfigurationError: The catalogue has none for this domain.
    """
    known = (load_concept(name, domain) for name in concept_names(domain))
    fitting = [other for other in known if _irrelevant(concept, other)]
    if not fitting:
        raise ConfigurationError(
            f"No concept of domain {domain!r} is irrelevant to {concept.name!r}: add one to the catalogue."
        )
    order = torch.randperm(len(fitting), generator=generator).tolist()
    return [fitting[index] for index in order[:count]]


def _irrelevant(concept: Concept, other: Concept) -> bool:
    if other.family == concept.family or other.name == concept.name or other.name in concept.members:
        return False
    if other.members or not other.is_named:
        return False
    texts = (*other.phrases, *other.training_prompts)
    return not any(names_phrase(text, phrase) for phrase in concept.phrases for text in texts)


@dataclass(frozen=True)
class Captions:
    """Prompts as a call of the transformer needs them.

    Attributes:
        embeddings: One [L_i, D] per prompt.
        columns: Token indices of the concept, per prompt.
    """

    embeddings: list[Tensor]
    columns: list[list[int]]

    @classmethod
    def of(cls, model: Model, concept: Concept, prompts: Sequence[str]) -> Captions:
        """Encodes prompts and finds the concept's tokens in each."""
        return cls(encode_each(model, prompts), [concept_columns(model, concept, each) for each in prompts])

    def at(self, indices: Sequence[int]) -> Captions:
        """The captions with these indices."""
        return Captions([self.embeddings[i] for i in indices], [self.columns[i] for i in indices])

    def repeat(self, count: int) -> Captions:
        """As many captions as asked for, in turns, out of those that name the concept."""
        named = [index for index, columns in enumerate(self.columns) if columns]
        return self.at([named[index] for index in spread(named, count)])


@dataclass(frozen=True)
class ContrastDraw:
    """A batch of points with the frozen features that the live ones are compared with.

    Attributes:
        points: B points on the concept's trajectories, with its embeddings.
        columns: Token indices of the concept, per sample.
        features: Frozen features at the same points, [1 + K, B, image rows]: of the concept in other words,
            then of K irrelevant concepts.
    """

    points: Draw
    columns: list[list[int]]
    features: Tensor


class ContrastBank:
    """Points on the concept's trajectories where frozen features were computed, once.

    Attributes:
        points: P points.
        features: [1 + K, P, image rows], see `ContrastDraw.features`.
    """

    def __init__(self, bank: TrajectoryBank, captions: Captions, points: Draw, features: Tensor) -> None:
        self._bank, self._captions, self.points, self.features = bank, captions, points, features

    @classmethod
    def compute(
        cls,
        model: Model,
        bank: TrajectoryBank,
        captions: Captions,
        others: Sequence[Concept],
        *,
        count: int,
        batch_size: int,
        generator: torch.Generator,
    ) -> ContrastBank:
        """Draws points and evaluates the frozen model there under 1 + K captions each.

        Args:
            model: No edit attached.
            bank: Trajectories under the concept's prompts.
            captions: The concept's captions, one per trajectory. The next trajectory's caption serves as the
                concept in other words.
            others: K irrelevant concepts; their training prompts take turns.
            count: P.
            batch_size: Samples per call.
            generator: The only source of randomness.
        """
        points = bank.draw(generator, count)
        synonyms = captions.at([(entry + 1) % len(bank) for entry in points.entries.tolist()])
        every = [Captions.of(model, other, other.training_prompts).repeat(count) for other in others]
        features = [frozen_features(model, points, each, batch_size) for each in (synonyms, *every)]
        return cls(bank, captions, points, torch.stack(features))

    def draw(self, generator: torch.Generator, batch: int) -> ContrastDraw:
        """Draws `batch` points, with replacement."""
        chosen = torch.randint(len(self.points.entries), (batch,), generator=generator)
        points = self._bank.at(self.points.entries[chosen], self.points.steps[chosen])
        columns = self._captions.at(points.entries.tolist()).columns
        return ContrastDraw(points, columns, self.features[:, chosen])


@torch.no_grad()
def frozen_features(model: Model, points: Draw, captions: Captions, batch_size: int) -> Tensor:
    """Features of the frozen model at the points of a draw, each under a caption of its own.

    Args:
        model: No edit attached.
        points: P latents and timesteps.
        captions: P captions.
        batch_size: Samples per call.

    Returns:
        [P, image rows] float32.
    """
    parts: list[Tensor] = []
    for part in torch.split(torch.arange(len(points.entries)), batch_size):
        chosen = captions.at(part.tolist())
        with AttentionColumns(model, chosen.columns) as attention:
            model.velocity(points.latents[part], points.timesteps[part], chosen.embeddings)
        parts.append(column_features(attention.masses))
    return torch.cat(parts)
