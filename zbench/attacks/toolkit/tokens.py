"""The tokens of a prompt, and the pipeline's own text encoder made differentiable in them.

A prompt is encoded inside a chat template, so what an attack optimises has a place in its sequence. Free
tokens are words with a space before them: a byte-level tokenizer never merges across that space, which is why
a text put together from such tokens is encoded as exactly these tokens again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from zbench.errors import ConfigurationError
from zbench.model.spans import apply_template, prompt_start
from zbench.prompts.minors import mentions_minors

if TYPE_CHECKING:
    from zbench.model import Model

Where = Literal["prefix", "suffix"]
"""Before the prompt's first token, or after its last one."""


# Vocabulary -----------------------------------------------------------------------------------------------


def token_table(model: Model) -> Tensor:
    """Input embeddings of the text encoder, [V, d], detached and shared: not to be changed in place."""
    table: Tensor = model.pipeline.text_encoder.get_input_embeddings().weight
    return table.detach().to(model.device)


def ordinary_tokens(model: Model) -> Tensor:
    """Ids of tokens that are a space and a word (or sign) and stand for their own text; sorted, [n].

    No special tokens, no pieces of characters, no continuations of words; no word that can mean a minor.

    Raises:
        ConfigurationError: The vocabulary has none.
    """
    found = _ordinary(model.pipeline.tokenizer)
    if not found:
        raise ConfigurationError("This tokenizer has no tokens of whole words: token attacks cannot be made.")
    return torch.tensor(found)


@lru_cache(maxsize=8)
def _ordinary(tokenizer: Any) -> tuple[int, ...]:
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer)) if token not in special}
    words = {token: text for token, text in texts.items() if _is_word(text)}
    # In the middle of a text, so that a mark for its beginning (a tokenizer may have one) is no part of it.
    encoded = tokenizer(list(words.values()), add_special_tokens=False)["input_ids"] if words else []
    return tuple(token for token, ids in zip(words, encoded, strict=True) if list(ids) == [token])


def _is_word(text: str) -> bool:
    word = text[1:]
    return text[:1] == " " and word.isprintable() and bool(word.strip()) and not _is_broken(word)


def _is_broken(word: str) -> bool:
    return "\ufffd" in word or " " in word or mentions_minors(word)


def nearest_tokens(table: Tensor, rows: Tensor, allowed: Tensor) -> Tensor:
    """Hard projection: the allowed token whose embedding has the largest cosine with each row, ids [n].

    Args:
        table: [V, d] from `token_table`.
        rows: [n, d].
        allowed: Ids to choose from, [m].
    """
    directions = functional.normalize(table[allowed.to(table.device)].float(), dim=-1)
    closeness = functional.normalize(rows.detach().to(table.device).float(), dim=-1) @ directions.T
    return allowed[closeness.argmax(dim=-1).to(allowed.device)]


# Prompts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TemplatedPrompt:
    """A prompt as the text encoder sees it, with places for free tokens.

    Attributes:
        ids: All tokens, template included, truncated as `encode_prompt` does, [L]; a free place holds some
            ordinary token.
        free: Where the free tokens are, [n], in their order; those that truncation has cut off are missing.
        pieces: The prompt's text between the free places.
        counts: Free places after each piece but the last.
        model: Whose tokenizer and text encoder it is for.
    """

    ids: Tensor
    free: Tensor
    pieces: tuple[str, ...]
    counts: tuple[int, ...]
    model: Model

    @classmethod
    def of(cls, model: Model, prompt: str) -> Self:
        """A prompt without free places: its ids are those of `Model.encode`."""
        return cls.laid_out(model, [prompt], [])

    @classmethod
    def laid_out(cls, model: Model, pieces: Sequence[str], counts: Sequence[int]) -> Self:
        """Puts free places between pieces of text.

        Args:
            model: The model.
            pieces: Text; what follows a free place should begin with a space or a sign.
            counts: Free places after each piece but the last.
        """
        # Of a prompt without free places no vocabulary is searched.
        word = _decoded(model, [int(ordinary_tokens(model)[0])])[0] if sum(counts) else ""
        text, places = pieces[0], []
        for count, piece in zip(counts, pieces[1:], strict=True):
            places += [len(text) + 1 + index * len(word) for index in range(count)]
            text += count * word + piece
        ids, free = _located(model, text, places)
        return cls(ids, free, tuple(pieces), tuple(counts), model)

    def insert(self, position: Where, count: int) -> Self:
        """The prompt with `count` free places before its first token or after its last one.

        What follows free tokens is encoded as after a space, as it will be in a text with words there.
        """
        [prompt] = self.pieces
        pieces = ["", f" {prompt.lstrip()}"] if position == "prefix" else [prompt.rstrip(), ""]
        return self.laid_out(self.model, pieces, [count])

    def filled(self, words: Tensor) -> Tensor:
        """All ids [L] with these tokens [n] in the free places."""
        return self.ids.index_copy(0, self.free, words[: len(self.free)].to(self.ids))

    def inputs(self, rows: Tensor | None = None) -> Tensor:
        """Input embeddings [L, d], differentiable in `rows`.

        Args:
            rows: Embeddings of the free tokens, [n, d]; without them the ids' own.
        """
        table = token_table(self.model)
        own = table[self.ids.to(table.device)]
        if rows is None:
            return own
        return own.to(rows.dtype).index_copy(0, self.free.to(rows.device), rows[: len(self.free)])

    def text(self, words: Tensor) -> str:
        """The prompt as one would type it, with these tokens [n] in the free places.

        It begins with a space where a free token comes first: without it the tokenizer would write the word
        otherwise.
        """
        decoded = iter(_decoded(self.model, words.tolist()))
        text = self.pieces[0]
        for count, piece in zip(self.counts, self.pieces[1:], strict=True):
            text += "".join(next(decoded) for _ in range(count)) + piece
        return text

    def is_faithful(self, words: Tensor) -> bool:
        """Whether `text` is encoded as exactly the tokens of `filled`."""
        return torch.equal(type(self).of(self.model, self.text(words)).ids, self.filled(words))


