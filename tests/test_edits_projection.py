"""Projection of trigger tokens: what is touched, how, and what stays bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zbench.edits import ProjectionEdit, load_edit
from zbench.edits.projection import Affected, distances, prompt_rows
from zbench.errors import ConfigurationError, WeightsError
from zbench.model import Model

LOUD = "a nude person on a beach"
QUIET = "a red car beside a house"


def orthonormal(width: int, rank: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(width, rank, generator=torch.Generator().manual_seed(seed)).double()
    return torch.linalg.qr(drawn)[0]


def edit_for(model: Model, tokens: Affected = "triggers") -> ProjectionEdit:
    """Concept: directions near those of "nude" in LOUD, but not within the span of LOUD's own tokens."""
    mean = model.encode([QUIET])[0].double().mean(0)
    start, end = model.token_span(LOUD, "nude")[0]
    exact = torch.linalg.qr((model.encode([LOUD])[0][start:end].double() - mean).T)[0]
    basis = torch.linalg.qr(exact + 0.3 * orthonormal(len(mean), exact.shape[1]))[0]
    return ProjectionEdit(basis, mean, alpha=0.01, tau=0.4, tokens=tokens)


def numpy_projection(
    edit: ProjectionEdit, rows: np.ndarray, chosen: Sequence[int], own: np.ndarray
) -> np.ndarray:
    """e' = m + P (I - C C^T)(e - m) by pseudo-inverses."""
    mean, basis = edit.mean.double().numpy(), edit.basis.double().numpy()
    away = np.eye(len(mean)) - basis @ basis.T
    span = (own - mean).T
    return mean + (rows[chosen] - mean) @ away @ (span @ np.linalg.pinv(span)).T


@pytest.mark.parametrize("tokens", ["triggers", "onward"])
def test_triggers_are_projected_within_the_prompts_own_span(tiny_model: Model, tokens: Affected) -> None:
    edit, before = edit_for(tiny_model, tokens), tiny_model.encode([LOUD, QUIET])
    span = range(*tiny_model.token_span(LOUD, "nude")[0])
    with tiny_model.edited(edit):
        loud, quiet = tiny_model.encode([LOUD, QUIET])
    assert quiet is before[1], "an unrelated prompt is passed on as it came"
    rows = before[0].double().numpy()
    own = prompt_rows(tiny_model, LOUD)
    chosen = list(span) if tokens == "triggers" else list(range(span.start, len(rows)))
    basis = rows if tokens == "onward" else rows[own.start : own.stop]
    expected = numpy_projection(edit, rows, chosen, basis)
    np.testing.assert_allclose(loud[chosen].double().numpy(), expected, atol=1e-5)
    rest = [row for row in range(len(rows)) if row not in chosen]
    assert torch.equal(loud[rest], before[0][rest]), "template and other tokens stay bit for bit"
    assert not torch.allclose(loud[chosen], before[0][chosen], atol=1e-3)
    assert all(a is b for a, b in zip(tiny_model.encode([LOUD, QUIET]), before, strict=True))


def test_template_rows_are_never_a_prompts_own(tiny_model: Model) -> None:
    for prompt in (LOUD, "user", "assistant", "一个裸体的人", "x" * 400):
        rows, caption = prompt_rows(tiny_model, prompt), tiny_model.encode([prompt])[0]
        start = prompt_rows(tiny_model, "a").start
        assert rows.start == start and rows.start < rows.stop <= len(caption)
        assert len(caption) == 96 or rows.stop < len(caption), "the template closes the prompt"
    assert not prompt_rows(tiny_model, "") and not prompt_rows(tiny_model, "  ")


def test_empty_and_one_word_prompts(tiny_model: Model) -> None:
    edit = edit_for(tiny_model)
    before = tiny_model.encode(["", " "])
    with tiny_model.edited(edit):
        assert all(a is b for a, b in zip(tiny_model.encode(["", " "]), before, strict=True))
    inside = edit.mean + 3 * edit.basis[:, 0]
    assert edit.triggers(inside[None]) == [0], "a prompt of one token is judged by its distance alone"


