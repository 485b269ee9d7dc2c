import numpy as np
import torch

from tests.transcription import Reference, assert_close
from zbench.model import Model
from zbench.training import Moments, TextInputs, solve_symmetric


def test_text_inputs_are_what_the_projections_multiply(tiny_model: Model) -> None:
    embeddings = tiny_model.encode(["a nude person", "a red car " * 12])
    projected: dict[int, torch.Tensor] = {}
    hooks = [
        layer.attention.to_k.register_forward_hook(
            lambda module, args, output, index=index: projected.update({index: output})
        )
        for index, layer in enumerate(tiny_model.transformer.layers)
    ]
    with TextInputs(tiny_model) as seen, torch.no_grad():
        tiny_model.velocity(tiny_model.noise([1, 2]), torch.tensor([900.0, 300.0]), embeddings)
    for hook in hooks:
        hook.remove()
    start = Reference(tiny_model).text_start
    assert sorted(seen.rows) == sorted(projected)
    for layer, output in projected.items():
        weight = tiny_model.transformer.layers[layer].attention.to_k.weight
        assert_close(seen.rows[layer] @ weight.T, output[:, start:].double(), 1e-5)


def test_only_chosen_layers_are_watched_and_only_inside(tiny_model: Model) -> None:
    inputs = tiny_model.noise([1]), torch.tensor([900.0]), tiny_model.encode(["a house"])
    with TextInputs(tiny_model, [2]) as seen, torch.no_grad():
        tiny_model.velocity(*inputs)
    kept = seen.rows[2]
    with torch.no_grad():
        tiny_model.velocity(*inputs)
    assert list(seen.rows) == [2] and seen.rows[2] is kept


def test_moments_are_sums_of_outer_products() -> None:
    source = np.random.default_rng(0)
    left, right = source.normal(size=(5, 3)), source.normal(size=(5, 3))
    moments = Moments()
    moments.add(4, torch.tensor(left[:2]), torch.tensor(right[:2]))
    moments.add(4, torch.tensor(left[2:]), torch.tensor(right[2:]))
    expected = sum(np.outer(a, b) for a, b in zip(left, right, strict=True)) / 2
    np.testing.assert_allclose(moments.mean(2)[4].numpy(), expected, rtol=1e-12)


def test_solve_stays_exact_where_half_precision_is_singular() -> None:
    row = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    system = 10 * torch.outer(row, row) + 0.1 * torch.eye(64, dtype=torch.float64)
    right = torch.outer(row, row)
    solved = solve_symmetric(system, right)
    torch.testing.assert_close(system @ solved, right, atol=1e-8, rtol=1e-8)