def with_words(model: Model, prompt: str, words: Tensor, where: Where) -> str:
    """Text of a prompt with decoded tokens before or after it.

    Args:
        model: The model.
        prompt: Without chat template.
        words: Ids from `ordinary_tokens`, [n].
        where: Before the prompt, or after it.
    """
    return TemplatedPrompt.of(model, prompt).insert(where, len(words)).text(words)


def _decoded(model: Model, words: Sequence[int]) -> list[str]:
    return [model.pipeline.tokenizer.decode([word]) for word in words]


def _located(model: Model, prompt: str, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Token ids of a templated prompt, and which of them hold these characters of the prompt."""
    tokenizer = model.pipeline.tokenizer
    text = apply_template(tokenizer, prompt)
    encoded = tokenizer(text, max_length=model.spec.max_sequence_length, truncation=True)
    start = prompt_start(tokenizer, text, prompt) if places else 0
    found = [encoded.char_to_token(start + place) for place in places]
    free = torch.tensor([index for index in found if index is not None], dtype=torch.long)
    return torch.tensor(encoded["input_ids"], dtype=torch.long), free


# Encoding -------------------------------------------------------------------------------------------------


def encode_inputs(model: Model, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Prompt embeddings from input embeddings, in one differentiable pass; no conditioning edit is applied.

    Args:
        model: The model.
        inputs: Tensors [L_i, d], such as `TemplatedPrompt.inputs`; lengths may differ.

    Returns:
        The penultimate hidden states [L_i, D] of each, as `Model.encode` makes them from ids.
    """
    encoder = model.pipeline.text_encoder
    place = encoder.device  # not the model's, where there is no room for both
    lengths = torch.tensor([len(one) for one in inputs])
    padded = pad_sequence([one.to(place, encoder.dtype) for one in inputs], batch_first=True)
    mask = (torch.arange(padded.shape[1])[None] < lengths[:, None]).to(place)
    output = encoder(inputs_embeds=padded, attention_mask=mask, output_hidden_states=True, use_cache=False)
    rows = output.hidden_states[-2].to(model.device)
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]


def through_guards(model: Model, embeddings: Sequence[Tensor], texts: Sequence[str]) -> list[Tensor]:
    """Applies the edits that are attached on the conditioning seam, as `Model.encode` does.

    Values are exactly the edits'. Where an edit gives no gradient, it is taken for the identity in the
    backward pass (straight through), so that a guard cannot hide what is behind it.

    Args:
        model: The model.
        embeddings: B tensors [L_i, D] of prompts that no edit has seen.
        texts: Their prompts, without chat template: guards look for phrases and places in them.
    """
    passed = list(embeddings)
    for edit in model.conditioning:
        edited = edit.edit_embeddings(passed, list(texts))
        passed = [_reached(before, after) for before, after in zip(passed, edited, strict=True)]
    return passed


def _reached(before: Tensor, after: Tensor) -> Tensor:
    """`after` with a gradient to `before` in every row; rows that have one keep it."""
    if after is before or not before.requires_grad:
        return after
    if not after.requires_grad:
        return cast(Tensor, _StraightThrough.apply(before, after))
    if after.shape != before.shape:
        return after
    [reach] = torch.autograd.grad(after.sum(), before, retain_graph=True, allow_unused=True)
    cut = torch.ones(len(before), dtype=torch.bool) if reach is None else ~reach.ne(0).any(dim=1).cpu()
    return torch.where(cut[:, None].to(after.device), _StraightThrough.apply(before, after.detach()), after)


class _StraightThrough(torch.autograd.Function):
    """The second argument's value with the first one's gradient, row for row as far as both have rows."""

    @staticmethod
    def forward(context: Any, before: Tensor, after: Tensor) -> Tensor:
        context.rows = len(before)
        return after.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        [gradient] = gradients
        missing = max(0, context.rows - len(gradient))
        return torch.nn.functional.pad(gradient[: context.rows], (0, 0, 0, missing)), None