def test_loads_what_it_saved_and_detaches_exactly(tiny_model: Model, tmp_path: Path) -> None:
    edit, picture = edit_for(tiny_model), tiny_model.generate([LOUD, QUIET], [1, 2], steps=2)
    edit.save(tmp_path / "edit", tiny_model)
    loaded = load_edit(tmp_path / "edit")
    assert isinstance(loaded, ProjectionEdit) and loaded.describe() == edit.describe()
    with tiny_model.edited(edit):
        expected = tiny_model.encode([LOUD])[0]
    with tiny_model.edited(loaded):
        assert torch.equal(tiny_model.encode([LOUD])[0], expected)
        edited = tiny_model.generate([LOUD, QUIET], [1, 2], steps=2)
    assert not torch.equal(edited[0], picture[0]) and torch.equal(edited[1], picture[1])
    assert torch.equal(tiny_model.generate([LOUD, QUIET], [1, 2], steps=2), picture)


def test_half_precision_captions_keep_type_and_other_rows(tiny_model: Model) -> None:
    edit = edit_for(tiny_model)
    caption = tiny_model.encode([LOUD])[0].bfloat16()
    with tiny_model.edited(edit):
        edited = edit.edit_embeddings([caption], [LOUD])[0]
    assert edited.dtype == torch.bfloat16 and edited.shape == caption.shape
    changed = (edited != caption).any(1).nonzero().flatten().tolist()
    assert changed == list(range(*tiny_model.token_span(LOUD, "nude")[0]))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 9), rank=st.integers(1, 4))
def test_distances_are_sines_and_triggers_follow_the_two_tests(seed: int, tokens: int, rank: int) -> None:
    source = torch.Generator().manual_seed(seed)
    basis, mean = orthonormal(12, rank, seed), torch.randn(12, generator=source)
    edit = ProjectionEdit(basis, mean, alpha=0.05, tau=0.8)
    rows = torch.randn(tokens, 12, generator=source)
    s = distances(rows.double() - edit.mean.double(), edit.basis)
    projector = edit.basis.double() @ edit.basis.double().T
    for row, found in zip(rows.double() - edit.mean.double(), s, strict=True):
        assert float(found) == pytest.approx(float((row - projector @ row).norm() / row.norm()), abs=1e-6)
    expected = []
    for i in range(tokens):
        others = [float(value) for j, value in enumerate(s) if j != i]
        if not others:
            expected += [i] * (float(s[i]) < 0.8)
            continue
        without = [(float(s.sum()) - float(s[j])) / (tokens - 1) for j in range(tokens)]
        rest = [without[j] for j in range(tokens) if j != i]
        far = bool(np.mean(others) > 1.05 * np.mean(rest))
        expected += [i] * (far and float(s[i]) < 0.8)
    assert edit.triggers(rows) == expected


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_what_is_projected_holds_less_of_the_concept(seed: int, scale: float) -> None:
    source = torch.Generator().manual_seed(seed)
    edit = ProjectionEdit(orthonormal(16, 2, seed), torch.zeros(16), alpha=0.0, tau=0.7)
    rows = scale * torch.randn(6, 16, generator=source)
    rows[2] = scale * (edit.basis[:, 0] + 0.05 * rows[0] / rows[0].norm())
    edited = edit._projected(rows, range(1, 5))
    found = [row for row in range(6) if not torch.equal(edited[row], rows[row])]
    assert 2 in found and not {0, 5} & set(found), "rows outside the prompt stay"
    for row in found:
        assert (edited[row] @ edit.basis).norm() < (rows[row] @ edit.basis).norm()


def test_what_is_no_subspace_is_refused(tiny_model: Model) -> None:
    mean = torch.zeros(6)
    for basis, centre in ((torch.ones(6, 2), mean), (torch.eye(6), torch.zeros(5)), (torch.ones(6), mean)):
        with pytest.raises(ConfigurationError):
            ProjectionEdit(basis, centre, 0.01, 0.5)
    for alpha, tau in ((-0.1, 0.5), (0.1, 1.5)):
        with pytest.raises(ConfigurationError, match="out of range"):
            ProjectionEdit(torch.eye(6)[:, :1], mean, alpha, tau)
    with pytest.raises(WeightsError, match="another model"):
        ProjectionEdit(torch.eye(6)[:, :1], mean, 0.01, 0.5).attach(tiny_model)
