from hypothesis import given
from hypothesis import strategies as st

from tests.transcription import CONCEPT
from zbench.model import Model
from zbench.training import concept_columns, context_row_pairs, padded
from zbench.training.row_pairs import _aligned

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_paired_rows_hold_the_same_token(
    head: list[int], left: list[int], right: list[int], tail: list[int]
) -> None:
    tokens, others = [*head, *left, *tail], [*head, *right, *tail]
    pairs = _aligned(tokens, others, whole=False)
    rows = [row for row, _ in pairs]
    assert rows == sorted(set(rows)) and set(range(len(head))) <= set(rows)
    for row, guide in pairs:
        assert 0 <= row < padded(len(tokens)) and 0 <= guide < padded(len(others))
        assert (row < len(tokens)) == (guide < len(others)), "padding goes to padding"
        assert row >= len(tokens) or tokens[row] == others[guide]


@given(TOKENS, TOKENS, TOKENS)
def test_whole_prompts_leave_no_token_out(head: list[int], left: list[int], tail: list[int]) -> None:
    tokens, others = [*head, *left, *tail], [*head, *tail]
    pairs = _aligned(tokens, others, whole=True)
    assert set(range(len(tokens))) <= {row for row, _ in pairs}
    assert all(0 <= guide < padded(len(others)) for _, guide in pairs)


def test_the_concepts_own_words_are_left_to_training(tiny_model: Model) -> None:
    for prompt, (rows, guides) in zip(
        CONCEPT.training_prompts, context_row_pairs(tiny_model, CONCEPT), strict=True
    ):
        own = concept_columns(tiny_model, CONCEPT, prompt)
        assert own and rows and not set(own) & set(rows) and len(rows) == len(guides)
    whole = context_row_pairs(tiny_model, CONCEPT, whole=True)
    assert set(concept_columns(tiny_model, CONCEPT, CONCEPT.training_prompts[0])) <= set(whole[0][0])


def test_prompts_that_name_no_phrase_give_no_pairs(tiny_model: Model) -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("naked",)})
    first, second = context_row_pairs(tiny_model, silent)
    assert first == ([], []) and second[0]
